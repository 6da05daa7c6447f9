"""What a replica knows of its own load: what is in flight, what waits for its first token, and how late that comes."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil

from prometheus_client import REGISTRY, CollectorRegistry

from deployments.expert_call import ExpertEvent, Finished, TextDelta

# First tokens are judged over this long, so that a spike's are forgotten once it is over.
RECENT_S = 30.0
RECENT_TOKENS = 256
LATE_QUANTILE = 0.9
# Weight of the newest answer in the mean time of one: the last twenty or so count.
NEWEST = 0.1
TTFT = "ttft_s."
_KV_USE = "vllm:kv_cache_usage_perc"
_WAITING = "vllm:num_requests_waiting"


@dataclass(eq=False, slots=True)
class Visit:
    """One request at the replica."""

    domain: str
    began_at: float
    first_at: float | None = None


class ReplicaLoad:
    """Counts of one replica; its event loop owns them. `engine_registry` is where vLLM counts in this process."""

    def __init__(self, engine_registry: CollectorRegistry = REGISTRY) -> None:
        self._engine_registry = engine_registry
        self._visits: set[Visit] = set()
        self._arrived = 0
        self._first_tokens: dict[str, deque[tuple[float, float]]] = {}
        self._answer_s: float | None = None
        self._prompt_tokens: float | None = None

    @contextmanager
    def hold(self, domain: str, streams: bool = True) -> Iterator[Visit]:
        """Count a request as in flight for the body of the `with`; one that does not stream has no first token."""
        now = time.monotonic()
        visit = Visit(domain, now, None if streams else now)
        self._arrived += 1
        self._visits.add(visit)
        try:
            yield visit
        finally:
            self._visits.discard(visit)

    def note(self, visit: Visit, event: ExpertEvent) -> None:
        """Take notice of an event of a request's answer."""
        if isinstance(event, TextDelta | Finished):
            self.note_text(visit)
        if isinstance(event, Finished):
            self.note_end(visit, event.usage.prompt_tokens)

    def note_text(self, visit: Visit) -> None:
        """Take notice of a piece of a request's answer."""
        if visit.first_at is None:
            visit.first_at = time.monotonic()
            times = self._first_tokens.setdefault(visit.domain, deque(maxlen=RECENT_TOKENS))
            times.append((visit.first_at, visit.first_at - visit.began_at))

    def note_end(self, visit: Visit, prompt_tokens: int) -> None:
        """Take a complete answer into the means; its wait for the first token is left out of its time."""
        seconds = time.monotonic() - (visit.first_at or visit.began_at)
        self._answer_s = _blend(self._answer_s, seconds)
        if prompt_tokens:
            self._prompt_tokens = _blend(self._prompt_tokens, prompt_tokens)

    def record(self) -> dict[str, float]:
        """The figures as Ray Serve carries them to the policy: numbers by name."""
        now = time.monotonic()
        waiting = [visit for visit in self._visits if visit.first_at is None]
        engine = self._read_engine()
        figures = {
            "arrived": float(self._arrived),
            "in_flight": float(len(self._visits)),
            "waiting": float(len(waiting)),
            # The engine has not counted prompts that wait; they are taken to be as long as those before.
            "waiting_tokens": engine.get(_WAITING, 0.0) * (self._prompt_tokens or 0.0),
            "kv_use": engine.get(_KV_USE, 0.0),
            "answer_s": self._answer_s or 0.0,
        }
        for domain in {*self._first_tokens, *(visit.domain for visit in waiting)}:
            # Who still waits has waited that long at least: a queue shows before its first answer comes.
            times = [now - visit.began_at for visit in waiting if visit.domain == domain]
            times += [seconds for at, seconds in self._first_tokens.get(domain, ()) if now - at <= RECENT_S]
            figures[TTFT + domain] = sorted(times)[ceil(LATE_QUANTILE * len(times)) - 1] if times else 0.0
        return figures

    def _read_engine(self) -> dict[str, float]:
        families = self._engine_registry.restricted_registry([_KV_USE, _WAITING]).collect()
        return {sample.name: sample.value for family in families for sample in family.samples}


def _blend(before: float | None, newest: float) -> float:
    return newest if before is None else before + NEWEST * (newest - before)

"""An engine's turn to start or to wake on its node: after those before it, and once the memory for it is free."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cluster.admission import StartNeed, admit_start
from deployments.cluster_notes import leave_note, read_notes, remove_note
from deployments.logs import log_event
from deployments.node_memory import observe_free
from deployments.start_queue import Act, StartQueue, Ticket
from experts.errors import Unavailable

# Below the hour after which Ray's LLMServer gives a start up, so that the message is this one.
TURN_TIMEOUT_S = 3300.0
# A replica that is replaced first answers what it has, for as long as an answer may take: 120 s by default.
MEMORY_TIMEOUT_S = 300.0
MEMORY_POLL_S = 1.0
REPEAT_S = 5.0
# A note that is not repeated is of a process that died.
STALE_S = 3 * REPEAT_S


@dataclass(slots=True)
class WaitingNote:
    """Tells the cluster what an engine waits for, now and every few seconds; `guildhall up` shows it."""

    engine: str
    said: str = ""
    said_at: float = float("-inf")

    def say(self, text: str) -> None:
        now = time.monotonic()
        if text != self.said:
            log_event("engine_waits", logging.INFO, engine=self.engine, waits=text)
        elif now - self.said_at < REPEAT_S:
            return
        self.said, self.said_at = text, now
        leave_note("waits", self.engine, text, author=str(os.getpid()))

    def clear(self) -> None:
        if self.said:
            self.said = ""
            remove_note("waits", self.engine, author=str(os.getpid()))


@dataclass(frozen=True, slots=True)
class EngineTurn:
    """How one replica's engine gets its turn; None as `need` starts without asking for free memory."""

    engine: str
    queue: StartQueue
    need: StartNeed | None
    observe_free: Callable[[str], Sequence[int]] = observe_free
    memory_timeout_s: float = MEMORY_TIMEOUT_S

    @contextmanager
    def hold(self, act: Act) -> Iterator[None]:
        """Have the turn for the body of the `with`; blocks its thread.

        An engine without room goes to the end of the queue, so that it holds up nobody who has some. Raises Unavailable
        when the turn or the memory does not come.
        """
        note = WaitingNote(self.engine)
        deadline = time.monotonic() + TURN_TIMEOUT_S
        short_since: float | None = None

        def observe(ahead: tuple[Ticket, ...]) -> None:
            if ahead and short_since is None:
                note.say(describe_wait(ahead))

        try:
            while True:
                with self.queue.hold(self.engine, act, deadline, observe):
                    short = self._find_shortage()
                    if short is None:
                        note.clear()
                        yield
                        return
                now = time.monotonic()
                short_since = short_since or now
                if now - short_since > self.memory_timeout_s:
                    raise Unavailable(
                        f"engine '{self.engine}' cannot {act}: it {short}, also after {self.memory_timeout_s:g} s; "
                        "lower its kv_cache_gib or gpus, let another expert sleep, or give the node more memory"
                    )
                note.say(f"waits for memory on its node: {short}")
                time.sleep(MEMORY_POLL_S)
        finally:
            note.clear()

    def _find_shortage(self) -> str | None:
        if self.need is None:
            return None
        admission = admit_start(self.need, self.observe_free(self.need.device))
        return None if admission.admitted else admission.reason


def describe_wait(ahead: tuple[Ticket, ...]) -> str:
    """Who an engine waits for, the one that has its turn first."""
    more = f"; {len(ahead) - 1} more before it" if len(ahead) > 1 else ""
    return f"waits for {ahead[0]} on the same node{more}"


def read_waits() -> dict[str, str]:
    """What engines of the cluster wait for at present, by engine."""
    now = time.time()
    return {note.about: str(note.body) for note in read_notes("waits") if now - note.at < STALE_S}

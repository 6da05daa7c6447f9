"""A simulated replica: vLLM's continuous batching, with steps that are jumped over while its batch stays the same.

As vLLM 0.29 schedules: running sequences first, one token each; then prompts in order of arrival, in chunks, while the
step has tokens left, a sequence slot is free and the KV cache has room for the whole prompt; when running sequences
outgrow the KV cache, the latest gives up its blocks and is computed again. Prefix caching is not simulated.
"""

from collections import deque
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from cluster.simulation_requests import Arrival
from cluster.step_times import StepTimes


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """What a replica has: `kv_tokens` in blocks of `block_tokens`, and a step's limits."""

    engine: str
    kv_tokens: int
    block_tokens: int
    max_num_seqs: int
    step_tokens: int
    max_model_len: int


@dataclass(slots=True)
class SimulatedRequest:
    """One request on its way; times are None until they are known."""

    number: int
    arrival: Arrival
    first_token_at: float | None = None
    begun_at: float = 0.0
    ended_at: float | None = None
    refused: bool = False
    preempted: int = 0
    # Tokens whose keys and values the KV cache has, and those that it must have before the next token comes.
    computed: int = 0
    needed: int = 0
    generated: int = 0
    # The replica's count of decode steps at which the answer is complete.
    ends_at_step: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """One replica as a sharing decision sees it, between two steps; all KV in tokens of whole blocks."""

    waiting: int
    running: int
    prefill_tokens: int
    oldest_at_s: float | None
    kv_used: int
    # What the running ones will hold at their ends, and with them those that wait and would find a place.
    kv_at_ends: int
    kv_wanted: int
    # Of a request at its end, on average; 0 before the first has ended.
    kv_of_request: int
    hold_s: float
    stepped_at_s: float


@dataclass(frozen=True, slots=True)
class Grant:
    """What a replica may use in its next steps: KV cache in tokens, tokens of one step, whether it may take new
    requests, and its turn where the cores of its node are short (lowest first)."""

    kv_tokens: int
    step_tokens: int
    admit: bool = True
    turn: int = 0


@dataclass(slots=True)
class SimulatedReplica:
    """One replica's queue and batch; `plan_stride` says how long nothing changes, `take_steps` moves on."""

    settings: ReplicaSettings
    times: StepTimes
    grant: Grant = field(init=False)
    waiting: deque[SimulatedRequest] = field(default_factory=deque)
    # Prompts under way, oldest first; at most the first is in part computed.
    prefilling: list[SimulatedRequest] = field(default_factory=list)
    decoding: list[tuple[int, int, SimulatedRequest]] = field(default_factory=list)
    steps_done: int = 0
    tokens_held: int = 0
    decode_tokens: int = 0
    busy_s: float = 0.0
    stepped_at_s: float = 0.0
    # How long requests hold their blocks: a mean that forgets, a tenth with each.
    hold_s: float = 0.0
    _kv_of_request: float = 0.0
    _chunks: list[tuple[SimulatedRequest, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.grant = Grant(self.settings.kv_tokens, self.settings.step_tokens)

    @property
    def in_flight(self) -> int:
        return len(self.waiting) + len(self.prefilling) + len(self.decoding)

    @property
    def kv_tokens_used(self) -> int:
        """Of whole blocks: each sequence leaves half a block empty on average."""
        return self.tokens_held + (len(self.prefilling) + len(self.decoding)) * (self.settings.block_tokens // 2)

    def observe_load(self) -> Load:
        running = [*self.prefilling, *(request for _, _, request in self.decoding)]
        places = max(0, self.settings.max_num_seqs - len(running))
        at_ends = sum(self._measure_end(request) for request in running)
        queued = list(self.waiting)
        prefill = sum(request.needed for request in queued)
        prefill += sum(request.needed - request.computed for request in self.prefilling)
        oldest = [*self.prefilling[:1], *queued[:1]]
        return Load(
            len(queued),
            len(running),
            prefill,
            min((request.arrival.at_s for request in oldest), default=None),
            self.kv_tokens_used,
            at_ends,
            at_ends + sum(self._measure_end(request) for request in queued[:places]),
            round(self._kv_of_request),
            self.hold_s,
            self.stepped_at_s,
        )

    def _measure_end(self, request: SimulatedRequest) -> int:
        """Tokens of the blocks that a request holds at its end."""
        block = self.settings.block_tokens
        return -(-(request.arrival.prompt_tokens + request.arrival.output_tokens) // block) * block

    def accept(self, request: SimulatedRequest) -> bool:
        """Queue a request; False where it can never run here."""
        arrival = request.arrival
        longest = arrival.prompt_tokens + arrival.output_tokens
        if longest > min(self.settings.max_model_len, self.settings.kv_tokens - self.settings.block_tokens // 2):
            return False
        request.needed = arrival.prompt_tokens
        self.waiting.append(request)
        return True

    def admits(self) -> bool:
        """Whether the next waiting request would get into the batch now."""
        running = len(self.prefilling) + len(self.decoding)
        if not self.waiting or running >= self.settings.max_num_seqs or not self.grant.admit:
            return False
        room = self.grant.kv_tokens - self.kv_tokens_used - self.settings.block_tokens // 2
        return self.waiting[0].needed <= room or not running

    def plan_stride(self, now: float) -> tuple[int, float]:
        """Steps until the batch changes, and seconds of each; 0 steps where there is nothing to do."""
        while len(self.decoding) > 1 and self.kv_tokens_used + len(self.decoding) > self.grant.kv_tokens:
            self._preempt()
        budget = self.grant.step_tokens - len(self.decoding)
        self._chunks = []
        for request in self.prefilling:
            budget = self._add_chunk(request, budget)
        while budget > 0 and self.admits():
            request = self.waiting.popleft()
            self.prefilling.append(request)
            request.begun_at = now
            self.tokens_held += request.needed
            budget = self._add_chunk(request, budget)
        batch = len(self.decoding)
        tokens = sum(count for _, count in self._chunks)
        if tokens:
            return 1, self.times.measure_step(batch, self.decode_tokens / batch if batch else 0.0, tokens)
        if not batch:
            return 0, 0.0
        steps = self.decoding[0][0] - self.steps_done
        if batch > 1:
            steps = min(steps, max(1, (self.grant.kv_tokens - self.kv_tokens_used) // batch))
        return steps, self.times.measure_decode(batch, self.decode_tokens / batch + steps / 2)

    def take_steps(self, steps: int, now: float) -> list[SimulatedRequest]:
        """Do the planned steps, or the first of them; gives what ended at `now`."""
        ended: list[SimulatedRequest] = []
        grown = steps * len(self.decoding)
        self.stepped_at_s = now
        self.steps_done += steps
        self.tokens_held += grown
        self.decode_tokens += grown
        while self.decoding and self.decoding[0][0] <= self.steps_done:
            request = heappop(self.decoding)[2]
            length = request.needed + request.arrival.output_tokens - request.generated
            self.tokens_held -= length
            self.decode_tokens -= length
            self._end(request, now, ended)
        for request, tokens in self._chunks:
            request.computed += tokens
            if request.computed == request.needed:
                self.prefilling.remove(request)
                self._begin_decoding(request, now, ended)
        self._chunks = []
        return ended

    def _add_chunk(self, request: SimulatedRequest, budget: int) -> int:
        tokens = min(request.needed - request.computed, budget)
        if tokens > 0:
            self._chunks.append((request, tokens))
        return budget - max(0, tokens)

    def _begin_decoding(self, request: SimulatedRequest, now: float, ended: list[SimulatedRequest]) -> None:
        """The step that computed the last of a prompt also gave a token."""
        request.generated += 1
        if request.first_token_at is None:
            request.first_token_at = now
        left = request.arrival.output_tokens - request.generated
        if left == 0:
            self.tokens_held -= request.needed
            self._end(request, now, ended)
            return
        request.ends_at_step = self.steps_done + left
        self.decode_tokens += request.needed
        heappush(self.decoding, (request.ends_at_step, request.number, request))

    def _end(self, request: SimulatedRequest, now: float, ended: list[SimulatedRequest]) -> None:
        request.ended_at = now
        self.hold_s = _update_mean(self.hold_s, now - request.begun_at)
        self._kv_of_request = _update_mean(self._kv_of_request, self._measure_end(request))
        ended.append(request)

    def _preempt(self) -> None:
        """The latest running sequence waits again, with its prompt and what it has generated to compute."""
        entry = max(self.decoding, key=lambda one: one[1])
        self.decoding.remove(entry)
        heapify(self.decoding)
        request = entry[2]
        left = request.ends_at_step - self.steps_done
        fresh = request.arrival.output_tokens - left - request.generated
        length = request.needed + fresh
        self.tokens_held -= length
        self.decode_tokens -= length
        request.generated += fresh
        request.needed = request.arrival.prompt_tokens + request.generated
        request.computed = 0
        request.preempted += 1
        self.waiting.appendleft(request)


def _update_mean(mean: float, value: float) -> float:
    return 0.9 * mean + 0.1 * value if mean else value

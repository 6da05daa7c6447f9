"""What the engines of a node tell each other: the records that the ledger holds and that quotas are set from.

All memory is in bytes, so that experts of different architectures, head sizes and block sizes count alike. All times
are seconds of the machine's monotonic clock, which every process of a node shares.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """One engine on one device, as its row of the ledger says; an engine split over GPUs has one for each."""

    engine: str
    claim: int
    """Unique on its node, rising with every start: a restarted engine has a new one."""
    device: str
    """`cpu`, or the GPU."""
    running: int
    waiting: int
    prefill_tokens: int
    """Prompt tokens that are not computed yet."""
    oldest_at: float | None
    """Arrival of the oldest request that waits."""
    used_bytes: int
    """KV blocks that requests hold."""
    running_bytes: int
    """KV blocks that the running requests hold if each runs to its longest end."""
    wanted_bytes: int
    """The same with those that wait and would find a place among `max_num_seqs`."""
    quota_bytes: int
    """Quota in force: the engine never uses more."""
    pool_bytes: int
    """KV pool of the engine: the most that a quota can be."""
    block_bytes: int
    sequence_bytes: int
    """One sequence of full length: with less an engine might not finish a request."""
    request_bytes: int
    """What a request holds at its end, a running mean; at first a sequence of full length."""
    hold_s: float
    """How long a request holds its blocks."""
    step_s: float
    token_s: float
    """Seconds per token of a prefill; 0 before the first."""
    stepped_at: float
    """End of the last step, or the start of the engine."""
    step_tokens: int
    """Tokens of the last step."""
    max_tokens: int
    """Tokens that a step may have at most."""
    threads: int
    """Cores that a step uses."""
    ttft_s: float
    tpot_s: float

    @property
    def least_bytes(self) -> int:
        """With less than this its longest request could never run."""
        return min(self.sequence_bytes, self.pool_bytes)

    @property
    def active(self) -> bool:
        """Whether it has any request."""
        return self.running + self.waiting > 0


@dataclass(frozen=True, slots=True)
class DeviceLoad:
    """The living engines of one device, in the order of their claims."""

    device: str
    kv_bytes: int | None
    """KV memory that the engines share; None: each has its own pool and lends nothing."""
    cores: int
    """Cores for steps at the same time; on a GPU, where engines step side by side, as many as there are engines."""
    engines: tuple[EngineLoad, ...]

    def find(self, claim: int) -> EngineLoad:
        """The engine of a claim; KeyError where it has no living row."""
        for engine in self.engines:
            if engine.claim == claim:
                return engine
        raise KeyError(claim)

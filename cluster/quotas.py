"""Who may use how much of a device: `set_quotas`, computed alike by every engine from the ledger's snapshot.

Every engine has a share of the KV memory, equal as far as pools and sequences allow. What it does not want now is lent
to those that want more than their share, except its floor: the part of its share that could not come back within its
TTFT. A loan ends as soon as its owner wants it; the borrower then takes no new requests until those that run have
given back enough. After MuxServe's quotas (arXiv 2404.02015, section 3.3), with floors, and without a coordinator.
"""

from dataclasses import dataclass
from typing import Literal

from cluster.core_slots import SLOTS_PER_CORE
from cluster.node_load import DeviceLoad, EngineLoad

Why = Literal["own pool", "share", "lends", "borrows", "short"]

# A step of another engine may delay a decode by half of what its SLO allows between two tokens.
_STEP_PART_OF_TPOT = 0.5
# Of its TTFT an owner waits this part for requests of borrowers to end; the rest is for its prefill and its queue.
_WAIT_PART_OF_TTFT = 0.1
# A prefill of fewer tokens reads all weights for little work.
_LEAST_PREFILL_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Loan:
    """KV memory that one engine leaves to another."""

    lender: int | None
    """Claims; None: memory that no engine's share holds."""
    borrower: int
    kv_bytes: int


@dataclass(frozen=True, slots=True)
class Quota:
    """What one engine may use, and why."""

    engine: str
    claim: int
    kv_bytes: int
    """Ceiling of its KV blocks, a multiple of its block."""
    share_bytes: int
    floor_bytes: int
    """Never lent."""
    tokens_per_step: int
    cores_per_step: int
    """What a step with enough work may use."""
    turn: int
    """Place in the order in which engines step where cores are short; 0 is first."""
    why: Why
    loans: tuple[Loan, ...]
    """What it lends or borrows."""


@dataclass(frozen=True, slots=True)
class Quotas:
    """The quotas of one device, in the order of the claims."""

    device: str
    kv_bytes: int | None
    quotas: tuple[Quota, ...]

    def find(self, claim: int) -> Quota:
        """The quota of a claim; KeyError where it has none."""
        for quota in self.quotas:
            if quota.claim == claim:
                return quota
        raise KeyError(claim)


@dataclass(frozen=True, slots=True)
class Settled:
    """What an engine may use at once, on the way to its quota."""

    kv_bytes: int
    admit: bool
    """Whether it may take new requests: not while it holds what it owes."""


def set_quotas(load: DeviceLoad) -> Quotas:
    """Quotas of all engines of a device.

    Their sum is never above `load.kv_bytes`, and none is below its floor, as long as one sequence of each engine fits
    (`find_shortage`); where not even that fits, each has its part of what there is.
    """
    engines = load.engines
    turns = _order_turns(engines)
    cores = _part_cores(load)
    tokens = _limit_tokens(load, cores)
    if load.kv_bytes is None:
        return Quotas(
            load.device,
            None,
            tuple(
                Quota(
                    e.engine,
                    e.claim,
                    e.pool_bytes,
                    e.pool_bytes,
                    e.pool_bytes,
                    tokens[i],
                    cores[i],
                    turns[i],
                    "own pool",
                    (),
                )
                for i, e in enumerate(engines)
            ),
        )
    shares = [
        share // e.block_bytes * e.block_bytes
        for share, e in zip(
            _fill([e.least_bytes for e in engines], [e.pool_bytes for e in engines], load.kv_bytes),
            engines,
            strict=True,
        )
    ]
    floors = _set_floors(engines, shares)
    idle = [
        share - min(max(e.wanted_bytes, floor), share) for e, share, floor in zip(engines, shares, floors, strict=True)
    ]
    needs = [max(0, min(e.wanted_bytes, e.pool_bytes) - share) for e, share in zip(engines, shares, strict=True)]
    unshared = load.kv_bytes - sum(shares)
    borrowed = [
        amount // e.block_bytes * e.block_bytes
        for amount, e in zip(_fill([0] * len(engines), needs, unshared + sum(idle)), engines, strict=True)
    ]
    given = _take_in_proportion(idle, max(0, sum(borrowed) - unshared))
    loans = _match_loans(engines, given, borrowed)
    quotas = []
    for i, engine in enumerate(engines):
        kv_bytes = (shares[i] - given[i] + borrowed[i]) // engine.block_bytes * engine.block_bytes
        why: Why = "borrows" if borrowed[i] else "lends" if given[i] else "share"
        if shares[i] < engine.least_bytes:
            why = "short"
        own = tuple(loan for loan in loans if engine.claim in (loan.lender, loan.borrower))
        quotas.append(
            Quota(
                engine.engine,
                engine.claim,
                kv_bytes,
                shares[i],
                floors[i],
                tokens[i],
                cores[i],
                turns[i],
                why,
                own,
            )
        )
    return Quotas(load.device, load.kv_bytes, tuple(quotas))


def settle_quota(load: DeviceLoad, target: Quota) -> Settled:
    """The quota that an engine may have in force now.

    It is lowered at once, but not below what its running requests hold at their longest end, unless an owner has
    waited for a tenth of its TTFT: then not below what they hold now, and vLLM may preempt. It is raised only into
    what no engine holds. The caller makes sure that nobody else raises at the same time; then the sum of the quotas in
    force never passes the memory.
    """
    own = load.find(target.claim)
    if load.kv_bytes is None:
        return Settled(target.kv_bytes, admit=True)
    if target.kv_bytes >= own.quota_bytes:
        others = sum(max(e.quota_bytes, e.used_bytes) for e in load.engines if e.claim != own.claim)
        room = max(own.quota_bytes, load.kv_bytes - others)
        return Settled(min(target.kv_bytes, room // own.block_bytes * own.block_bytes), admit=True)
    held = own.used_bytes if _somebody_waits_long(load, own) else max(own.used_bytes, own.running_bytes)
    kept = max(target.kv_bytes, min(own.quota_bytes, held))
    return Settled(kept, admit=kept == target.kv_bytes)


def find_shortage(load: DeviceLoad) -> int:
    """Bytes that are missing for one sequence of full length in every engine; 0 where all fit."""
    if load.kv_bytes is None:
        return 0
    return max(0, sum(e.least_bytes for e in load.engines) - load.kv_bytes)


def _fill(least: list[int], most: list[int], total: int) -> list[int]:
    """Amounts between `least` and `most`, as equal as these allow, that together are `total` or all of `most`.

    Where `total` is below the sum of `least`, each gets its part of `total`.
    """
    if sum(most) <= total:
        return most
    needed = sum(least)
    if needed > total:
        return [amount * total // needed for amount in least]
    # The level at which the sum of the clamped amounts is `total`; the sum is piecewise linear in it.
    level, filled, rising = 0, needed, 0
    edges = sorted([(amount, 1) for amount in least] + [(amount, -1) for amount in most])
    for edge, change in edges:
        if filled + rising * (edge - level) >= total:
            break
        filled += rising * (edge - level)
        level, rising = edge, rising + change
    level += (total - filled) // max(rising, 1)
    return [min(max(level, low), high) for low, high in zip(least, most, strict=True)]


def _set_floors(engines: tuple[EngineLoad, ...], shares: list[int]) -> list[int]:
    """Of each share what is never lent: one request, and what the slowest borrower could not return within the TTFT.

    A borrower with B running requests returns the first blocks after a B-th of the time that a request holds them.
    """
    returns = [e.hold_s / max(e.running, 1) for e in engines]
    floors = []
    for i, engine in enumerate(engines):
        slowest = max((s for j, s in enumerate(returns) if j != i), default=0.0)
        part = int(shares[i] * min(1.0, slowest / engine.ttft_s)) // engine.block_bytes * engine.block_bytes
        floors.append(min(shares[i], max(min(engine.request_bytes, engine.least_bytes), part)))
    return floors


def _take_in_proportion(idle: list[int], total: int) -> list[int]:
    """Parts of `total`, in proportion to `idle` and none above its own; `total` is at most the sum of `idle`."""
    whole, passed, taken = sum(idle), 0, 0
    parts = []
    for amount in idle:
        passed += amount
        until = passed * total // whole if whole else 0
        parts.append(until - taken)
        taken = until
    return parts


def _match_loans(engines: tuple[EngineLoad, ...], given: list[int], borrowed: list[int]) -> list[Loan]:
    """Who has it from whom, in the order of the claims; what no lender gave comes from the node."""
    loans = []
    lenders = [[engine.claim, amount] for engine, amount in zip(engines, given, strict=True) if amount]
    for engine, amount in zip(engines, borrowed, strict=True):
        missing = amount
        while missing and lenders:
            lent = min(missing, lenders[0][1])
            loans.append(Loan(lenders[0][0], engine.claim, lent))
            lenders[0][1] -= lent
            missing -= lent
            if not lenders[0][1]:
                lenders.pop(0)
        if missing:
            loans.append(Loan(None, engine.claim, missing))
    return loans


def _limit_tokens(load: DeviceLoad, cores: list[int]) -> list[int]:
    """Tokens per step: all that vLLM allows, unless a long step would hold the cores that another engine decodes on."""
    active = [e for e in load.engines if e.active]
    if sum(n for n, e in zip(cores, load.engines, strict=True) if e.active) <= SLOTS_PER_CORE * load.cores:
        return [e.max_tokens for e in load.engines]
    limits = []
    for engine in load.engines:
        tpot_s = min((e.tpot_s for e in active if e.running and e.claim != engine.claim), default=None)
        if tpot_s is None or not engine.token_s:
            limits.append(engine.max_tokens)
            continue
        tokens = max(_STEP_PART_OF_TPOT * tpot_s / engine.token_s, _LEAST_PREFILL_TOKENS) + engine.running
        limits.append(int(min(engine.max_tokens, tokens)))
    return limits


def _part_cores(load: DeviceLoad) -> list[int]:
    """Cores in equal parts among the engines with requests: side by side they do more than in turns of all cores."""
    if sum(e.threads for e in load.engines) <= load.cores:
        return [e.threads for e in load.engines]
    active = sum(e.active for e in load.engines)
    return [min(e.threads, max(1, load.cores // (active + (not e.active)))) for e in load.engines]


def _somebody_waits_long(load: DeviceLoad, own: EngineLoad) -> bool:
    """Whether another engine's request has waited too long, by the clock of the last step of any engine."""
    latest = max(e.stepped_at for e in load.engines)
    return any(
        e.waiting and e.oldest_at is not None and latest - e.oldest_at > _WAIT_PART_OF_TTFT * e.ttft_s
        for e in load.engines
        if e.claim != own.claim
    )


def _order_turns(engines: tuple[EngineLoad, ...]) -> list[int]:
    """Place of each engine: first who has not stepped for half its TPOT, then prefills, then decodes.

    Within each the one that stepped last goes last: by the age of its requests an engine with a long queue would go
    before those whose load it must not touch.
    """
    latest = max((e.stepped_at for e in engines), default=0.0)

    def place(i: int) -> tuple[int, float, int]:
        engine = engines[i]
        if not engine.active:
            return (3, engine.stepped_at, engine.claim)
        if latest - engine.stepped_at > _STEP_PART_OF_TPOT * engine.tpot_s:
            return (0, engine.stepped_at, engine.claim)
        return (1 if engine.prefill_tokens else 2, engine.stepped_at, engine.claim)

    turns = [0] * len(engines)
    for turn, i in enumerate(sorted(range(len(engines)), key=place)):
        turns[i] = turn
    return turns

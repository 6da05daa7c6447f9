"""Shares the machines between engines that together want more replicas than there is room for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from experts.fleet import Engine, Fleet

# What runs is worth this much more than what would have to be started in its place, so that equals do not take turns.
_RUNNING_BONUS = 1.25
_ROUNDING = 1e-6
_KINDS = ("GPUs", "CPU cores")


@dataclass(frozen=True, slots=True)
class Room:
    """GPUs and CPU cores, of each node type and of all together."""

    gpus: float
    cpus: float
    nodes: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claim:
    """What one engine asks for: `wanted` replicas, `needed` of them now; `floor` it gets in any case.

    A replica takes `gpus` and `cpus`, on `node_type` only if it has one. `weight` is priority times SLO pressure.
    """

    engine: str
    floor: int
    needed: int
    wanted: int
    running: int
    weight: float
    gpus: float
    cpus: float
    node_type: str | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """The replicas that an engine may have; `reason` where that is fewer than it wants, else empty."""

    replicas: int
    reason: str


def measure_room(fleet: Fleet) -> Room:
    """What all replicas of a fleet may take together: its caps, or what its nodes have at most."""
    nodes = {name: (float(kind.count * kind.gpus), kind.count * kind.cpus) for name, kind in fleet.nodes.items()}
    gpus, cpus = (sum(node[kind] for node in nodes.values()) for kind in (0, 1))
    caps = fleet.scaling
    return Room(
        min(gpus, caps.max_gpus) if caps.max_gpus is not None else gpus,
        min(cpus, caps.max_cpus) if caps.max_cpus is not None else cpus,
        nodes,
    )


def measure_replica(engine: Engine) -> tuple[float, float]:
    """GPUs and CPU cores that one replica takes."""
    gpus = engine.gpus * engine.tensor_parallel if engine.device == "gpu" else 0.0
    return gpus, engine.cpus


def share_replicas(claims: Sequence[Claim], room: Room) -> dict[str, Grant]:
    """A grant for every claim: floors first, then needs, then what is only held, while there is room.

    Replicas above the floors go one by one to the engine that has fewest for its weight (weighted max-min fairness):
    who needs less than a fair share gets all of it, however much another wants.
    """
    everything = _Left(room)
    for claim in claims:
        everything.take(claim, claim.wanted)
    if everything.suffices():
        return {claim.engine: Grant(claim.wanted, "") for claim in claims}
    left = _Left(room)
    granted = {claim.engine: 0 for claim in claims}
    short: dict[str, str] = {}
    for claim in claims:
        # Even where floors alone are more than there is: they were promised, and Ray says what does not fit.
        granted[claim.engine] = min(claim.floor, claim.wanted)
        left.take(claim, granted[claim.engine])
    for most in ({claim.engine: claim.needed for claim in claims}, {claim.engine: claim.wanted for claim in claims}):
        _deal(claims, most, granted, left, short)
    return {
        claim.engine: Grant(granted[claim.engine], short.get(claim.engine, ""))
        if granted[claim.engine] < claim.wanted
        else Grant(granted[claim.engine], "")
        for claim in claims
    }


def _deal(
    claims: Iterable[Claim], most: Mapping[str, int], granted: dict[str, int], left: "_Left", short: dict[str, str]
) -> None:
    queue = [(-_score(claim, granted[claim.engine]), claim.engine, claim) for claim in claims]
    heapify(queue)
    while queue:
        _, name, claim = heappop(queue)
        if granted[name] >= min(most[name], claim.wanted):
            continue
        lacking = left.find_lack(claim)
        if lacking is not None:
            short[name] = f"{claim.wanted} wanted, but the fleet has no more {lacking}"
            continue
        granted[name] += 1
        left.take(claim, 1)
        heappush(queue, (-_score(claim, granted[name]), name, claim))


def _score(claim: Claim, granted: int) -> float:
    bonus = _RUNNING_BONUS if granted < claim.running else 1.0
    return bonus * claim.weight / (granted + 1)


class _Left:
    """What is left of a room while it is dealt out."""

    def __init__(self, room: Room) -> None:
        self._all = [room.gpus, room.cpus]
        self._nodes = {name: list(sizes) for name, sizes in room.nodes.items()}

    def take(self, claim: Claim, replicas: int) -> None:
        for pool in self._pools(claim):
            pool[0] -= replicas * claim.gpus
            pool[1] -= replicas * claim.cpus

    def suffices(self) -> bool:
        """Whether no more was taken than there was."""
        return all(size >= -_ROUNDING for pool in (self._all, *self._nodes.values()) for size in pool)

    def find_lack(self, claim: Claim) -> str | None:
        """Of what there is too little for one more replica."""
        for pool in self._pools(claim):
            for kind, asked, has in zip(_KINDS, (claim.gpus, claim.cpus), pool, strict=True):
                if asked > has + _ROUNDING:
                    return kind if pool is self._all else f"{kind} of node type {claim.node_type}"
        return None

    def _pools(self, claim: Claim) -> list[list[float]]:
        named = self._nodes.get(claim.node_type) if claim.node_type is not None else None
        return [self._all] if named is None else [named, self._all]

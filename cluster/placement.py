"""Placement: which replica runs on which share of which node, and why.

First-fit decreasing (D. S. Johnson et al., "Worst-Case Performance Bounds for Simple One-Dimensional Packing
Algorithms", SIAM J. Comput. 3(4), 1974), with several resources made one size by adding a replica's shares of the
largest machine (FFDSum in R. Panigrahy et al., "Heuristics for Vector Bin Packing", Microsoft Research, 2011).

A replica stays on one node. Of memory only the KV cache of CPU engines is known to a fleet file, so a placement says
nothing about the memory of weights, on CPUs or GPUs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, floor
from typing import Literal

from pydantic import ValidationError

from cluster.node_types import list_engine_types
from experts.fleet import Engine, Fleet, NodeType

Resource = Literal["cpus", "memory_gib", "gpu_share", "gpus", "gpu_memory_gib", "nodes", "ttft_s", "tpot_s"]

_ENGINE_KEYS: dict[Resource, str] = {"cpus": "cpus", "memory_gib": "kv_cache_gib", "gpu_share": "gpus"}

# Ray counts resources in ten-thousandths; sums of floats differ by far less.
_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, order=True)
class Node:
    """One machine of a node type; numbers count from 1."""

    node_type: str
    number: int

    def __str__(self) -> str:
        return f"{self.node_type}-{self.number}"


@dataclass(frozen=True, slots=True)
class GpuShare:
    """What one worker takes of one GPU; GPUs count from 0."""

    gpu: int
    share: float


@dataclass(frozen=True, slots=True)
class NodeShare:
    """What a replica takes of one node; each worker has a GPU of its own."""

    node: Node
    cpus: float
    memory_gib: float
    gpus: tuple[GpuShare, ...]


@dataclass(frozen=True, slots=True)
class FirstFit:
    """Why a replica is where it is: at its turn, largest first, `nodes_passed` nodes before this one had no room.

    `size` is the sum of its shares of the largest machine; `turn` counts engines from 1.
    """

    turn: int
    size: float
    nodes_passed: int


@dataclass(frozen=True, slots=True)
class Carries:
    """Why a replica is what it is: its engine's replicas have `load` of the work that keeps the SLO.

    `limit` forbids more: the KV cache, the sequences that an engine may run, the TPOT or the TTFT. `ran` says that it
    is where it was before.
    """

    load: float
    limit: Literal["kv_cache", "sequences", "tpot", "ttft"]
    ran: bool


@dataclass(frozen=True, slots=True)
class Assignment:
    """One replica and its shares; replicas of an engine count from 1."""

    engine: str
    replica: int
    shares: tuple[NodeShare, ...]
    reason: FirstFit | Carries


@dataclass(frozen=True, slots=True)
class Shortage:
    """A resource that a replica lacks on the node where it lacks least.

    `gpu_share` is the share of one GPU; `gpus` counts the GPUs on which every tensor-parallel worker finds its share.
    A plan for rates also knows the memory of a GPU, the SLO (`largest_free` is what it allows) and whole nodes.
    `largest_free` is the most that any node its engine may run on had free at its turn.
    """

    resource: Resource
    needed: float
    free: float
    largest_free: float


@dataclass(frozen=True, slots=True)
class Change:
    """One value of the fleet file to change."""

    key: str
    current: float
    proposed: float


@dataclass(frozen=True, slots=True)
class Unplaced:
    """Replicas of an engine that fit nowhere.

    `change` is the smallest single change that places them and takes no other engine's place: a smaller engine before
    fewer replicas before more machines before larger ones. None: no single change does.
    """

    engine: str
    replicas: int
    nearest: Node | None
    shortages: tuple[Shortage, ...]
    change: Change | None


@dataclass(frozen=True, slots=True)
class Placement:
    """Every replica that a fleet keeps, placed or not; engines in the order in which they were placed."""

    assignments: tuple[Assignment, ...]
    unplaced: tuple[Unplaced, ...]


def plan_placement(fleet: Fleet) -> Placement:
    """A place for `replicas.min` replicas of every engine, and for one of each engine that sleeps when idle.

    Node types that may run an engine are tried in the fleet file's order (see `list_engine_types`).
    """
    packing = _pack(fleet)
    missed = {miss.engine: miss.replicas for miss in packing.misses}
    unplaced = tuple(
        Unplaced(miss.engine, miss.replicas, miss.nearest, miss.shortages, _choose_change(fleet, miss, missed))
        for miss in packing.misses
    )
    return Placement(tuple(packing.assignments), unplaced)


def apply_change(fleet: Fleet, change: Change) -> Fleet:
    """The fleet with one value changed; raises pydantic's ValidationError when the value is out of its range."""
    data = fleet.model_dump()
    part = data
    *parents, name = change.key.split(".")
    for parent in parents:
        part = part[parent]
    part[name] = change.proposed
    return Fleet.model_validate(data)


def describe_placement(placement: Placement) -> tuple[str, ...]:
    """One line for each node in use and for each engine that does not fit, for people."""
    by_node: dict[Node, list[str]] = {}
    for assignment in placement.assignments:
        for share in assignment.shares:
            takes = [f"{share.cpus:g} {'CPU' if share.cpus == 1 else 'CPUs'}"]
            takes += [f"{share.memory_gib:g} GiB of KV cache"] if share.memory_gib else []
            takes += [f"{_describe_share(gpu.share)}GPU {gpu.gpu}" for gpu in share.gpus]
            by_node.setdefault(share.node, []).append(f"{assignment.engine} ({', '.join(takes)})")
    lines = [f"{node}: {'; '.join(by_node[node])}" for node in sorted(by_node)]
    return (*lines, *(describe_unplaced(unplaced) for unplaced in placement.unplaced))


def _describe_share(share: float) -> str:
    return "" if share == 1 else f"{share:g} of "


def describe_unplaced(unplaced: Unplaced) -> str:
    """What is missing and the change that would do, for people."""
    lacks = ", ".join(
        f"{shortage.resource} {shortage.needed:g} needed, {shortage.largest_free:g} "
        + ("allowed" if shortage.resource in ("ttft_s", "tpot_s") else "free at most")
        for shortage in unplaced.shortages
    )
    change = unplaced.change
    if change is None and unplaced.shortages and unplaced.shortages[0].resource in ("ttft_s", "tpot_s"):
        remedy = "no single change does: promise less, take a smaller build or faster machines"
    elif change is None:
        remedy = "no single change makes room: use fewer engines, smaller ones or more machines"
    else:
        remedy = f"change {change.key} from {change.current:g} to {change.proposed:g}"
    where = f" (nearest: {unplaced.nearest})" if unplaced.nearest else "" if lacks else " (no node may run it)"
    replicas = f"{unplaced.replicas} replica{'s' if unplaced.replicas > 1 else ''}"
    return f"engine '{unplaced.engine}' has no room for {replicas}: {lacks or 'no node'}{where}; {remedy}"


@dataclass(frozen=True, slots=True)
class _Need:
    cpus: float
    memory_gib: float
    workers: int
    gpu_share: float

    @staticmethod
    def of(engine: Engine) -> "_Need":
        if engine.device == "cpu":
            return _Need(engine.cpus, engine.kv_cache_gib, 0, 0.0)
        return _Need(engine.cpus, 0.0, engine.tensor_parallel, engine.gpus)

    def measure_size(self, node_types: list[NodeType]) -> float:
        """The sum of its shares of an empty machine, of the machines the one where that is least."""
        return min(
            (
                self.cpus / node_type.cpus
                + self.memory_gib / node_type.memory_gib
                + (self.workers * self.gpu_share / node_type.gpus if self.workers else 0.0)
                for node_type in node_types
                if node_type.gpus or not self.workers
            ),
            default=0.0,
        )


@dataclass(slots=True)
class _FreeNode:
    """What is left of one node while it fills."""

    node: Node
    cpus: float
    memory_gib: float
    gpus: list[float]

    def measure(self, need: _Need) -> dict[Resource, tuple[float, float]]:
        """What a replica needs and finds, of each resource."""
        amounts: dict[Resource, tuple[float, float]] = {
            "cpus": (need.cpus, self.cpus),
            "memory_gib": (need.memory_gib, self.memory_gib),
        }
        if need.workers == 1:
            amounts["gpu_share"] = (need.gpu_share, max(self.gpus, default=0.0))
        elif need.workers:
            amounts["gpus"] = (need.workers, len(self.find_gpus(need)))
        return amounts

    def find_shortages(self, need: _Need) -> dict[Resource, tuple[float, float]]:
        return {
            resource: (needed, free)
            for resource, (needed, free) in self.measure(need).items()
            if needed > free + _TOLERANCE
        }

    def find_gpus(self, need: _Need) -> list[int]:
        return [gpu for gpu, free in enumerate(self.gpus) if free >= need.gpu_share - _TOLERANCE]

    def take(self, need: _Need) -> NodeShare:
        gpus = self.find_gpus(need)[: need.workers]
        for gpu in gpus:
            self.gpus[gpu] -= need.gpu_share
        self.cpus -= need.cpus
        self.memory_gib -= need.memory_gib
        return NodeShare(self.node, need.cpus, need.memory_gib, tuple(GpuShare(gpu, need.gpu_share) for gpu in gpus))


@dataclass(slots=True)
class _Nodes:
    """The nodes of a fleet in the order of its file; a machine is listed once it is looked at."""

    types: dict[str, NodeType]
    used: dict[str, list[_FreeNode]]

    def iterate(self, engine: Engine) -> Iterator[_FreeNode]:
        """Nodes that may run an engine: those in use first, then one that is empty, for each node type."""
        for name in list_engine_types(engine, self.types):
            used = self.used[name]
            yield from used
            node_type = self.types[name]
            if len(used) < node_type.count:
                node = Node(name, len(used) + 1)
                yield _FreeNode(node, node_type.cpus, node_type.memory_gib, [1.0] * node_type.gpus)

    def keep(self, free: _FreeNode) -> None:
        used = self.used[free.node.node_type]
        if free.node.number > len(used):
            used.append(free)


@dataclass(frozen=True, slots=True)
class _Miss:
    engine: str
    replicas: int
    placed: int
    nearest: Node | None
    shortages: tuple[Shortage, ...]


@dataclass(frozen=True, slots=True)
class _Packing:
    assignments: list[Assignment]
    misses: list[_Miss]


def _pack(fleet: Fleet) -> _Packing:
    nodes = _Nodes(fleet.nodes, {name: [] for name in fleet.nodes})
    sizes = {name: _Need.of(engine).measure_size(list(fleet.nodes.values())) for name, engine in fleet.engines.items()}
    packing = _Packing([], [])
    for turn, name in enumerate(sorted(sizes, key=lambda name: -sizes[name]), start=1):
        engine = fleet.engines[name]
        need = _Need.of(engine)
        replicas = max(1, engine.replicas.min)
        for replica in range(1, replicas + 1):
            for passed, free in enumerate(nodes.iterate(engine)):
                if not free.find_shortages(need):
                    nodes.keep(free)
                    reason = FirstFit(turn, sizes[name], passed)
                    packing.assignments.append(Assignment(name, replica, (free.take(need),), reason))
                    break
            else:
                # What did not fit once fits no later: nodes only fill.
                packing.misses.append(_observe_miss(nodes, name, engine, replicas - replica + 1, replica - 1))
                break
    return packing


def _observe_miss(nodes: _Nodes, name: str, engine: Engine, replicas: int, placed: int) -> _Miss:
    need = _Need.of(engine)
    candidates = list(nodes.iterate(engine))
    if not candidates:
        return _Miss(name, replicas, placed, None, ())

    def measure_lack(free_node: _FreeNode) -> tuple[int, float]:
        lacks = free_node.find_shortages(need).values()
        return len(lacks), sum((needed - free) / needed for needed, free in lacks)

    nearest = min(candidates, key=measure_lack)
    measured = [free_node.measure(need) for free_node in candidates]
    shortages = tuple(
        Shortage(resource, needed, max(free, 0.0), max(0.0, *(amounts[resource][1] for amounts in measured)))
        for resource, (needed, free) in nearest.find_shortages(need).items()
    )
    return _Miss(name, replicas, placed, nearest.node, shortages)


def _choose_change(fleet: Fleet, miss: _Miss, missed: dict[str, int]) -> Change | None:
    for change in _list_changes(fleet, miss):
        try:
            misses = _pack(apply_change(fleet, change)).misses
        except ValidationError:
            continue
        if all(other.engine != miss.engine and other.replicas <= missed.get(other.engine, 0) for other in misses):
            return change
    return None


def _list_changes(fleet: Fleet, miss: _Miss) -> Iterator[Change]:
    """Changes worth trying, smallest first."""
    if miss.nearest is None:
        return
    engine, node_type = fleet.engines[miss.engine], fleet.nodes[miss.nearest.node_type]
    node_key = f"nodes.{miss.nearest.node_type}"
    if len(miss.shortages) == 1:
        shortage = miss.shortages[0]
        lower = floor(shortage.largest_free * 100 + _TOLERANCE) / 100
        # Below half of what it asked for, an engine is another engine: its weights or its load would not fit.
        if shortage.resource in _ENGINE_KEYS and lower >= shortage.needed / 2:
            yield Change(f"engines.{miss.engine}.{_ENGINE_KEYS[shortage.resource]}", shortage.needed, lower)
    if miss.placed and engine.replicas.min > 1:
        yield Change(f"engines.{miss.engine}.replicas.min", engine.replicas.min, miss.placed)
    for more in dict.fromkeys((1, ceil(miss.replicas / 2), miss.replicas)):
        yield Change(f"{node_key}.count", node_type.count, node_type.count + more)
    if len(miss.shortages) == 1:
        shortage = miss.shortages[0]
        name = "gpus" if shortage.resource in ("gpu_share", "gpus") else shortage.resource
        current = float(getattr(node_type, name))
        lacking = shortage.needed - shortage.free
        yield Change(f"{node_key}.{name}", current, current + (ceil(lacking) if name == "gpus" else lacking))

"""Puts chosen replicas on GPUs: patterns of a solved program first, the rest by best fit, what runs where it runs."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cluster.candidates import SHARE_UNITS, Bin, Candidate, Task
from cluster.placement import Assignment, Carries, GpuShare, Node, NodeShare

# What a placement costs, in hundredths of a GPU: saving one is worth fifty restarts, and a machine without GPUs is
# about a tenth of one (hourly prices of the large clouds).
GPU_COST, MACHINE_COST, START_COST = 100, 10, 2
_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Choice:
    """How an engine runs and whom it serves: requests per second by domain."""

    candidate: Candidate
    replicas: int
    rates: Mapping[str, float]


Selection = Mapping[str, Choice]
# For each bin the units of the replicas of each mesh that is to be filled.
Patterns = Mapping[Bin, Sequence[tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Packing:
    """Where a selection runs; `left` counts the replicas that found no place."""

    assignments: tuple[Assignment, ...]
    left: Mapping[str, int]
    gpus: int
    machines: int
    started: int

    @property
    def cost(self) -> int:
        return GPU_COST * self.gpus + MACHINE_COST * self.machines + START_COST * self.started


def pack_selection(task: Task, selection: Selection, patterns: Patterns | None = None) -> Packing:
    """The cheapest packing of a selection: with what runs kept in place, or anew by patterns or by best fit."""
    packings = [_pack(task, selection, {}, keep=bool(task.current))]
    if task.current:
        packings.append(_pack(task, selection, {}, keep=False))
    if patterns:
        packings.append(_pack(task, selection, patterns, keep=False))
    return min(packings, key=lambda packing: (sum(packing.left.values()), packing.cost))


@dataclass(slots=True)
class _Machine:
    """What is left of a machine; `taken` has its GPUs, or itself where it has none and is one mesh."""

    node: Node
    cpus: float
    memory_gib: float
    taken: list[bool]
    engines: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True, eq=False)
class _Mesh:
    """GPUs `first`, `first` + 1, … of a machine, all with the same replicas; no GPUs: the machine itself."""

    machine: _Machine
    bin: Bin
    first: int
    free: int = SHARE_UNITS
    slots: Counter[int] = field(default_factory=Counter)
    replicas: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Floor:
    """All machines and meshes of a packing while it grows; machines are listed once they are looked at."""

    task: Task
    machines: dict[str, list[_Machine]] = field(default_factory=lambda: defaultdict(list))
    meshes: dict[Bin, list[_Mesh]] = field(default_factory=lambda: defaultdict(list))

    def find_machine(self, name: str, number: int) -> _Machine | None:
        node_type, listed = self.task.nodes.get(name), self.machines[name]
        if node_type is None or not 1 <= number <= node_type.count:
            return None
        while len(listed) < number:
            node = Node(name, len(listed) + 1)
            listed.append(_Machine(node, node_type.cpus, node_type.memory_gib, [False] * max(1, node_type.gpus)))
        return listed[number - 1]

    def open(self, place: Bin, candidate: Candidate | None = None) -> _Mesh | None:
        """A new mesh on the first machine that has its GPUs, and room for a candidate if one is given."""
        number = 1
        while (machine := self.find_machine(place.node_type, number)) is not None:
            number += 1
            if candidate is not None and not self.may_run(machine, candidate):
                continue
            width = max(1, place.gpus)
            for first in range(0, len(machine.taken) - width + 1, width):
                if not any(machine.taken[first : first + width]):
                    return self.add(_Mesh(machine, place, first))
        return None

    def add(self, mesh: _Mesh) -> _Mesh:
        width = max(1, mesh.bin.gpus)
        mesh.machine.taken[mesh.first : mesh.first + width] = [True] * width
        self.meshes[mesh.bin].append(mesh)
        return mesh

    def drop(self, mesh: _Mesh) -> None:
        width = max(1, mesh.bin.gpus)
        mesh.machine.taken[mesh.first : mesh.first + width] = [False] * width
        self.meshes[mesh.bin].remove(mesh)

    def may_run(self, machine: _Machine, candidate: Candidate) -> bool:
        engine = self.task.engines[candidate.engine]
        apart = self.task.spread.get(candidate.engine) == "node" and machine.engines[candidate.engine]
        memory_gib = engine.kv_cache_gib if not candidate.bin.gpus else 0.0
        return not apart and engine.cpus <= machine.cpus + _TOLERANCE and memory_gib <= machine.memory_gib + _TOLERANCE

    def may_take(self, mesh: _Mesh, candidate: Candidate) -> bool:
        apart = self.task.spread.get(candidate.engine) == "gpu" and candidate.bin.gpus
        return (
            not (apart and candidate.engine in mesh.replicas)
            and candidate.units <= mesh.free
            and self.may_run(mesh.machine, candidate)
        )

    def find(self, candidate: Candidate, besides: _Mesh | None = None) -> _Mesh | None:
        """The mesh in use that a replica fills best."""
        meshes = (mesh for mesh in self.meshes[candidate.bin] if mesh is not besides and self.may_take(mesh, candidate))
        return min(meshes, key=lambda mesh: (mesh.free, mesh.machine.cpus), default=None)

    def take(self, mesh: _Mesh, candidate: Candidate, count: int = 1) -> None:
        """Give a replica its place; a negative count takes it back."""
        engine = self.task.engines[candidate.engine]
        mesh.free -= count * candidate.units
        mesh.machine.cpus -= count * engine.cpus
        mesh.machine.memory_gib -= count * engine.kv_cache_gib if not candidate.bin.gpus else 0.0
        mesh.machine.engines[candidate.engine] += count
        mesh.replicas[candidate.engine] = mesh.replicas.get(candidate.engine, 0) + count
        if not mesh.replicas[candidate.engine]:
            del mesh.replicas[candidate.engine]


def _pack(task: Task, selection: Selection, patterns: Patterns, *, keep: bool) -> Packing:
    floor = _Floor(task)
    missing = {name: choice.replicas for name, choice in selection.items()}
    if keep:
        _keep_current(floor, selection, missing)
    _fill_patterns(floor, selection, patterns, missing)
    left: dict[str, int] = {}
    # The widest meshes first, while whole machines are empty; then the largest shares.
    order = sorted(
        selection.values(),
        key=lambda choice: (
            -choice.candidate.bin.gpus,
            -choice.candidate.units,
            -task.engines[choice.candidate.engine].cpus,
            choice.candidate.engine,
        ),
    )
    for choice in order:
        candidate = choice.candidate
        for placed in range(missing[candidate.engine]):
            mesh = floor.find(candidate) or floor.open(candidate.bin, candidate)
            if mesh is None:
                left[candidate.engine] = missing[candidate.engine] - placed
                break
            floor.take(mesh, candidate)
    _empty_meshes(floor, selection)
    return _observe_packing(floor, selection, left)


def _keep_current(floor: _Floor, selection: Selection, missing: dict[str, int]) -> None:
    """Leave what runs where it runs, as far as it still is what was chosen."""
    for assignment in floor.task.current:
        choice = selection.get(assignment.engine)
        if choice is None or not missing[assignment.engine] or not matches(assignment, choice.candidate):
            continue
        (share,) = assignment.shares
        candidate, machine = choice.candidate, floor.find_machine(share.node.node_type, share.node.number)
        if machine is None or not floor.may_run(machine, candidate):
            continue
        first = share.gpus[0].gpu if share.gpus else 0
        mesh = next(
            (mesh for mesh in floor.meshes[candidate.bin] if mesh.machine is machine and mesh.first == first), None
        )
        width = max(1, candidate.bin.gpus)
        taken = machine.taken[first : first + width]
        if mesh is None and first % width == 0 and len(taken) == width and not any(taken):
            mesh = floor.add(_Mesh(machine, candidate.bin, first))
        if mesh is not None and floor.may_take(mesh, candidate):
            floor.take(mesh, candidate)
            missing[assignment.engine] -= 1


def matches(assignment: Assignment, candidate: Candidate) -> bool:
    """Whether a replica runs as a candidate says, so that it need not be started anew."""
    share = assignment.shares[0]
    if len(assignment.shares) != 1 or share.node.node_type != candidate.bin.node_type:
        return False
    if len(share.gpus) != candidate.bin.gpus:
        return False
    return all(abs(gpu.share - candidate.share) < _TOLERANCE for gpu in share.gpus)


def _fill_patterns(floor: _Floor, selection: Selection, patterns: Patterns, missing: dict[str, int]) -> None:
    """Open the meshes of a solved program and give each slot to an engine of its size, most replicas first."""
    for place in sorted(patterns, key=lambda place: -place.gpus):
        meshes = []
        for pattern in patterns[place]:
            mesh = floor.open(place)
            if mesh is not None:
                mesh.slots = Counter(pattern)
                meshes.append(mesh)
        choices = [choice for choice in selection.values() if choice.candidate.bin == place]
        for choice in sorted(choices, key=lambda choice: (-choice.candidate.units, -missing[choice.candidate.engine])):
            candidate = choice.candidate
            slotted = sorted(meshes, key=lambda mesh: -mesh.slots[candidate.units])
            for mesh in slotted:
                if not missing[candidate.engine] or not mesh.slots[candidate.units]:
                    break
                if floor.may_take(mesh, candidate):
                    floor.take(mesh, candidate)
                    mesh.slots[candidate.units] -= 1
                    missing[candidate.engine] -= 1


def _empty_meshes(floor: _Floor, selection: Selection) -> None:
    """Drop meshes without replicas, and those whose replicas find room elsewhere for less than their GPUs cost."""
    meshes = [mesh for meshes in floor.meshes.values() for mesh in meshes]
    for mesh in sorted(meshes, key=lambda mesh: len(mesh.replicas)):
        moved: list[tuple[_Mesh, Candidate]] = []
        saved = GPU_COST * mesh.bin.gpus or MACHINE_COST
        if floor.task.current and START_COST * sum(mesh.replicas.values()) >= saved:
            continue
        waiting = [selection[name].candidate for name, count in mesh.replicas.items() for _ in range(count)]
        for candidate in sorted(waiting, key=lambda candidate: -candidate.units):
            floor.take(mesh, candidate, -1)
            other = floor.find(candidate, besides=mesh)
            if other is None:
                floor.take(mesh, candidate)
                break
            floor.take(other, candidate)
            moved.append((other, candidate))
        else:
            floor.drop(mesh)
            continue
        for other, candidate in moved:
            floor.take(other, candidate, -1)
            floor.take(mesh, candidate)


def _observe_packing(floor: _Floor, selection: Selection, left: Mapping[str, int]) -> Packing:
    meshes = [mesh for meshes in floor.meshes.values() for mesh in meshes]
    places: dict[str, list[NodeShare]] = defaultdict(list)
    for mesh in sorted(meshes, key=lambda mesh: (mesh.machine.node, mesh.first)):
        for name, count in mesh.replicas.items():
            places[name] += [_share(floor.task, mesh, selection[name].candidate)] * count
    assignments: list[Assignment] = []
    for name in floor.task.engines:
        if name in places:
            assignments += _number(floor.task, selection[name], places[name])
    gpus = sum(mesh.bin.gpus for mesh in meshes)
    machines = sum(not mesh.bin.gpus for mesh in meshes)
    started = sum(not _ran(assignment) for assignment in assignments) if floor.task.current else 0
    return Packing(tuple(assignments), dict(left), gpus, machines, started)


def _share(task: Task, mesh: _Mesh, candidate: Candidate) -> NodeShare:
    engine = task.engines[candidate.engine]
    gpus = tuple(GpuShare(gpu, candidate.share) for gpu in range(mesh.first, mesh.first + candidate.bin.gpus))
    return NodeShare(mesh.machine.node, engine.cpus, 0.0 if gpus else engine.kv_cache_gib, gpus)


def _ran(assignment: Assignment) -> bool:
    return isinstance(assignment.reason, Carries) and assignment.reason.ran


def _number(task: Task, choice: Choice, places: Iterable[NodeShare]) -> list[Assignment]:
    """Replicas that stay keep their numbers, new ones take the lowest that are free."""
    candidate, waiting = choice.candidate, list(places)
    load = candidate.measure_load(choice.rates) / max(1, len(waiting))
    heaviest = max(choice.rates, key=lambda domain: choice.rates[domain] / candidate.capacities[domain])
    kept: dict[int, NodeShare] = {}
    for assignment in task.current:
        # A current share without a Carries of ours still counts: where it is decides, not who planned it.
        if assignment.engine == candidate.engine and assignment.shares[0] in waiting and assignment.replica not in kept:
            kept[assignment.replica] = assignment.shares[0]
            waiting.remove(assignment.shares[0])
    free = (number for number in range(1, len(waiting) + len(kept) + 1) if number not in kept)
    numbered = kept | dict(zip(free, waiting, strict=False))
    return [
        Assignment(
            candidate.engine, number, (share,), Carries(round(load, 4), candidate.limits[heaviest], number in kept)
        )
        for number, share in sorted(numbered.items())
    ]

"""The placement as an integer program: which candidate each engine runs as, how many replicas, how many meshes.

Identical GPUs and machines are counted, never named, so that its size does not grow with them: meshes of one kind are
filled as in the arc-flow model of bin packing (J. M. Valério de Carvalho, Annals of Operations Research 86, 1999),
whose relaxation is as tight as that of Gilmore and Gomory. It leaves out the CPUs and memory of single machines and
which replicas share a mesh; that makes it a relaxation, whose bound holds for placements on named GPUs too.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import floor, inf
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cluster.candidates import SHARE_UNITS, Bin, Candidate, Task
from cluster.integer_program import IntegerProgram
from cluster.packing import GPU_COST, MACHINE_COST, START_COST, Choice, Patterns, Selection, matches

Objective = Literal["fewest-gpus", "most-throughput", "fewest-machines-added"]


@dataclass(slots=True)
class PlacementProgram:
    """An integer program with the meaning of its columns.

    `choices` are the candidates' 0-1 columns, `fixed` the replicas that a candidate then has, `counts` the columns of
    replicas that are not fixed; by domain and candidate, `takes` are 0-1 columns and `flows` requests per second.
    """

    task: Task
    goal: Objective
    program: IntegerProgram = field(default_factory=IntegerProgram)
    choices: dict[int, Candidate] = field(default_factory=dict)
    fixed: dict[int, int] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)
    takes: dict[tuple[str, int], int] = field(default_factory=dict)
    flows: dict[tuple[str, int], int] = field(default_factory=dict)
    arcs: dict[tuple[Bin, int, int], int] = field(default_factory=dict)
    added: dict[str, int] = field(default_factory=dict)

    def read_selection(self, values: NDArray[np.float64]) -> Selection:
        """The engines that a solution runs, and how."""
        selection: dict[str, Choice] = {}
        for column, candidate in self.choices.items():
            if values[column] < 0.5:
                continue
            if column in self.fixed:
                rates = {domain: self.task.rates[domain] for domain in self.task.domains_of(candidate.engine)}
                replicas = self.fixed[column]
            else:
                rates = self._read_rates(values, column, candidate)
                replicas = round(values[self.counts[column]])
            if rates and replicas:
                selection[candidate.engine] = Choice(candidate, replicas, rates)
        return selection

    def read_patterns(self, values: NDArray[np.float64]) -> Patterns:
        """What fills each mesh of a solution: the paths of its flow."""
        flows: dict[Bin, dict[int, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
        for (place, start, end), column in self.arcs.items():
            if round(values[column]):
                flows[place][start][end] = round(values[column])
        patterns: dict[Bin, list[tuple[int, ...]]] = {}
        for place, flow in flows.items():
            patterns[place] = []
            while flow[0]:
                at, sizes = 0, []
                while at < SHARE_UNITS and flow[at]:
                    end = next(iter(flow[at]))
                    flow[at][end] -= 1
                    if not flow[at][end]:
                        del flow[at][end]
                    sizes.append(end - at)
                    at = end
                patterns[place].append(tuple(sizes))
        return patterns

    def read_added(self, values: NDArray[np.float64]) -> dict[str, int]:
        """Machines to add, by node type."""
        return {name: round(values[column]) for name, column in self.added.items() if round(values[column])}

    def _read_rates(self, values: NDArray[np.float64], choice: int, candidate: Candidate) -> dict[str, float]:
        taken = [domain for domain in candidate.capacities if values[self.takes[domain, choice]] > 0.5]
        if self.goal == "most-throughput":
            return {domain: max(0.0, float(values[self.flows[domain, choice]])) for domain in taken}
        return {domain: self.task.rates[domain] for domain in taken}


def build_program(task: Task, goal: Objective) -> PlacementProgram:
    """The program of a task. Domains without any candidate are for the caller to report: they make it infeasible."""
    built = PlacementProgram(task, goal)
    demands: dict[tuple[Bin, int], dict[int, float]] = defaultdict(dict)
    waiting: dict[str, dict[int, float]] = {domain: {} for domain in task.choices}
    for name in task.engines:
        domains = task.domains_of(name)
        if goal != "most-throughput" and all(task.choices[domain] == (name,) for domain in domains):
            _add_fixed(built, name, domains, demands, waiting)
        else:
            _add_free(built, name, demands, waiting)
    for chosen in waiting.values():
        built.program.add_row(chosen, 1, 1)
    _add_meshes(built, demands)
    return built


def list_useful(task: Task, name: str) -> tuple[tuple[Candidate, int], ...]:
    """The candidates that carry all of an engine's domains, with their replicas, less those that others beat."""
    domains = task.domains_of(name)
    rates = {domain: task.rates[domain] for domain in domains}
    least = max(1, task.engines[name].replicas.min)
    useful: list[tuple[Candidate, int]] = []
    fewest: dict[Bin, int] = {}
    for candidate in sorted(task.candidates[name], key=lambda candidate: candidate.units):
        if not all(domain in candidate.capacities for domain in domains):
            continue
        replicas = max(least, candidate.count_replicas(rates))
        if replicas < fewest.get(candidate.bin, replicas + 1) or _runs(task, candidate):
            fewest[candidate.bin] = min(replicas, fewest.get(candidate.bin, replicas))
            useful.append((candidate, replicas))
    return tuple(useful)


def _runs(task: Task, candidate: Candidate) -> bool:
    return any(assignment.engine == candidate.engine and matches(assignment, candidate) for assignment in task.current)


def _count_running(task: Task, candidate: Candidate) -> int:
    return sum(assignment.engine == candidate.engine and matches(assignment, candidate) for assignment in task.current)


def _add_fixed(
    built: PlacementProgram,
    name: str,
    domains: tuple[str, ...],
    demands: dict[tuple[Bin, int], dict[int, float]],
    waiting: dict[str, dict[int, float]],
) -> None:
    """An engine whose domains have no other: each candidate has its number of replicas."""
    task = built.task
    for candidate, replicas in list_useful(task, name):
        if replicas > _count_places(built, candidate):
            continue
        started = max(0, replicas - _count_running(task, candidate)) if task.current else 0
        cost = 0.0 if built.goal == "fewest-machines-added" else float(START_COST * started)
        column = built.program.add_column(cost, 1)
        built.choices[column], built.fixed[column] = candidate, replicas
        demands[candidate.bin, candidate.units][column] = replicas
        # One row of the domains says it for all of them.
        waiting[domains[0]][column] = 1
    for domain in domains[1:]:
        waiting.pop(domain, None)


def _count_places(built: PlacementProgram, candidate: Candidate) -> float:
    """Replicas of one engine at most, as they are kept apart."""
    task, place = built.task, candidate.bin
    if built.goal == "fewest-machines-added":
        return inf
    node_type = task.nodes[place.node_type]
    spread = task.spread.get(candidate.engine)
    if spread == "node":
        return node_type.count
    if spread is None or not place.gpus:
        return inf
    return node_type.count * (node_type.gpus // place.gpus)


def _add_free(
    built: PlacementProgram,
    name: str,
    demands: dict[tuple[Bin, int], dict[int, float]],
    waiting: dict[str, dict[int, float]],
) -> None:
    """An engine whose domains may be served elsewhere or in part: replicas and what they serve are columns."""
    task, program = built.task, built.program
    chosen: dict[int, float] = {}
    for candidate in task.candidates[name]:
        least = max(1, task.engines[name].replicas.min)
        most = max(least, candidate.count_replicas({domain: task.rates[domain] for domain in candidate.capacities}))
        room = _count_places(built, candidate)
        if room < least:
            continue
        most = int(min(most, room))
        choice, count = program.add_column(0.0, 1), program.add_column(0.0, most)
        built.choices[choice], built.counts[choice] = candidate, count
        chosen[choice] = 1
        program.add_row({count: 1, choice: -most}, upper=0)
        program.add_row({count: 1, choice: -least}, lower=0)
        demands[candidate.bin, candidate.units][count] = 1
        if task.current and built.goal == "fewest-gpus":
            started = program.add_column(START_COST, most, integral=False)
            program.add_row({started: 1, count: -1, choice: _count_running(task, candidate)}, lower=0)
        _add_service(built, candidate, choice, count, waiting)
    if chosen:
        program.add_row(chosen, upper=1)


def _add_service(
    built: PlacementProgram, candidate: Candidate, choice: int, count: int, waiting: dict[str, dict[int, float]]
) -> None:
    program, task = built.program, built.task
    work: dict[int, float] = {count: -1}
    taken: dict[int, float] = {choice: -1}
    for domain, capacity in candidate.capacities.items():
        rate = task.rates[domain]
        takes = program.add_column(0.0, 1)
        waiting[domain][takes] = 1
        taken[takes] = 1
        program.add_row({takes: 1, choice: -1}, upper=0)
        built.takes[domain, choice] = takes
        if built.goal == "most-throughput":
            served = built.flows[domain, choice] = program.add_column(-1.0, max(rate, 0.0), integral=False)
            program.add_row({served: 1, takes: -rate}, upper=0)
            work[served] = 1 / capacity
        else:
            work[takes] = rate / capacity
            # What one domain needs alone, whole replicas: tighter than its part of the sum.
            program.add_row({count: 1, takes: -candidate.count_replicas({domain: rate})}, lower=0)
    program.add_row(work, upper=0)
    # An engine that serves nobody does not run.
    program.add_row(taken, lower=0)


def _add_meshes(built: PlacementProgram, demands: dict[tuple[Bin, int], dict[int, float]]) -> None:
    task, program, goal = built.task, built.program, built.goal
    by_bin: dict[Bin, dict[int, dict[int, float]]] = defaultdict(dict)
    for (place, units), demand in demands.items():
        by_bin[place][units] = demand
    meshes: dict[Bin, int] = {}
    for place, sizes in by_bin.items():
        price = GPU_COST * place.gpus or MACHINE_COST
        meshes[place] = program.add_column(float(price) if goal == "fewest-gpus" else 0.0)
        if place.gpus:
            _add_arcs(built, place, meshes[place], sizes)
    for name, node_type in task.nodes.items():
        mine = {place: column for place, column in meshes.items() if place.node_type == name}
        if not mine:
            continue
        more: dict[int, float] = {}
        if goal == "fewest-machines-added":
            # Whole machines; a GPU more on one of them counts too, so that the cheaper type is added.
            built.added[name] = program.add_column(float(max(1, node_type.gpus)))
            more = {built.added[name]: 1.0}
        _add_machines(built, name, mine, more)
        _add_cpus(built, name, mine, by_bin, more)
    for column, candidate in built.choices.items():
        _add_apart(built, column, candidate, meshes[candidate.bin])


def _add_arcs(built: PlacementProgram, place: Bin, mesh: int, sizes: Mapping[int, Mapping[int, float]]) -> None:
    """One unit of flow from 0 to a whole share is one mesh; an arc is one replica, larger ones first."""
    program = built.program
    reached, ends = {0}, {0, SHARE_UNITS}
    arcs: list[tuple[int, int, int]] = []
    for size in sorted(sizes, reverse=True):
        # Starts that larger replicas, and this size's own before it, lead to.
        frontier = sorted(reached)
        seen: set[int] = set()
        while frontier:
            start = frontier.pop(0)
            if start in seen or start + size > SHARE_UNITS:
                continue
            seen.add(start)
            arcs.append((start, start + size, size))
            frontier.append(start + size)
        reached |= {start + size for start in seen}
        ends |= reached
    flow: dict[int, dict[int, float]] = {node: {} for node in ends}
    used: dict[int, dict[int, float]] = {size: {} for size in sizes}
    columns: dict[tuple[int, int], int] = {}
    for start, end, size in arcs:
        column = columns[start, end] = program.add_column()
        flow[start][column], flow[end][column] = 1, -1
        used[size][column] = 1
        built.arcs[place, start, end] = column
    for node in sorted(ends - {0, SHARE_UNITS}):
        # Room that is left.
        column = program.add_column(integral=False)
        flow[node][column], flow[SHARE_UNITS][column] = 1, -1
    flow[0][mesh] = -1
    flow[SHARE_UNITS][mesh] = 1
    for terms in flow.values():
        program.add_row(terms, 0, 0)
    for size, demand in sizes.items():
        program.add_row(used[size] | {column: -factor for column, factor in demand.items()}, lower=0)


def _add_machines(built: PlacementProgram, name: str, meshes: Mapping[Bin, int], more: Mapping[int, float]) -> None:
    """Meshes fit whole machines. Their sizes divide one another, so counting the larger ones first is exact."""
    node_type = built.task.nodes[name]
    for least in sorted({place.gpus for place in meshes}):
        width = max(1, least)
        held = floor(node_type.gpus / width) if least else 1
        terms = {column: max(1, place.gpus) / width for place, column in meshes.items() if place.gpus >= least}
        if not least:
            terms = {column: 1.0 for place, column in meshes.items() if not place.gpus}
        built.program.add_row(
            terms | {column: -held * factor for column, factor in more.items()}, upper=held * node_type.count
        )


def _add_cpus(
    built: PlacementProgram,
    name: str,
    meshes: Mapping[Bin, int],
    by_bin: Mapping[Bin, Mapping[int, Mapping[int, float]]],
    more: Mapping[int, float],
) -> None:
    """CPUs and, for engines on them, memory: of all machines together, or of those in use."""
    task, node_type = built.task, built.task.nodes[name]
    owners = {column: task.engines[candidate.engine] for column, candidate in built.choices.items()}
    owners |= {built.counts[column]: owner for column, owner in owners.items() if column in built.counts}
    cpus: dict[int, float] = {}
    memory: dict[int, float] = {}
    for place in meshes:
        for demand in by_bin[place].values():
            for column, factor in demand.items():
                cpus[column] = factor * owners[column].cpus
                if not place.gpus:
                    memory[column] = factor * owners[column].kv_cache_gib
    on_cpus = next((column for place, column in meshes.items() if not place.gpus), None)
    if on_cpus is not None:
        built.program.add_row(cpus | {on_cpus: -node_type.cpus}, upper=0)
        built.program.add_row(memory | {on_cpus: -node_type.memory_gib}, upper=0)
    else:
        grown = {column: -node_type.cpus * factor for column, factor in more.items()}
        built.program.add_row(cpus | grown, upper=node_type.cpus * node_type.count)


def _add_apart(built: PlacementProgram, column: int, candidate: Candidate, mesh: int) -> None:
    """Replicas of one engine have a mesh each, or a machine each."""
    spread = built.task.spread.get(candidate.engine)
    if spread is None or (spread == "gpu" and not candidate.bin.gpus):
        return
    if column in built.fixed:
        if built.fixed[column] > 1:
            built.program.add_row({column: built.fixed[column], mesh: -1}, upper=0)
    else:
        built.program.add_row({built.counts[column]: 1, mesh: -1}, upper=0)

"""The planner: a placement for given rates, with a proof of how far from the best one it can be."""

from dataclasses import dataclass
from math import gcd
from typing import Literal

from cluster.candidates import Task, list_task
from cluster.demand import Demand
from cluster.greedy_selection import choose_greedily, scale_greedily
from cluster.integer_program import Solution, round_bound, solve_program
from cluster.packing import GPU_COST, MACHINE_COST, START_COST, Packing, Selection, pack_selection
from cluster.placement import Assignment, Placement
from cluster.placement_program import build_program
from cluster.profile import Profile
from cluster.shortage import observe_shortage, observe_unservable
from experts.fleet import Fleet

Goal = Literal["fewest-gpus", "most-throughput"]
Method = Literal["greedy", "integer program"]


@dataclass(frozen=True, slots=True)
class EngineSetting:
    """How an engine runs: what `guildhall up` sets for it. `gpus` is the share of each GPU, None on CPUs."""

    engine: str
    node_type: str
    tensor_parallel: int
    gpus: float | None
    replicas: int
    load: float


@dataclass(frozen=True, slots=True)
class DomainService:
    """Who serves a domain, and at how many of the requests per second that were asked for."""

    domain: str
    engine: str
    asked_per_s: float
    served_per_s: float


@dataclass(frozen=True, slots=True)
class Proof:
    """How good a placement is: of all placements under the same candidates, none is better than `bound`.

    `value` and `bound` count hundredths of a GPU, restarts among them, or requests per second; `gap` is the part of
    `value` (of `bound`, for requests) that a better placement might gain.
    """

    goal: Goal
    method: Method
    value: float
    bound: float
    gap: float


@dataclass(frozen=True, slots=True)
class PlannedPlacement:
    """A placement for rates; `proof` is None where something is unplaced.

    `machines` counts machines without GPUs, `started` replicas that do not run yet, if what runs is known.
    """

    placement: Placement
    engines: tuple[EngineSetting, ...]
    domains: tuple[DomainService, ...]
    gpus: int
    machines: int
    started: int
    proof: Proof | None


@dataclass(frozen=True, slots=True)
class _Answer:
    selection: Selection
    packing: Packing
    method: Method


def plan_for_rates(
    fleet: Fleet,
    demand: Demand,
    profile: Profile,
    goal: Goal,
    current: tuple[Assignment, ...] = (),
    time_limit_s: float = 30.0,
) -> PlannedPlacement:
    """A placement of a fleet for given rates, or what is in its way: then `placement` has only `unplaced`.

    Raises ConfigurationError where the numbers of a model or a GPU are unknown.
    """
    task = list_task(fleet, demand, profile, current)
    unplaced = observe_unservable(fleet, demand, profile, task)
    if not unplaced:
        plan = plan_fewest_gpus if goal == "fewest-gpus" else plan_most_throughput
        planned = plan(task, time_limit_s)
        if planned is not None:
            return planned
        unplaced = observe_shortage(task, time_limit_s)
    return PlannedPlacement(Placement((), unplaced), (), (), 0, 0, 0, None)


def plan_fewest_gpus(task: Task, time_limit_s: float = 30.0, gap: float = 0.0) -> PlannedPlacement | None:
    """The placement with the fewest GPUs on which every SLO holds at the task's rates; None when none was found.

    Greedy first, then the integer program; what costs less is the answer. Same task, same answer, unless the time ends.
    """
    answers: list[_Answer] = []
    greedy = choose_greedily(task, task.rates)
    if greedy is not None:
        answers.append(_Answer(greedy, pack_selection(task, greedy), "greedy"))
    solution, solved = _solve(task, "fewest-gpus", time_limit_s, gap)
    answers += solved
    answers = [answer for answer in answers if not answer.packing.left]
    if not answers:
        return None
    best = min(answers, key=lambda answer: answer.packing.cost)
    bound = max(0.0, round_bound(solution.bound, _find_step(task)))
    cost = best.packing.cost
    proof = Proof("fewest-gpus", best.method, cost, bound, _round_gap((cost - bound) / cost))
    return _describe(task, best, proof)


def plan_most_throughput(task: Task, time_limit_s: float = 30.0, gap: float = 0.0) -> PlannedPlacement | None:
    """The placement that serves the most requests per second, none of a domain beyond its rate, on the task's nodes.

    Every domain has at least one replica. None when not even that finds room.
    """
    answers: list[_Answer] = []
    scaled = scale_greedily(task)
    if scaled is not None:
        answers.append(_Answer(*scaled, "greedy"))
    solution, solved = _solve(task, "most-throughput", time_limit_s, gap)
    answers += solved
    whole = [answer for answer in answers if not answer.packing.left]
    if not whole:
        return None
    best = max(whole, key=lambda answer: (_measure_served(answer.selection), -answer.packing.cost))
    served = _measure_served(best.selection)
    bound = max(served, min(-solution.bound, sum(task.rates.values())))
    proof = Proof("most-throughput", best.method, served, bound, _round_gap((bound - served) / bound if bound else 0.0))
    return _describe(task, best, proof)


def _solve(task: Task, goal: Goal, time_limit_s: float, gap: float) -> tuple[Solution, list[_Answer]]:
    """The integer program's solution, and what it makes of the task where it found one."""
    built = build_program(task, goal)
    solution = solve_program(built.program, time_limit_s, gap)
    if solution.values is None:
        return solution, []
    selection = built.read_selection(solution.values)
    packing = pack_selection(task, selection, built.read_patterns(solution.values))
    return solution, [_Answer(selection, packing, "integer program")]


def _round_gap(gap: float) -> float:
    """What solvers leave of a closed gap is their tolerance."""
    return max(0.0, round(gap, 6))


def _find_step(task: Task) -> int:
    """The greatest number of hundredths that every cost is a multiple of."""
    steps = [GPU_COST * candidate.bin.gpus or MACHINE_COST for some in task.candidates.values() for candidate in some]
    return gcd(*steps, *([START_COST] if task.current else []))


def _measure_served(selection: Selection) -> float:
    return sum(sum(choice.rates.values()) for choice in selection.values())


def _describe(task: Task, answer: _Answer, proof: Proof) -> PlannedPlacement:
    settings = []
    services = []
    for name in task.engines:
        choice = answer.selection.get(name)
        if choice is None:
            continue
        candidate = choice.candidate
        load = candidate.measure_load(choice.rates) / choice.replicas
        share = candidate.share if candidate.bin.gpus else None
        settings.append(
            EngineSetting(
                name, candidate.bin.node_type, max(1, candidate.bin.gpus), share, choice.replicas, round(load, 4)
            )
        )
        services += [DomainService(domain, name, task.rates[domain], rate) for domain, rate in choice.rates.items()]
    order = list(task.choices)
    services.sort(key=lambda service: order.index(service.domain))
    packing = answer.packing
    return PlannedPlacement(
        Placement(packing.assignments, ()),
        tuple(settings),
        tuple(services),
        packing.gpus,
        packing.machines,
        packing.started,
        proof,
    )

"""A first answer in milliseconds: each engine runs as what takes the least of a GPU for its rates."""

from collections.abc import Mapping

from cluster.candidates import SHARE_UNITS, Candidate, Task
from cluster.packing import START_COST, Choice, Packing, Selection, matches, pack_selection

_BISECTIONS = 12


def choose_greedily(task: Task, rates: Mapping[str, float]) -> Selection | None:
    """The candidate with the smallest sum of shares for every engine; None where a domain has no candidate.

    A domain with several variants takes the one that adds least to what was chosen before.
    """
    selection: dict[str, Choice] = {}
    order = sorted(task.choices, key=lambda domain: (len(task.choices[domain]), -rates[domain]))
    for domain in order:
        options = []
        for engine in task.choices[domain]:
            before = selection.get(engine)
            served = {**(before.rates if before else {}), domain: rates[domain]}
            choice = _choose_candidate(task, engine, served)
            if choice is not None:
                added = _measure(task, choice) - (_measure(task, before) if before else 0.0)
                options.append((added, choice))
        if not options:
            return None
        _, best = min(options, key=lambda option: option[0])
        selection[best.candidate.engine] = best
    return selection


def scale_greedily(task: Task) -> tuple[Selection, Packing] | None:
    """A selection for the largest common part of all rates that finds room; None where one replica each does not."""
    best: tuple[Selection, Packing] | None = None
    low, high = 0.0, 1.0
    part = 1.0
    for _ in range(_BISECTIONS):
        found = _try_part(task, part)
        if found is None:
            high = part
        else:
            best, low = found, part
            if part == 1.0:
                return best
        part = (low + high) / 2
    return best or _try_part(task, 0.0)


def _try_part(task: Task, part: float) -> tuple[Selection, Packing] | None:
    selection = choose_greedily(task, {domain: rate * part for domain, rate in task.rates.items()})
    if selection is None:
        return None
    packing = pack_selection(task, selection)
    return None if packing.left else (selection, packing)


def _choose_candidate(task: Task, engine: str, rates: Mapping[str, float]) -> Choice | None:
    least = max(1, task.engines[engine].replicas.min)
    choices = [
        Choice(candidate, max(least, candidate.count_replicas(rates)), rates)
        for candidate in task.candidates[engine]
        if all(domain in candidate.capacities for domain in rates)
    ]
    return min(choices, key=lambda choice: (_measure(task, choice), choice.candidate.bin.gpus), default=None)


def _measure(task: Task, choice: Choice) -> float:
    """GPUs that a choice takes, CPUs where it takes none, and what it starts anew."""
    candidate = choice.candidate
    engine = task.engines[candidate.engine]
    size = candidate.bin.gpus * candidate.units / SHARE_UNITS if candidate.bin.gpus else engine.cpus
    return choice.replicas * size + (_count_started(task, candidate, choice.replicas) * START_COST / 100)


def _count_started(task: Task, candidate: Candidate, replicas: int) -> int:
    running = sum(
        assignment.engine == candidate.engine and matches(assignment, candidate) for assignment in task.current
    )
    return max(0, replicas - running) if task.current else 0

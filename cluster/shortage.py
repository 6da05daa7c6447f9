"""Why rates cannot be served: which engine lacks which resource, and the smallest change that would do."""

from collections.abc import Mapping
from dataclasses import replace
from math import ceil, inf

import numpy as np

from cluster.accelerators import GPU_MEMORY_SHARE
from cluster.candidates import Bin, Task, find_gpu_memory, find_link, find_slo, find_steps, list_bins
from cluster.capacity import compute_least_slo
from cluster.cost_model import Build, compute_budget, compute_memory
from cluster.demand import Demand
from cluster.greedy_selection import choose_greedily
from cluster.integer_program import solve_program
from cluster.model_shape import find_shape
from cluster.packing import Packing, Selection, pack_selection
from cluster.placement import Change, Resource, Shortage, Unplaced
from cluster.placement_program import build_program
from cluster.profile import Profile
from experts.fleet import Engine, Fleet

# vLLM's KV blocks hold 16 tokens on GPUs; a context length in larger steps reads better.
_CONTEXT_STEP = 64
# The counted program leaves out what single machines hold; more than this on top would mean it was wrong.
_MOST_EXTRA = 3


def observe_unservable(fleet: Fleet, demand: Demand, profile: Profile, task: Task) -> tuple[Unplaced, ...]:
    """Domains that no candidate carries, however many machines there were, each with its first variant's engine."""
    found = (
        _observe_engine(fleet, demand, profile, domain, engines[0])
        for domain, engines in task.choices.items()
        if not any(domain in candidate.capacities for engine in engines for candidate in task.candidates[engine])
    )
    return tuple(dict.fromkeys(found))


def observe_shortage(task: Task, time_limit_s: float) -> tuple[Unplaced, ...]:
    """Engines without room for all of their replicas, and the fewest machines to add so that all of them have it."""
    built = build_program(task, "fewest-machines-added")
    solution = solve_program(built.program, time_limit_s, 0.0)
    if solution.values is None:
        selection, added = choose_greedily(task, task.rates), dict[str, int]()
    else:
        selection, added = built.read_selection(solution.values), built.read_added(solution.values)
    if selection is None:
        raise AssertionError("every domain has a candidate")
    enough = _add_machines(task, selection, added)
    packing = pack_selection(task, selection)
    left = packing.left or {name: choice.replicas for name, choice in selection.items()}
    return tuple(_observe_left(task, selection, packing, engine, count, enough) for engine, count in left.items())


def _add_machines(task: Task, selection: Selection, added: Mapping[str, int]) -> Mapping[str, int]:
    """Machines by node type with which a selection finds room; empty when the few that were tried do not do."""
    used = {choice.candidate.bin.node_type for choice in selection.values()}
    for extra in range(_MOST_EXTRA + 1):
        counts = {
            name: node_type.count + added.get(name, 0) + (extra if name in (added or used) else 0)
            for name, node_type in task.nodes.items()
        }
        nodes = {name: task.nodes[name].model_copy(update={"count": count}) for name, count in counts.items()}
        if not pack_selection(replace(task, nodes=nodes), selection).left:
            return {name: count for name, count in counts.items() if count > task.nodes[name].count}
    return {}


def _observe_left(
    task: Task, selection: Selection, packing: Packing, engine: str, count: int, enough: Mapping[str, int]
) -> Unplaced:
    candidate = selection[engine].candidate
    name = candidate.bin.node_type
    node_type = task.nodes[name]
    change = Change(f"nodes.{name}.count", node_type.count, enough[name]) if name in enough else None
    mine = [share for one in packing.assignments for share in one.shares if share.node.node_type == name]
    resource: Resource = "gpus"
    if candidate.bin.gpus:
        needed = count * candidate.bin.gpus * candidate.share
        free = node_type.count * node_type.gpus - sum(gpu.share for share in mine for gpu in share.gpus)
    else:
        resource = "cpus"
        needed = count * task.engines[engine].cpus
        free = node_type.count * node_type.cpus - sum(share.cpus for share in mine)
    shortage = Shortage(resource, round(needed, 4), max(0.0, round(free, 4)), max(0.0, round(free, 4)))
    return Unplaced(engine, count, None, (shortage,), change)


def _observe_engine(fleet: Fleet, demand: Demand, profile: Profile, domain: str, name: str) -> Unplaced:
    engine = fleet.engines[name]
    bins = [
        place
        for type_name, node_type in fleet.nodes.items()
        if engine.node_type in (None, type_name)
        for place in list_bins(type_name, node_type, find_link(node_type), engine)
    ]
    if not bins:
        return Unplaced(name, 1, None, (), None)
    build = Build.of(engine, find_shape(engine.model, demand.models))
    unplaced = _observe_memory(fleet, name, build, bins)
    return unplaced or _observe_slo(fleet, demand, profile, domain, name, build, bins)


def _observe_memory(fleet: Fleet, name: str, build: Build, bins: list[Bin]) -> Unplaced | None:
    """The lack of memory for weights and one longest sequence, where a replica lacks least; None where it fits."""
    engine = fleet.engines[name]
    rooms = {place: _measure_room(fleet, engine, build, place) for place in bins}
    best = max(bins, key=lambda place: rooms[place])
    if rooms[best] >= engine.max_model_len:
        return None
    memory = compute_memory(build, max(1, best.gpus), engine.max_num_seqs)
    sequence_gib = engine.max_model_len * memory.kv_gib_per_token
    if not best.gpus:
        shortage = Shortage("memory_gib", round(sequence_gib, 3), engine.kv_cache_gib, engine.kv_cache_gib)
        proposed = ceil(sequence_gib * 100) / 100
        return Unplaced(
            name, 1, None, (shortage,), Change(f"engines.{name}.kv_cache_gib", engine.kv_cache_gib, proposed)
        )
    size = find_gpu_memory(fleet.nodes[best.node_type])
    needed = (memory.fixed_gib + sequence_gib) / GPU_MEMORY_SHARE
    shorter = int(rooms[best] // _CONTEXT_STEP) * _CONTEXT_STEP
    # Half the context is another engine; then only a larger GPU helps.
    if shorter >= engine.max_model_len / 2:
        change = Change(f"engines.{name}.max_model_len", engine.max_model_len, shorter)
    else:
        change = Change(f"nodes.{best.node_type}.gpu_memory_gib", size, ceil(needed))
    return Unplaced(name, 1, None, (Shortage("gpu_memory_gib", round(needed, 2), size, size),), change)


def _measure_room(fleet: Fleet, engine: Engine, build: Build, place: Bin) -> float:
    """Tokens of KV cache on a whole mesh, or of a CPU engine."""
    memory = compute_memory(build, max(1, place.gpus), engine.max_num_seqs)
    if not place.gpus:
        return engine.kv_cache_gib / memory.kv_gib_per_token
    budget = compute_budget(np.ones(1), find_gpu_memory(fleet.nodes[place.node_type]))
    return float(memory.measure_kv_room(budget)[0])


def _observe_slo(
    fleet: Fleet, demand: Demand, profile: Profile, domain: str, name: str, build: Build, bins: list[Bin]
) -> Unplaced:
    """The SLO that holds on none of the meshes that the engine fits, where it is missed by least."""
    engine, slo = fleet.engines[name], find_slo(fleet, name)
    nearest: dict[Resource, float] = {}
    least = inf
    for place in bins:
        if _measure_room(fleet, engine, build, place) < engine.max_model_len:
            continue
        steps = find_steps(engine, build, fleet.nodes[place.node_type], max(1, place.gpus), profile)
        reached = compute_least_slo(steps, demand.domains[domain])
        missed = max(reached.ttft_s / slo.ttft_s, reached.tpot_s / slo.tpot_s)
        if missed < least:
            least, nearest = missed, {"ttft_s": reached.ttft_s, "tpot_s": reached.tpot_s}
    allowed: dict[Resource, float] = {"ttft_s": slo.ttft_s, "tpot_s": slo.tpot_s}
    lacking = {key: ceil(value * 1000) / 1000 for key, value in nearest.items() if value > allowed[key]}
    shortages = tuple(Shortage(key, value, allowed[key], allowed[key]) for key, value in lacking.items())
    change = None
    if len(lacking) == 1:
        ((key, value),) = lacking.items()
        strictest = [one for one, settings in fleet.domains_of(name).items() if getattr(settings.slo, key) < value]
        if len(strictest) == 1:
            change = Change(f"domains.{strictest[0]}.slo.{key}", allowed[key], value)
    return Unplaced(name, 1, None, shortages, change)

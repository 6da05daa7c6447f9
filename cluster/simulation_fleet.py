"""What a simulation runs of a fleet file: its placed replicas with their step times, KV caches and nodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.candidates import find_gpu_memory, find_slo, find_steps
from cluster.cost_model import GIB, Build, Roofline, compute_budget, compute_memory
from cluster.model_shape import find_shape
from cluster.placement import Assignment
from cluster.profile import Profile
from cluster.simulation import PlacedReplica, Share
from cluster.simulation_engine import ReplicaSettings
from cluster.simulation_sharing import NodeSharing, SharedReplica
from cluster.step_times import StepTimes
from experts.errors import ConfigurationError
from experts.fleet import Engine, Fleet

# vLLM 0.29's defaults for an online server: tokens of a KV block, and of one step.
_BLOCK_TOKENS = {"cpu": 128, "gpu": 16}
_STEP_TOKENS = {"cpu": 2048, "gpu": 8192}


@dataclass(frozen=True, slots=True)
class SimulatedFleet:
    """Replicas, each domain's engine, each node's cores, how nodes are shared, and engines whose times are computed."""

    replicas: tuple[PlacedReplica, ...]
    engines: Mapping[str, str]
    cores: Mapping[str, float]
    share: Share | None
    computed: tuple[str, ...]


def list_simulated(
    fleet: Fleet, assignments: Sequence[Assignment], profile: Profile, models: Mapping[str, Mapping[str, Any]]
) -> SimulatedFleet:
    """The fleet as it is placed; each domain is answered by its first variant.

    Raises ConfigurationError where a model's or a GPU's numbers are unknown, or a replica could not start.
    """
    shared: list[SharedReplica] = []
    computed: dict[str, None] = {}
    for assignment in assignments:
        name = assignment.engine
        engine = fleet.engines[name]
        placed, kv_bytes_per_token, measured = _place(fleet, assignment, engine, profile, models)
        slo = find_slo(fleet, name) if fleet.domains_of(name) else next(iter(fleet.domains.values())).slo
        shared.append(SharedReplica(placed, kv_bytes_per_token, slo))
        if not measured:
            computed[name] = None
    replicas = tuple(one.placed for one in shared)
    cores = {one.node: fleet.nodes[one.node.rsplit("-", 1)[0]].cpus for one in replicas}
    engines = {name: next(iter(domain.variants.values())).engine for name, domain in fleet.domains.items()}
    missing = sorted(set(engines.values()) - {one.settings.engine for one in replicas})
    if missing:
        raise ConfigurationError(
            f"engine '{missing[0]}' has no replica in this placement, and domains need it; set its replicas.min to 1 "
            "or more, or give another --placement"
        )
    return SimulatedFleet(replicas, engines, cores, _choose_share(fleet, shared, cores), tuple(computed))


def _choose_share(fleet: Fleet, shared: Sequence[SharedReplica], cores: Mapping[str, float]) -> Share | None:
    """Quotas and turns where CPU engines share KV memory or have fewer cores than threads; GPU engines have neither."""
    if any(engine.device == "gpu" for engine in fleet.engines.values()):
        return None
    threads = dict.fromkeys(cores, 0.0)
    for one in shared:
        threads[one.placed.node] += one.placed.threads
    if fleet.sharing is None and all(threads[node] <= number for node, number in cores.items()):
        return None
    kv_bytes = int(fleet.sharing.kv_cache_gib * GIB) if fleet.sharing is not None else None
    return NodeSharing(shared, cores, kv_bytes).share


def _place(
    fleet: Fleet, assignment: Assignment, engine: Engine, profile: Profile, models: Mapping[str, Mapping[str, Any]]
) -> tuple[PlacedReplica, float, bool]:
    """A replica, the bytes of one token's keys and values, and whether its times were measured."""
    on = assignment.shares[0]
    node_type = fleet.nodes[on.node.node_type]
    gpus = len(on.gpus)
    build = Build.of(engine, find_shape(engine.model, models))
    memory = compute_memory(build, max(1, gpus), engine.max_num_seqs)
    share = on.gpus[0].share if gpus else 1.0
    if gpus:
        room = float(memory.measure_kv_room(compute_budget(np.array([share]), find_gpu_memory(node_type)))[0])
    else:
        room = engine.kv_cache_gib / memory.kv_gib_per_token
    block = _BLOCK_TOKENS[engine.device]
    kv_tokens = int(room) // block * block
    if kv_tokens < engine.max_model_len:
        raise ConfigurationError(
            f"engine '{assignment.engine}' has room for {max(0, kv_tokens)} tokens of KV cache on {on.node}, its "
            f"context is {engine.max_model_len}; give it more memory or a shorter max_model_len"
        )
    steps = find_steps(engine, build, node_type, max(1, gpus), profile)
    placed = PlacedReplica(
        ReplicaSettings(
            assignment.engine, kv_tokens, block, engine.max_num_seqs, _STEP_TOKENS[engine.device], engine.max_model_len
        ),
        StepTimes(steps, share, engine.max_model_len),
        str(on.node),
        0.0 if gpus else float(max(1, int(engine.cpus))),
        sum(one.share for one in on.gpus),
    )
    return placed, memory.kv_gib_per_token * GIB, not isinstance(steps, Roofline)

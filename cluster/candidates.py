"""What a placement chooses from: for each engine the ways in which one replica may run, and what each way carries.

A candidate is a node type, a tensor parallelism and a share of each GPU (MuxServe's parallel candidates, arXiv
2404.02015, algorithm 2). GPUs that a split replica takes form a mesh; whoever shares one of them shares all of them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np

from cluster.accelerators import ACCELERATORS, CPU, CPU_CORE, Accelerator
from cluster.capacity import LIMITS, Limit, compute_capacity
from cluster.cost_model import Build, Roofline, Steps, compute_budget, compute_memory
from cluster.demand import Demand, Spread, Traffic
from cluster.model_shape import find_shape
from cluster.placement import Assignment
from cluster.profile import Profile
from experts.errors import ConfigurationError
from experts.fleet import Engine, Fleet, NodeType, Slo

# Shares are multiples of a twentieth of a GPU. Over the five small cases of `make bench-planner`, tenths take 123 GPUs,
# twentieths 118, fortieths 116 in about twice the time.
SHARE_UNITS = 20
# Beyond these, tensor parallelism leaves a machine.
_SPLITS = (1, 2, 4, 8)
# Loads are sums of floats; what is this little over a whole number of replicas fits them.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Bin:
    """A kind of place: meshes of `gpus` GPUs each on machines of a node type, or, with 0 GPUs, those machines."""

    node_type: str
    gpus: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to run a replica: on `units` twentieths of each GPU of a mesh, or, with 0 units, on a machine's CPUs.

    `capacities` are requests per second by domain, of that domain alone; `limits` say what forbids more.
    """

    engine: str
    bin: Bin
    units: int
    capacities: Mapping[str, float]
    limits: Mapping[str, Limit]

    @property
    def share(self) -> float:
        """Of each GPU of its mesh; 1 on CPUs, which are its own."""
        return self.units / SHARE_UNITS if self.bin.gpus else 1.0

    def measure_load(self, rates: Mapping[str, float]) -> float:
        """Replicas that rates by domain need, not rounded; domains mix in proportion to their times."""
        return sum(rate / self.capacities[domain] for domain, rate in rates.items())

    def count_replicas(self, rates: Mapping[str, float]) -> int:
        return max(1, ceil(self.measure_load(rates) - _ROUNDING))


@dataclass(frozen=True, slots=True)
class Task:
    """A placement's question: who must be served, by which candidates, on what, and what runs now.

    `rates` are requests per second by domain, `choices` the engines of its variants; engines that no domain may take
    have no candidates.
    """

    engines: Mapping[str, Engine]
    rates: Mapping[str, float]
    choices: Mapping[str, tuple[str, ...]]
    candidates: Mapping[str, tuple[Candidate, ...]]
    nodes: Mapping[str, NodeType]
    spread: Mapping[str, Spread]
    current: tuple[Assignment, ...]

    def domains_of(self, engine: str) -> tuple[str, ...]:
        return tuple(domain for domain, engines in self.choices.items() if engine in engines)


def list_task(fleet: Fleet, demand: Demand, profile: Profile, current: tuple[Assignment, ...] = ()) -> Task:
    """The task of a fleet at given rates; raises ConfigurationError where a GPU's or a model's numbers are unknown."""
    choices = {
        name: tuple(dict.fromkeys(variant.engine for variant in domain.variants.values()))
        for name, domain in fleet.domains.items()
    }
    known: dict[object, tuple[Candidate, ...]] = {}
    return Task(
        engines=fleet.engines,
        rates={name: demand.domains[name].requests_per_s for name in fleet.domains},
        choices=choices,
        candidates={name: _list_candidates(fleet, demand, profile, name, known) for name in fleet.engines},
        nodes=fleet.nodes,
        spread=demand.spread,
        current=current,
    )


def find_steps(engine: Engine, build: Build, node_type: NodeType, workers: int, profile: Profile) -> Steps:
    """Step times of an engine on one node type: as measured, else from the roofline."""
    gpu = CPU if engine.device == "cpu" else (node_type.gpu_type or "")
    measured = profile.steps.get((engine.model, gpu, workers))
    if measured is not None:
        return measured
    if engine.device == "cpu":
        return Roofline(build, CPU_CORE, max(1, int(engine.cpus)))
    return Roofline(build, find_accelerator(node_type), workers)


def find_accelerator(node_type: NodeType) -> Accelerator:
    """The GPU of a node type; raises ConfigurationError when its type is not known."""
    accelerator = ACCELERATORS.get(node_type.gpu_type or "")
    if accelerator is None:
        raise ConfigurationError(
            f"the GPU type '{node_type.gpu_type}' has no known bandwidth and FLOP/s; set gpu_type of the node type to "
            f"one of {', '.join(ACCELERATORS)}, or measure every model on it and give the profile"
        )
    return accelerator


def find_gpu_memory(node_type: NodeType) -> float:
    """GiB of one GPU: the fleet file's, else the type's."""
    return node_type.gpu_memory_gib or find_accelerator(node_type).memory_gib


def find_link(node_type: NodeType) -> int:
    """GPUs of one machine over which a replica may be split: all that NVLink joins, or all where there is none."""
    accelerator = ACCELERATORS.get(node_type.gpu_type or "")
    group = accelerator.nvlink_group if accelerator is not None else 1
    return node_type.gpus if group == 1 else min(group, node_type.gpus)


def list_bins(name: str, node_type: NodeType, link: int, engine: Engine) -> Iterator[Bin]:
    if engine.device == "cpu":
        if not node_type.gpus and engine.cpus <= node_type.cpus and engine.kv_cache_gib <= node_type.memory_gib:
            yield Bin(name, 0)
    elif engine.cpus <= node_type.cpus:
        yield from (Bin(name, gpus) for gpus in _SPLITS if gpus <= link)


def _list_candidates(
    fleet: Fleet, demand: Demand, profile: Profile, name: str, known: dict[object, tuple[Candidate, ...]]
) -> tuple[Candidate, ...]:
    engine = fleet.engines[name]
    domains = list(fleet.domains_of(name))
    if not domains:
        return ()
    traffic = {domain: demand.domains[domain] for domain in domains}
    slo = find_slo(fleet, name)
    # Fleets repeat models; equal engines under equal traffic have equal candidates but for their names.
    key = (engine.model_copy(update={"replicas": None}), tuple(traffic.values()), slo.ttft_s, slo.tpot_s)
    found = known.get(key)
    if found is None:
        shape = find_shape(engine.model, demand.models)
        build = Build.of(engine, shape)
        found = tuple(
            candidate
            for type_name, node_type in fleet.nodes.items()
            if engine.node_type in (None, type_name)
            for place in list_bins(type_name, node_type, find_link(node_type), engine)
            for candidate in _carry(name, engine, build, place, node_type, profile, traffic, slo)
        )
        known[key] = found
    else:
        named = dict(zip(fleet.domains_of(found[0].engine), domains, strict=True)) if found else {}
        found = tuple(
            Candidate(
                name,
                old.bin,
                old.units,
                {named[domain]: rate for domain, rate in old.capacities.items()},
                {named[domain]: limit for domain, limit in old.limits.items()},
            )
            for old in found
        )
    return found


def find_slo(fleet: Fleet, engine: str) -> Slo:
    """The strictest of the SLOs of an engine's domains: they run in one batch."""
    slos = [domain.slo for domain in fleet.domains_of(engine).values()]
    return Slo(ttft_s=min(slo.ttft_s for slo in slos), tpot_s=min(slo.tpot_s for slo in slos))


def _carry(
    name: str,
    engine: Engine,
    build: Build,
    place: Bin,
    node_type: NodeType,
    profile: Profile,
    traffic: Mapping[str, Traffic],
    slo: Slo,
) -> Iterator[Candidate]:
    """The candidates of one bin: all shares whose memory fits and whose SLO holds."""
    workers = max(1, place.gpus)
    memory = compute_memory(build, workers, engine.max_num_seqs)
    if place.gpus:
        units = np.arange(1, SHARE_UNITS + 1)
        shares = units / SHARE_UNITS
        kv_room = memory.measure_kv_room(compute_budget(shares, find_gpu_memory(node_type)))
    else:
        # A CPU engine's KV cache is what its fleet file says; its cores are its own.
        units, shares = np.zeros(1, int), np.ones(1)
        kv_room = np.array([engine.kv_cache_gib / memory.kv_gib_per_token])
    # vLLM refuses to start where its longest sequence does not fit.
    fits = kv_room >= engine.max_model_len
    if not fits.any():
        return
    units, shares, kv_room = units[fits], shares[fits], kv_room[fits]
    steps = find_steps(engine, build, node_type, workers, profile)
    carried = {
        domain: compute_capacity(steps, shares, kv_room, engine.max_num_seqs, one, slo)
        for domain, one in traffic.items()
        if one.tokens <= engine.max_model_len
    }
    for place_in_rows, count in enumerate(units):
        capacities = {domain: float(capacity.requests_per_s[place_in_rows]) for domain, capacity in carried.items()}
        capacities = {domain: capacity for domain, capacity in capacities.items() if capacity}
        if capacities:
            limits = {domain: LIMITS[int(carried[domain].limits[place_in_rows])] for domain in capacities}
            yield Candidate(name, place, int(count), capacities, limits)

"""Planned placements: within every GPU, with every rate covered, and with a bound that brute force confirms."""

from collections import defaultdict
from dataclasses import replace
from functools import cache
from itertools import product
from math import ceil, inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.candidates import SHARE_UNITS, Task, list_task
from cluster.demand import Demand
from cluster.placement import Assignment, Carries, Node, apply_change, plan_placement
from cluster.planned_fleet import apply_planned
from cluster.planner import PlannedPlacement, plan_fewest_gpus, plan_for_rates, plan_most_throughput
from cluster.profile import Profile
from tests.cluster.planner_tasks import build_demand, build_fleet, build_task

BOX: dict[str, Any] = {"cpus": 64, "memory_gib": 256, "gpus": 4, "gpu_type": "H100"}
NOTHING_MEASURED = Profile({})

OPTIONS = st.lists(
    st.tuples(st.sampled_from([1, 2]), st.sampled_from([4, 7, 10, 13, 20]), st.sampled_from([0.5, 1.0, 2.5])),
    min_size=1,
    max_size=3,
    unique_by=lambda option: option[:2],
)


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    """Two to four engines on at most four GPUs."""
    options = draw(st.lists(OPTIONS, min_size=2, max_size=4))
    rates = [draw(st.sampled_from([0.0, 0.4, 1.0, 2.0])) for _ in options]
    return build_task(options, rates, machines=draw(st.integers(1, 2)), gpus=2)


@st.composite
def tasks_with_variants(draw: st.DrawFn) -> Task:
    """Two engines, either of which, or one of which, serves each of three domains."""
    options = draw(st.lists(OPTIONS, min_size=2, max_size=2))
    choices = [draw(st.sampled_from([(0,), (1,), (0, 1)])) for _ in range(3)]
    rates = [draw(st.sampled_from([0.1, 0.4, 1.0])) for _ in choices]
    return build_task(options, rates, machines=2, gpus=2, choices=choices)


def check_room(task: Task, planned: PlannedPlacement) -> None:
    """No GPU is shared beyond a whole one, GPUs of a mesh are shared by all or none, no machine lacks CPUs."""
    gpus: dict[Any, float] = defaultdict(float)
    widths: dict[Any, set[tuple[int, ...]]] = defaultdict(set)
    cpus: dict[Node, float] = defaultdict(float)
    for assignment in planned.placement.assignments:
        (share,) = assignment.shares
        node_type = task.nodes[share.node.node_type]
        assert 1 <= share.node.number <= node_type.count
        cpus[share.node] += share.cpus
        for gpu in share.gpus:
            assert 0 <= gpu.gpu < node_type.gpus
            gpus[share.node, gpu.gpu] += gpu.share
            widths[share.node, gpu.gpu].add(tuple(one.gpu for one in share.gpus))
    assert all(used <= 1 + 1e-9 for used in gpus.values())
    assert all(len(meshes) == 1 for meshes in widths.values())
    assert all(used <= task.nodes[node.node_type].cpus + 1e-9 for node, used in cpus.items())
    assert len(gpus) == planned.gpus


def check_rates(task: Task, planned: PlannedPlacement) -> None:
    """Every domain is served, by an engine of its own, whose replicas have the capacity for all that they serve."""
    replicas = defaultdict(list)
    for assignment in planned.placement.assignments:
        replicas[assignment.engine].append(assignment)
    assert {service.domain for service in planned.domains} == set(task.rates)
    for setting in planned.engines:
        (candidate,) = (
            one
            for one in task.candidates[setting.engine]
            if (max(1, one.bin.gpus), one.share) == (setting.tensor_parallel, setting.gpus)
        )
        work = [one for one in planned.domains if one.engine == setting.engine]
        needed = sum(one.served_per_s / candidate.capacities[one.domain] for one in work)
        assert len(replicas[setting.engine]) == setting.replicas >= needed - 1e-6
        assert [one.replica for one in replicas[setting.engine]] == list(range(1, setting.replicas + 1))
    assert all(service.engine in task.choices[service.domain] for service in planned.domains)


def search_fewest(task: Task) -> float:
    """The fewest GPUs of all choices of variants, candidates and packings; infinite when none fits."""
    fewest = inf
    domains = list(task.rates)
    for engines in product(*(task.choices[domain] for domain in domains)):
        rates: dict[str, dict[str, float]] = defaultdict(dict)
        for domain, engine in zip(domains, engines, strict=True):
            rates[engine][domain] = task.rates[domain]
        for chosen in product(*(task.candidates[engine] for engine in rates)):
            sizes: dict[int, list[int]] = defaultdict(list)
            for candidate, served in zip(chosen, rates.values(), strict=True):
                load = sum(rate / candidate.capacities[domain] for domain, rate in served.items())
                sizes[candidate.bin.gpus] += [candidate.units] * max(1, ceil(load - 1e-9))
            fewest = min(fewest, count_gpus(task, sizes))
    return fewest


def count_gpus(task: Task, sizes: dict[int, list[int]]) -> float:
    if any(len(units) > 12 for units in sizes.values()):
        return inf
    meshes = {width: pack_exactly(tuple(sorted(units, reverse=True)), ()) for width, units in sizes.items()}
    gpus = sum(width * count for width, count in meshes.items())
    # With two GPUs a machine, wide meshes first and single ones in what is left always fit.
    return gpus if gpus <= 2 * task.nodes["box"].count else inf


@cache
def pack_exactly(units: tuple[int, ...], filled: tuple[int, ...]) -> int:
    """The fewest bins of a whole share, tried in every way."""
    if not units:
        return len(filled)
    first, rest = units[0], units[1:]
    ways = {
        tuple(sorted((*filled[:place], used + first, *filled[place + 1 :])))
        for place, used in enumerate(filled)
        if used + first <= SHARE_UNITS
    }
    ways.add(tuple(sorted((*filled, first))))
    return min(pack_exactly(rest, way) for way in ways)


@settings(max_examples=25, deadline=None)
@given(st.one_of(tasks(), tasks_with_variants()))
def test_the_fewest_gpus_are_what_brute_force_finds_and_the_bound_is_not_above(task: Task) -> None:
    best = search_fewest(task)
    planned = plan_fewest_gpus(task, 10)
    if planned is None:
        assert best == inf
        return
    assert planned.proof is not None
    assert planned.proof.bound <= 100 * best
    assert planned.gpus == best
    assert planned.proof.gap == 0
    check_room(task, planned)
    check_rates(task, planned)


@settings(max_examples=20, deadline=None)
@given(tasks())
def test_the_most_throughput_serves_all_rates_where_they_fit_and_never_beyond_its_bound(task: Task) -> None:
    planned = plan_most_throughput(task, 10)
    if planned is None:
        return
    assert planned.proof is not None
    check_room(task, planned)
    check_rates(task, planned)
    served = {service.domain: service.served_per_s for service in planned.domains}
    assert all(served[domain] <= rate + 1e-6 for domain, rate in task.rates.items())
    assert planned.proof.value <= planned.proof.bound + 1e-6
    if search_fewest(task) < inf:
        assert planned.proof.value == pytest.approx(sum(task.rates.values()))


def test_replicas_that_a_fleet_spreads_over_nodes_have_a_node_each() -> None:
    task = build_task([[(1, 5, 1.0)], [(1, 10, 1.0)]], [3.0, 1.0], machines=3, gpus=2)
    together = plan_fewest_gpus(task)
    apart = plan_fewest_gpus(replace(task, spread={"e0": "node"}))
    assert together is not None
    assert apart is not None
    nodes = {one.shares[0].node for one in apart.placement.assignments if one.engine == "e0"}
    assert (together.gpus, apart.gpus, len(nodes)) == (2, 3, 3)


def test_cpus_of_single_machines_are_kept_even_where_all_machines_together_have_enough() -> None:
    task = build_task([[(1, 5, 1.0)]], [4.0], machines=4, gpus=1, cpus=1.5)
    planned = plan_fewest_gpus(task)
    assert planned is not None
    check_room(task, planned)
    assert planned.gpus == 4


def test_a_second_plan_at_the_same_rates_starts_nothing() -> None:
    fleet = build_fleet({name: {} for name in "abcdef"}, {"box": BOX | {"count": 2}}, ttft_s=2, tpot_s=0.1)
    demand = build_demand({name: 1.0 + place for place, name in enumerate("abcdef")})
    first = plan_for_rates(fleet, demand, NOTHING_MEASURED, "fewest-gpus")
    again = plan_for_rates(fleet, demand, NOTHING_MEASURED, "fewest-gpus", first.placement.assignments)
    assert again.started == 0
    assert {(one.engine, one.replica, one.shares) for one in again.placement.assignments} == {
        (one.engine, one.replica, one.shares) for one in first.placement.assignments
    }
    assert all(isinstance(one.reason, Carries) and one.reason.ran for one in again.placement.assignments)


def test_a_plan_after_one_rate_grew_moves_nothing_that_still_fits() -> None:
    fleet = build_fleet({name: {} for name in "abcd"}, {"box": BOX}, ttft_s=2, tpot_s=0.1)
    rates = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 1.0}
    first = plan_for_rates(fleet, build_demand(rates), NOTHING_MEASURED, "fewest-gpus")
    running = first.placement.assignments
    grown = build_demand(rates | {"a": 8.0})
    after = plan_for_rates(fleet, grown, NOTHING_MEASURED, "fewest-gpus", running)
    kept = {one.engine for one in after.placement.assignments if isinstance(one.reason, Carries) and one.reason.ran}
    assert kept >= {"b", "c", "d"}
    assert after.started == sum(one not in places(running) for one in places(after.placement.assignments))


def places(assignments: tuple[Assignment, ...]) -> list[Any]:
    return [(one.engine, one.shares) for one in assignments]


@pytest.mark.parametrize(
    ("engine", "node", "rate", "resource", "key"),
    [
        ({}, {"gpus": 1, "count": 1}, 60.0, "gpus", "nodes.box.count"),
        (
            {"max_model_len": 32768},
            {"gpus": 1, "gpu_memory_gib": 15},
            1.0,
            "gpu_memory_gib",
            "nodes.box.gpu_memory_gib",
        ),
        (
            {"max_model_len": 32768},
            {"gpus": 1, "gpu_memory_gib": 17.6},
            0.1,
            "gpu_memory_gib",
            "engines.a.max_model_len",
        ),
    ],
)
def test_rates_that_do_not_fit_name_the_engine_the_resource_and_a_change_that_does(
    engine: dict[str, Any], node: dict[str, Any], rate: float, resource: str, key: str
) -> None:
    fleet = build_fleet({"a": engine}, {"box": BOX | node}, ttft_s=2, tpot_s=0.1)
    demand = build_demand({"a": rate})
    (unplaced,) = plan_for_rates(fleet, demand, NOTHING_MEASURED, "fewest-gpus").placement.unplaced
    assert unplaced.engine == "a"
    assert unplaced.shortages[0].resource == resource
    assert unplaced.change is not None
    assert unplaced.change.key == key
    changed = apply_change(fleet, unplaced.change)
    assert plan_for_rates(changed, demand, NOTHING_MEASURED, "fewest-gpus").placement.unplaced == ()
    if unplaced.change.key == "nodes.box.count":
        less = unplaced.change.__class__(unplaced.change.key, unplaced.change.current, unplaced.change.proposed - 1)
        assert plan_for_rates(apply_change(fleet, less), demand, NOTHING_MEASURED, "fewest-gpus").placement.unplaced


@pytest.mark.parametrize("promise", ["ttft_s", "tpot_s"])
def test_an_slo_that_no_gpu_keeps_names_the_one_that_it_would(promise: str) -> None:
    slo = {"ttft_s": 2.0, "tpot_s": 0.1} | {promise: 0.001}
    fleet = build_fleet({"a": {}}, {"box": BOX}, **slo)
    demand = build_demand({"a": 0.1})
    (unplaced,) = plan_for_rates(fleet, demand, NOTHING_MEASURED, "fewest-gpus").placement.unplaced
    assert [shortage.resource for shortage in unplaced.shortages] == [promise]
    assert unplaced.change is not None
    assert unplaced.change.key == f"domains.a.slo.{promise}"
    changed = apply_change(fleet, unplaced.change)
    relaxed = demand.model_copy(update={"domains": {"a": demand.domains["a"].model_copy(update={"requests_per_s": 0})}})
    assert plan_for_rates(changed, relaxed, NOTHING_MEASURED, "fewest-gpus").placement.unplaced == ()


def test_a_planned_fleet_has_the_chosen_variants_and_fits_its_machines() -> None:
    fleet = build_fleet({"a": {}, "b": {"quantization": "fp8"}}, {"box": BOX}, ttft_s=2, tpot_s=0.1)
    both = fleet.domains["a"].model_copy(
        update={"variants": fleet.domains["a"].variants | {"fp8": fleet.domains["b"].variants["full"]}}
    )
    fleet = fleet.model_copy(update={"domains": {"a": both}})
    planned = plan_for_rates(fleet, build_demand({"a": 1.0}), NOTHING_MEASURED, "fewest-gpus")
    after = apply_planned(fleet, planned)
    assert list(after.engines) == [planned.domains[0].engine]
    assert [variant.engine for variant in after.domains["a"].variants.values()] == list(after.engines)
    (setting,) = planned.engines
    engine = after.engines[setting.engine]
    assert (engine.gpus, engine.tensor_parallel, engine.replicas.min) == (setting.gpus, 1, setting.replicas)
    assert plan_placement(after).unplaced == ()


def test_experts_that_are_adapters_on_one_base_share_its_replicas() -> None:
    fleet = build_fleet({"base": {"max_adapters": 4}}, {"box": BOX}, ttft_s=2, tpot_s=0.1)
    shared = {
        name: fleet.domains["base"].model_copy(update={"variants": {"adapter": fleet.domains["base"].variants["full"]}})
        for name in "abcd"
    }
    fleet = fleet.model_copy(update={"domains": shared, "generalist": "a"})
    planned = plan_for_rates(fleet, build_demand(dict.fromkeys("abcd", 0.5)), NOTHING_MEASURED, "fewest-gpus")
    alone = plan_for_rates(
        build_fleet({name: {} for name in "abcd"}, {"box": BOX}, ttft_s=2, tpot_s=0.1),
        build_demand(dict.fromkeys("abcd", 0.5)),
        NOTHING_MEASURED,
        "fewest-gpus",
    )
    assert len(planned.placement.assignments) == 1
    assert sum_shares(planned) < sum_shares(alone) / 2


def sum_shares(planned: PlannedPlacement) -> float:
    return sum(gpu.share for one in planned.placement.assignments for gpu in one.shares[0].gpus)


@settings(max_examples=10, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcde"), st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=3),
    st.sampled_from(["none", "fp8", "awq"]),
    st.sampled_from(["H100", "A100-80G", "L40S"]),
)
def test_every_planned_engine_has_memory_for_its_weights_and_longest_sequence(
    rates: dict[str, float], quantization: str, gpu: str
) -> None:
    fleet = build_fleet(
        {name: {"quantization": quantization} for name in rates},
        {"box": BOX | {"gpu_type": gpu, "count": 2}},
        ttft_s=2,
        tpot_s=0.2,
    )
    demand: Demand = build_demand(rates)
    planned = plan_for_rates(fleet, demand, NOTHING_MEASURED, "fewest-gpus")
    assert planned.placement.unplaced == ()
    weights_gib = {"none": 14.1, "fp8": 8.0, "awq": 5.2}[quantization]
    memory_gib = {"H100": 79, "A100-80G": 79, "L40S": 44}[gpu]
    for setting in planned.engines:
        assert setting.gpus is not None
        kv_gib = 56 / 2**20 * 4096 / setting.tensor_parallel
        assert weights_gib / setting.tensor_parallel + kv_gib < 0.92 * setting.gpus * memory_gib
    check_room(list_task(fleet, demand, NOTHING_MEASURED), planned)

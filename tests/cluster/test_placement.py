"""Placement never over-commits a node, and says why an engine has no place and what would make one."""

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.placement import Change, FirstFit, Placement, apply_change, describe_placement, plan_placement
from experts.fleet import Fleet


def build_fleet(engines: dict[str, dict[str, Any]], nodes: dict[str, dict[str, Any]]) -> Fleet:
    """A fleet with one domain that uses every engine."""
    variants = {name: {"engine": name} for name in engines}
    return Fleet.model_validate(
        {
            "name": "test",
            "engines": {name: {"model": "a/b", **engine} for name, engine in engines.items()},
            "domains": {"all": {"description": "Everything there is.", "variants": variants}},
            "generalist": "all",
            "nodes": nodes,
        }
    )


def list_nodes(placement: Placement) -> dict[str, list[str]]:
    """The nodes of each engine's replicas."""
    nodes: dict[str, list[str]] = defaultdict(list)
    for assignment in placement.assignments:
        nodes[assignment.engine] += [str(share.node) for share in assignment.shares]
    return dict(nodes)


LAPTOP = {"cpus": 4, "memory_gib": 8}
GPU_NODE = {"cpus": 16, "memory_gib": 128, "gpus": 2}


def test_largest_engines_are_placed_first() -> None:
    engines = {name: {"cpus": cpus} for name, cpus in {"a": 1, "b": 3, "c": 1, "d": 3}.items()}
    placement = plan_placement(build_fleet(engines, {"laptop": {**LAPTOP, "count": 2}}))
    assert list_nodes(placement) == {"b": ["laptop-1"], "d": ["laptop-2"], "a": ["laptop-1"], "c": ["laptop-2"]}


def test_a_reason_says_at_which_turn_and_past_how_many_nodes() -> None:
    engines = {"a": {"cpus": 3}, "b": {"cpus": 2}}
    placement = plan_placement(build_fleet(engines, {"laptop": {**LAPTOP, "count": 2}}))
    reason = placement.assignments[1].reason
    assert isinstance(reason, FirstFit)
    assert (reason.turn, reason.nodes_passed) == (2, 1)
    assert reason.size == pytest.approx(2 / 4 + 0.5 / 8)


def test_gpu_shares_add_up_to_one_gpu() -> None:
    engines = {
        name: {"device": "gpu", "gpus": share} for name, share in {"a": 0.3, "b": 0.7, "c": 0.6, "d": 0.4}.items()
    }
    placement = plan_placement(build_fleet(engines, {"box": GPU_NODE}))
    gpus = {assignment.engine: assignment.shares[0].gpus[0].gpu for assignment in placement.assignments}
    assert gpus == {"b": 0, "c": 1, "d": 1, "a": 0}


def test_each_tensor_parallel_worker_has_a_gpu_of_its_own() -> None:
    placement = plan_placement(build_fleet({"a": {"device": "gpu", "tensor_parallel": 2}}, {"box": GPU_NODE}))
    assert [(gpu.gpu, gpu.share) for gpu in placement.assignments[0].shares[0].gpus] == [(0, 1), (1, 1)]


def test_every_kept_replica_is_placed_and_a_sleeping_engine_has_a_place_too() -> None:
    engines = {"busy": {"replicas": {"min": 3, "max": 5}}, "idle": {"replicas": {"min": 0}}}
    placement = plan_placement(build_fleet(engines, {"laptop": LAPTOP}))
    assert [(item.engine, item.replica) for item in placement.assignments] == [
        ("busy", 1),
        ("busy", 2),
        ("busy", 3),
        ("idle", 1),
    ]


def test_a_node_type_is_obeyed_and_cpu_engines_leave_gpu_nodes_alone() -> None:
    nodes = {"box": GPU_NODE, "laptop": LAPTOP}
    placement = plan_placement(build_fleet({"free": {}, "bound": {"node_type": "box"}}, nodes))
    assert list_nodes(placement) == {"free": ["laptop-1"], "bound": ["box-1"]}
    full = plan_placement(build_fleet({"a": {"cpus": 3}, "b": {"cpus": 3}}, nodes))
    assert (list_nodes(full), [miss.engine for miss in full.unplaced]) == ({"a": ["laptop-1"]}, ["b"])


@pytest.mark.parametrize(
    ("engines", "nodes", "resource", "needed", "largest_free", "change"),
    [
        ({"a": {"cpus": 3}, "b": {"cpus": 2}}, {"laptop": LAPTOP}, "cpus", 2, 1, Change("engines.b.cpus", 2, 1)),
        ({"a": {"cpus": 8}}, {"laptop": {**LAPTOP, "cpus": 2}}, "cpus", 8, 2, Change("nodes.laptop.cpus", 2, 8)),
        ({"a": {"kv_cache_gib": 10}}, {"l": LAPTOP}, "memory_gib", 10, 8, Change("engines.a.kv_cache_gib", 10, 8)),
        (
            {"a": {"replicas": {"min": 5, "max": 5}}},
            {"laptop": LAPTOP},
            "cpus",
            1,
            0,
            Change("engines.a.replicas.min", 5, 4),
        ),
        (
            {"a": {"device": "gpu", "gpus": 0.8}, "b": {"device": "gpu", "gpus": 0.7}},
            {"box": {**GPU_NODE, "gpus": 1}},
            "gpu_share",
            0.7,
            0.2,
            Change("nodes.box.count", 1, 2),
        ),
        (
            {"a": {"device": "gpu", "tensor_parallel": 4}},
            {"box": GPU_NODE},
            "gpus",
            4,
            2,
            Change("nodes.box.gpus", 2, 4),
        ),
    ],
)
def test_an_engine_without_a_place_names_the_resource_and_the_smallest_change(
    engines: dict[str, Any], nodes: dict[str, Any], resource: str, needed: float, largest_free: float, change: Change
) -> None:
    fleet = build_fleet(engines, nodes)
    (unplaced,) = plan_placement(fleet).unplaced
    (shortage,) = unplaced.shortages
    assert shortage.resource == resource
    assert shortage.needed == needed
    assert shortage.largest_free == pytest.approx(largest_free)
    assert unplaced.change == change
    assert plan_placement(apply_change(fleet, change)).unplaced == ()


def test_an_engine_that_no_single_change_places_says_so() -> None:
    fleet = build_fleet({"a": {"cpus": 8, "kv_cache_gib": 64}}, {"laptop": LAPTOP})
    (unplaced,) = plan_placement(fleet).unplaced
    assert {shortage.resource for shortage in unplaced.shortages} == {"cpus", "memory_gib"}
    assert unplaced.change is None


def test_a_description_has_a_line_for_each_node_and_each_engine_without_a_place() -> None:
    engines: dict[str, dict[str, Any]]
    engines = {
        "a": {"cpus": 3},
        "b": {"cpus": 2, "node_type": "box"},
        "c": {"device": "gpu", "node_type": "box", "gpus": 0.5},
    }
    assert describe_placement(plan_placement(build_fleet(engines, {"box": GPU_NODE, "laptop": LAPTOP}))) == (
        "box-1: c (1 CPU, 0.5 of GPU 0); b (2 CPUs, 0.5 GiB of KV cache)",
        "laptop-1: a (3 CPUs, 0.5 GiB of KV cache)",
    )
    assert describe_placement(
        plan_placement(build_fleet({"a": {"cpus": 3}, "b": {"cpus": 2}}, {"laptop": LAPTOP}))
    ) == (
        "laptop-1: a (3 CPUs, 0.5 GiB of KV cache)",
        "engine 'b' has no room for 1 replica: cpus 2 needed, 1 free at most (nearest: laptop-1); "
        "change engines.b.cpus from 2 to 1",
    )


SHARES = st.sampled_from([0.1, 0.15, 0.25, 0.3, 0.5, 0.9, 1])
CPU_ENGINES = st.fixed_dictionaries(
    {"cpus": st.sampled_from([0.1, 0.5, 1, 3, 8]), "kv_cache_gib": st.sampled_from([0.1, 1, 5])}
)
SHARING_ENGINES = st.fixed_dictionaries(
    {"device": st.just("gpu"), "gpus": SHARES, "cpus": st.sampled_from([0.1, 1, 4])}
)
SPLIT_ENGINES = st.fixed_dictionaries({"device": st.just("gpu"), "tensor_parallel": st.sampled_from([2, 4])})
REPLICAS = st.integers(0, 4).map(lambda count: {"min": count, "max": 4})
NODES = st.fixed_dictionaries(
    {
        "count": st.integers(1, 3),
        "cpus": st.sampled_from([0.5, 2, 8]),
        "memory_gib": st.sampled_from([1, 8]),
        "gpus": st.integers(0, 4),
    }
)


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    """Small fleets, with engines that are bound to a node type and engines that are not."""
    nodes = {f"n{place}": node for place, node in enumerate(draw(st.lists(NODES, min_size=1, max_size=3)))}
    drawn = draw(st.lists(st.one_of(CPU_ENGINES, SHARING_ENGINES, SPLIT_ENGINES), min_size=1, max_size=6))
    engines = {
        f"e{place}": {
            **engine,
            "replicas": draw(REPLICAS),
            "node_type": draw(st.sampled_from([None, *nodes])),
        }
        for place, engine in enumerate(drawn)
    }
    return build_fleet(engines, nodes)


@settings(deadline=None)
@given(fleets())
def test_no_node_is_over_committed_and_every_replica_is_placed_or_reported(fleet: Fleet) -> None:
    placement = plan_placement(fleet)
    cpus: dict[Any, float] = defaultdict(float)
    memory: dict[Any, float] = defaultdict(float)
    gpus: dict[Any, float] = defaultdict(float)
    for assignment in placement.assignments:
        engine = fleet.engines[assignment.engine]
        for share in assignment.shares:
            assert engine.node_type in (None, share.node.node_type)
            assert 1 <= share.node.number <= fleet.nodes[share.node.node_type].count
            cpus[share.node] += share.cpus
            memory[share.node] += share.memory_gib
            for gpu in share.gpus:
                assert gpu.gpu < fleet.nodes[share.node.node_type].gpus
                gpus[share.node, gpu.gpu] += gpu.share
    assert all(used <= fleet.nodes[node.node_type].cpus + 1e-5 for node, used in cpus.items())
    assert all(used <= fleet.nodes[node.node_type].memory_gib + 1e-5 for node, used in memory.items())
    assert all(used <= 1 + 1e-5 for used in gpus.values())

    missing = {unplaced.engine: unplaced.replicas for unplaced in placement.unplaced}
    for name, engine in fleet.engines.items():
        placed = [assignment.replica for assignment in placement.assignments if assignment.engine == name]
        assert placed == list(range(1, len(placed) + 1))
        assert len(placed) + missing.get(name, 0) == max(1, engine.replicas.min)


@settings(deadline=None)
@given(fleets())
def test_a_proposed_change_makes_room_and_takes_none_away(fleet: Fleet) -> None:
    before = {unplaced.engine for unplaced in plan_placement(fleet).unplaced}
    for unplaced in plan_placement(fleet).unplaced:
        if unplaced.change is not None:
            after = {other.engine for other in plan_placement(apply_change(fleet, unplaced.change)).unplaced}
            assert after <= before - {unplaced.engine}

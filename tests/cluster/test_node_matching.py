"""Nodes of a plan become machines of the cluster: the same ones as before, where they live."""

from typing import Any

import pytest

from cluster.node_matching import ObservedNode, match_nodes, select_nodes
from experts.errors import ConfigurationError
from experts.fleet import Fleet

BIG = [ObservedNode(f"big{at}", 96.0, 8.0, "H100") for at in range(3)]
SMALL = ObservedNode("small", 8.0, 0.0, None)


def make_fleet(**placed_on: list[str]) -> Fleet:
    document: dict[str, Any] = {
        "name": "placed",
        "engines": {
            name: {"model": "x/y", "device": "gpu", "placed_on": nodes, "node_type": "gpu"}
            for name, nodes in placed_on.items()
        },
        "domains": {
            name: {"description": f"Questions about {name}.", "variants": {"full": {"engine": name}}}
            for name in placed_on
        },
        "generalist": next(iter(placed_on)),
        "nodes": {
            "head": {"cpus": 4, "memory_gib": 8},
            "gpu": {"count": 3, "cpus": 64, "memory_gib": 512, "gpus": 8, "gpu_type": "H100"},
        },
    }
    return Fleet.model_validate(document)


def test_every_node_that_an_engine_is_placed_on_gets_a_machine_of_its_own_that_fits() -> None:
    matched = match_nodes(make_fleet(a=["gpu-1", "gpu-2"], b=["gpu-2"], c=[]), [SMALL, *BIG], {})
    assert matched == {"gpu-1": "big0", "gpu-2": "big1"}


def test_node_keeps_its_machine_and_only_that_of_a_lost_one_changes() -> None:
    fleet = make_fleet(a=["gpu-1", "gpu-2", "gpu-3"])
    before = {"gpu-1": "big2", "gpu-2": "lost", "gpu-3": "big0"}
    assert match_nodes(fleet, BIG, before) == {"gpu-1": "big2", "gpu-2": "big1", "gpu-3": "big0"}


def test_machine_of_another_kind_stands_for_no_node_and_the_message_says_what_lives() -> None:
    machines = [ObservedNode("old", 96.0, 8.0, "A100"), SMALL]
    with pytest.raises(ConfigurationError, match=r"'a' is placed on gpu-1.* 64 CPUs and 8 GPUs of type H100.*A100; 8"):
        match_nodes(make_fleet(a=["gpu-1"]), machines, {})


def test_machine_that_was_labelled_as_another_kind_stands_for_no_node_however_large_it_is() -> None:
    other, same = ObservedNode("other", 96.0, 8.0, "H100", "spare"), ObservedNode("same", 96.0, 8.0, "H100", "gpu")
    assert match_nodes(make_fleet(a=["gpu-1"]), [other, same], {"gpu-1": "other"}) == {"gpu-1": "same"}
    with pytest.raises(ConfigurationError, match=r"8 GPUs H100 labelled spare\)"):
        match_nodes(make_fleet(a=["gpu-1"]), [other], {})


def test_machines_that_run_short_are_a_mistake_too() -> None:
    with pytest.raises(ConfigurationError, match=r"placed on gpu-3, .* 2 stand for other nodes; start one"):
        match_nodes(make_fleet(a=["gpu-1", "gpu-2", "gpu-3"]), BIG[:2], {})


def test_selector_names_the_machines_and_is_empty_for_an_engine_that_ray_places() -> None:
    fleet = make_fleet(a=["gpu-1", "gpu-2"], b=["gpu-2"], c=[])
    ids = {"gpu-1": "big0", "gpu-2": "big1"}
    selectors = [select_nodes(engine, ids) for engine in fleet.engines.values()]
    assert selectors == [{"ray.io/node-id": "in(big0,big1)"}, {"ray.io/node-id": "big1"}, {}]

"""Engines and the gateway keep off machines that are not for them, and hold where machines have no labels."""

import pytest
from ray._private.label_utils import validate_label_selector
from ray._raylet import node_labels_match_selector  # type: ignore[attr-defined]

from cluster.node_types import list_engine_types, select_engine_types, select_types
from cluster.ray_node import NODE_TYPE_LABEL
from experts.fleet import Engine, NodeType
from tests.cluster.test_moved_fleet import make_fleet

NODES = {
    "big": NodeType(count=2, cpus=96, memory_gib=512, gpus=8, gpu_type="H100"),
    "small": NodeType(cpus=8, memory_gib=32),
    "old": NodeType(cpus=16, memory_gib=64, gpus=1, gpu_type="L4"),
}
HOME = {"laptop": NodeType(cpus=8, memory_gib=16, gpus=1)}


@pytest.mark.parametrize(
    ("engine", "types"),
    [
        ({"device": "gpu"}, ("big", "old")),
        ({"device": "gpu", "node_type": "old"}, ("old",)),
        ({}, ("small",)),
        ({"node_type": "big"}, ("big",)),
        # What no machine without GPUs has room for may run beside them.
        ({"cpus": 12}, ("big", "small", "old")),
        ({"kv_cache_gib": 40}, ("big", "small", "old")),
    ],
)
def test_an_engine_may_run_on_its_node_type_or_on_those_with_its_processor(
    engine: dict[str, object], types: tuple[str, ...]
) -> None:
    assert list_engine_types(Engine.model_validate({"model": "x/y", **engine}), NODES) == types


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_where_there_is_one_node_type_nothing_is_selected(device: str) -> None:
    engine = Engine.model_validate({"model": "x/y", "device": device})
    assert select_types(HOME, list_engine_types(engine, HOME)) == {}


@pytest.mark.parametrize(("device", "types"), [("cpu", {"small"}), ("gpu", {"big", "old"})])
def test_ray_matches_a_selector_with_the_machines_that_may_run_it_and_with_those_that_have_no_label(
    device: str, types: set[str]
) -> None:
    engine = Engine.model_validate({"model": "x/y", "device": device})
    selector = select_types(NODES, list_engine_types(engine, NODES))
    assert {name for name in NODES if node_labels_match_selector({NODE_TYPE_LABEL: name}, selector)} == types
    assert node_labels_match_selector({}, selector)


@pytest.mark.parametrize(
    ("allowed", "selector"), [(("big", "small"), "!old"), (("small",), "!in(big,old)"), (("big", "small", "old"), None)]
)
def test_a_selector_names_what_is_left_out_as_ray_reads_it(allowed: tuple[str, ...], selector: str | None) -> None:
    selected = select_types(NODES, allowed)
    assert selected == ({NODE_TYPE_LABEL: selector} if selector else {})
    assert validate_label_selector(selected) is None


def test_an_engine_that_is_placed_keeps_to_the_node_types_of_its_places() -> None:
    fleet = make_fleet().model_copy(update={"nodes": NODES})
    placed = Engine(model="x/y", device="gpu", placed_on=("big-1", "big-2"))
    assert select_engine_types(fleet, placed) == {NODE_TYPE_LABEL: "!in(small,old)"}

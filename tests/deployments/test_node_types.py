"""Replicas on a Ray cluster of machines with labels: each lands on its node type, also where others have more room."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import ray
from ray import serve
from ray.cluster_utils import Cluster
from ray.serve.context import _get_global_client
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

from cluster.ray_node import NODE_TYPE_LABEL
from deployments.applications import plan_serve_config
from deployments.cluster_nodes import observe_nodes
from experts.fleet import Domain, Engine, Fleet, NodeType, Variant
from tests.deployments.own_cluster import NODE_SIZE, own_cluster

pytestmark = pytest.mark.ray_local

PLACES = ("placement_group_bundles", "placement_group_bundle_label_selector", "ray_actor_options")
# As much as fits the little machine, so that without labels some of it would be put on one of the others.
REPLICAS = 2


class StandIn:
    """Stands for an expert's and the gateway's replicas: takes their place and does nothing."""

    async def __call__(self) -> None:
        return None


def make_fleet() -> Fleet:
    return Fleet(
        name="mixed",
        engines={
            "large": Engine(model="a/b", device="gpu", tensor_parallel=2, cpus=2, node_type="box"),
            "small": Engine(model="a/b"),
        },
        domains={
            name: Domain(description="Lands somewhere.", variants={"full": Variant(engine=name)})
            for name in ("large", "small")
        },
        generalist="small",
        nodes={
            "other": NodeType(cpus=8, memory_gib=8, gpus=4),
            "box": NodeType(cpus=8, memory_gib=8, gpus=4),
            "little": NodeType(cpus=2 * REPLICAS, memory_gib=8),
        },
    )


@dataclass(frozen=True)
class Machines:
    """The cluster of this module, and where each application's deployment of `plan_serve_config` wants its replicas."""

    cluster: Cluster
    places: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    fleet = make_fleet()
    with own_cluster() as cluster:
        for at, (name, node) in enumerate(fleet.nodes.items()):
            port = {"dashboard_agent_listen_port": 0} if at == 0 else {}
            labels = {NODE_TYPE_LABEL: name}
            cluster.add_node(num_cpus=int(node.cpus), num_gpus=node.gpus, labels=labels, **NODE_SIZE, **port)
        ray.init(address=cluster.address, log_to_driver=False)
        serve.start(proxy_location="Disabled")
        config = plan_serve_config(fleet, {}, {})
        deployments = {app["name"]: app["deployments"][0] for app in config["applications"]}
        yield Machines(
            cluster, {name: {key: one[key] for key in PLACES if key in one} for name, one in deployments.items()}
        )
        serve.shutdown()


def list_types(name: str) -> list[str | None]:
    """The node type of each replica of an application."""
    types = {node.id: node.node_type for node in observe_nodes()}
    (deployment,) = _get_global_client().get_serve_details()["applications"][name]["deployments"].values()
    return [types[replica["node_id"]] for replica in deployment["replicas"]]


def test_every_replica_lands_on_its_own_node_type(machines: Machines) -> None:
    assert {node.node_type for node in observe_nodes()} == {"other", "box", "little"}
    targets = []
    for name, place in machines.places.items():
        packed = {"placement_group_strategy": "STRICT_PACK"} if "placement_group_bundles" in place else {}
        options = {"ray_actor_options": {"num_cpus": 0}, **place, **packed}
        stand_in = serve.deployment(StandIn, num_replicas=REPLICAS, **options)
        targets.append(serve.RunTarget(stand_in.bind(), name=name, route_prefix=None))
    serve.run_many(targets)
    found = {name: list_types(name) for name in machines.places}
    assert found == {"large": ["box"] * 2, "small": ["little"] * 2, "gateway": ["little"] * 2}


def test_without_labels_the_same_selectors_hold_nothing_back(machines: Machines) -> None:
    place = machines.places["small"]
    bundles, selector = place["placement_group_bundles"], place["placement_group_bundle_label_selector"]
    group = placement_group(bundles, "STRICT_PACK", bundle_label_selector=selector)
    try:
        # The little machine is full, and the others are left alone.
        assert not group.wait(timeout_seconds=2)
        bare = machines.cluster.add_node(num_cpus=1, **NODE_SIZE)
        assert group.wait(timeout_seconds=30)
        assert placement_group_table(group)["bundles_to_node_id"][0] == bare.node_id
        assert next(node for node in observe_nodes() if node.id == bare.node_id).node_type is None
    finally:
        remove_placement_group(group)

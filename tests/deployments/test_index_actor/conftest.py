"""One cluster of three nodes for all modules here."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tests.deployments.own_cluster import NODE_SIZE, own_cluster
from tests.deployments.test_index_actor import replicas as replicas_module
from tests.deployments.test_index_actor.replicas import FINGERPRINT, Nodes, Replica, build_edition


@pytest.fixture(scope="package")
def nodes() -> Iterator[Nodes]:
    ray.cloudpickle.register_pickle_by_value(replicas_module)
    try:
        with own_cluster() as cluster:
            cluster.add_node(num_cpus=1, **NODE_SIZE, dashboard_agent_listen_port=0)
            for _ in range(2):
                cluster.add_node(num_cpus=1, **NODE_SIZE)
            ray.init(address=cluster.address, log_to_driver=False)
            yield Nodes(cluster, tuple(sorted(node["NodeID"] for node in ray.nodes() if node["Alive"])))
    finally:
        ray.cloudpickle.unregister_pickle_by_value(replicas_module)


@pytest.fixture
def start_replica(nodes: Nodes) -> Iterator[Callable[..., Any]]:
    """Starts replicas on a node and ends the ones that are left after the test."""
    replicas: list[Any] = []

    def start(
        node_id: str, domain: str, location: object, encoder: str = FINGERPRINT, reranker: str | None = None
    ) -> Any:
        pinned = NodeAffinitySchedulingStrategy(node_id, soft=False)
        actor = ray.remote(num_cpus=0.1)(Replica).options(scheduling_strategy=pinned)
        replica = actor.remote(domain, str(location), encoder, reranker)
        replicas.append(replica)
        return replica

    yield start
    for replica in replicas:
        ray.kill(replica)


@pytest.fixture
def location(tmp_path: Path) -> Path:
    build_edition(tmp_path / "index", "first")
    return tmp_path / "index"

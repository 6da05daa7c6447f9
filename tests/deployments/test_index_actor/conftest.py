"""One cluster of three nodes for all modules here."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tests.deployments.test_index_actor import replicas as replicas_module
from tests.deployments.test_index_actor.replicas import FINGERPRINT, Nodes, Replica, build_edition


@pytest.fixture(scope="package")
def nodes() -> Iterator[Nodes]:
    patch = pytest.MonkeyPatch()
    # Short, because sockets live below it; its own, so that no other cluster on the machine is found or told of it.
    folder = tempfile.mkdtemp(prefix="gh-", dir="/tmp")
    patch.setenv("RAY_TMPDIR", folder)
    patch.setenv("RAY_AUTH_MODE", "disabled")
    patch.delenv("RAY_ADDRESS", raising=False)
    ray.cloudpickle.register_pickle_by_value(replicas_module)
    size = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster()
    try:
        cluster.add_node(**size, dashboard_agent_listen_port=0)
        for _ in range(2):
            cluster.add_node(**size)
        ray.init(address=cluster.address, log_to_driver=False)
        yield Nodes(cluster, tuple(sorted(node["NodeID"] for node in ray.nodes() if node["Alive"])))
    finally:
        ray.shutdown()
        cluster.shutdown()
        ray.cloudpickle.unregister_pickle_by_value(replicas_module)
        patch.undo()
        shutil.rmtree(folder, ignore_errors=True)


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

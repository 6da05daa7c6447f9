"""Index actors on a Ray cluster of three nodes: who has one, who shares one, and what survives which fault."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from deployments.index_actor import LEASE_S, NAMESPACE, IndexActorReport, actor_name
from deployments.node_index import NodeIndex
from experts.errors import ConfigurationError, IndexDamaged, IndexUnavailable
from retrieval.index import VECTORS_FILE, build_index
from retrieval.passage import Passage, SearchResult

pytestmark = pytest.mark.ray_local

FLEET = "test-fleet"
DIMENSIONS = 384
PATIENCE_S = 30.0


class HashEncoder:
    """Vectors that depend on a text's length alone: enough to search with, and nothing to load."""

    fingerprint = "hash-encoder"
    dimensions = DIMENSIONS

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        vectors = np.stack([np.random.default_rng(len(text)).normal(size=DIMENSIONS) for text in texts])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors.astype(np.float32)


@dataclass(frozen=True)
class Load:
    """What a replica's stream of searches saw."""

    searches: int
    versions: tuple[str, ...]
    mixed: int
    failures: tuple[str, ...]
    slowest_s: float


class Replica:
    """Stands for an expert's replica: uses NodeIndex as one does, without an engine."""

    def __init__(self, domain: str, root: str, version: str) -> None:
        self.index = NodeIndex(FLEET, domain, Path(root), version)
        self.loading = False

    async def open(self) -> IndexActorReport:
        return await self.index.open()

    async def observe(self) -> IndexActorReport:
        return await self.index.observe()

    async def search(self, dimensions: int = DIMENSIONS, deadline_s: float = PATIENCE_S) -> SearchResult:
        return await self.index.search(np.ones(dimensions, dtype=np.float32), 4, deadline_s)

    async def load(self, streams: int) -> Load:
        """Search without pause in several streams until told to stop."""
        self.loading = True
        failures: list[str] = []
        versions: list[str] = []
        mixed = searches = 0
        slowest = 0.0

        async def stream() -> None:
            nonlocal mixed, searches, slowest
            while self.loading:
                began = time.monotonic()
                try:
                    result = await self.search()
                except Exception as error:  # noqa: BLE001 — every failure counts
                    failures.append(repr(error))
                    await asyncio.sleep(0.1)
                    continue
                searches += 1
                slowest = max(slowest, time.monotonic() - began)
                if not versions or versions[-1] != result.version:
                    versions.append(result.version)
                # Every passage of the tests carries its edition, one edition per version.
                mixed += len({hit.passage.title for hit in result.hits}) != 1

        await asyncio.gather(*(stream() for _ in range(streams)))
        return Load(searches, tuple(versions), mixed, tuple(failures), slowest)

    async def stop_load(self) -> None:
        self.loading = False

    async def swap(self, version: str) -> None:
        await self.index.swap(version)

    async def close(self) -> None:
        await self.index.close()

    async def pid(self) -> int:
        return os.getpid()


@dataclass(frozen=True)
class Nodes:
    """The cluster of one test module."""

    cluster: Cluster
    ids: tuple[str, ...]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    patch = pytest.MonkeyPatch()
    # Short, because sockets live below it; its own, so that no other cluster on the machine is found or told of it.
    folder = tempfile.mkdtemp(prefix="gh-", dir="/tmp")
    patch.setenv("RAY_TMPDIR", folder)
    patch.setenv("RAY_AUTH_MODE", "disabled")
    patch.delenv("RAY_ADDRESS", raising=False)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
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
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
        patch.undo()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def start_replica(nodes: Nodes) -> Iterator[Callable[..., Any]]:
    """Starts replicas on a node and ends the ones that are left after the test."""
    replicas: list[Any] = []

    def start(node_id: str, domain: str, root: Path, version: str) -> Any:
        pinned = NodeAffinitySchedulingStrategy(node_id, soft=False)
        replica = (
            ray.remote(num_cpus=0.1)(Replica).options(scheduling_strategy=pinned).remote(domain, str(root), version)
        )
        replicas.append(replica)
        return replica

    yield start
    for replica in replicas:
        ray.kill(replica)


def build_edition(root: Path, edition: str) -> str:
    passages = [Passage(text="x" * number, title=edition, source=f"a.md#{number}") for number in range(1, 50)]
    return build_index(passages, HashEncoder(), root)


@pytest.fixture
def index(tmp_path: Path) -> tuple[Path, str]:
    return tmp_path, build_edition(tmp_path, "first")


def get(reference: Any) -> Any:
    return ray.get(reference, timeout=PATIENCE_S * 2)


def index_actors(domain: str) -> set[str]:
    """The nodes on which a domain has an index actor."""
    prefix = actor_name(FLEET, domain, "")
    return {
        actor["name"].removeprefix(prefix)
        for actor in ray.util.list_named_actors(all_namespaces=True)
        if actor["namespace"] == NAMESPACE and actor["name"].startswith(prefix)
    }


def wait_until(holds: Callable[[], bool], limit_s: float, what: str) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {limit_s:g} s: {what}"
        time.sleep(0.1)


def kill_process(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_a_domain_has_one_index_actor_on_every_node_that_has_its_replica_and_none_elsewhere(
    nodes: Nodes, start_replica: Callable[..., Any], index: tuple[Path, str]
) -> None:
    law = [start_replica(node, "law", *index) for node in (nodes.ids[0], nodes.ids[1], nodes.ids[1])]
    art = start_replica(nodes.ids[2], "art", *index)
    first, second, third, other = get([replica.open.remote() for replica in [*law, art]])
    assert index_actors("law") == {nodes.ids[0], nodes.ids[1]}
    assert index_actors("art") == {nodes.ids[2]}
    assert second.pid == third.pid
    assert len({first.pid, second.pid, other.pid}) == 3
    assert len(get(law[1].observe.remote()).holders) == 2
    for replica, node in zip([*law, art], [*nodes.ids[:2], *nodes.ids[1:]], strict=True):
        assert get(replica.observe.remote()).node_id == node
        assert get(replica.search.remote()).version == index[1]


def test_the_index_actors_process_loads_neither_torch_nor_vllm(
    nodes: Nodes, start_replica: Callable[..., Any], index: tuple[Path, str]
) -> None:
    replica = start_replica(nodes.ids[0], "light", *index)
    report = get(replica.open.remote())
    get(replica.search.remote())
    mapped = Path(f"/proc/{report.pid}/maps").read_text()
    assert "faiss" in mapped
    assert "torch" not in mapped
    assert "vllm" not in mapped


def test_when_the_index_actors_process_is_killed_under_load_no_search_fails(
    nodes: Nodes, start_replica: Callable[..., Any], index: tuple[Path, str]
) -> None:
    replicas = [start_replica(nodes.ids[1], "killed", *index) for _ in range(2)]
    pids = [report.pid for report in get([replica.open.remote() for replica in replicas])]
    loads = [replica.load.remote(8) for replica in replicas]
    for _ in range(2):
        time.sleep(1)
        pid = get(replicas[0].observe.remote()).pid
        kill_process(pid)
        wait_until(lambda: bool(get(replicas[0].observe.remote()).pid != pid), PATIENCE_S, "a new process")  # noqa: B023
        pids.append(get(replicas[0].observe.remote()).pid)
    time.sleep(1)
    get([replica.stop_load.remote() for replica in replicas])
    for load in get(loads):
        assert load.failures == ()
        assert load.searches > 100
        assert load.versions == (index[1],)
        print(f"{load.searches} searches, slowest {load.slowest_s:.2f} s")  # noqa: T201
    assert len(set(pids)) == 3
    # The holders came back to the restarted actor: it does not end under them.
    time.sleep(LEASE_S + 1)
    report = get(replicas[0].observe.remote())
    assert report.pid == pids[-1]
    assert len(report.holders) == 2


def test_when_the_index_actor_is_ended_for_good_under_load_it_is_created_again_and_no_search_fails(
    nodes: Nodes, start_replica: Callable[..., Any], index: tuple[Path, str]
) -> None:
    replica = start_replica(nodes.ids[0], "ended", *index)
    pid = get(replica.open.remote()).pid
    load = replica.load.remote(8)
    time.sleep(1)
    ray.kill(ray.get_actor(actor_name(FLEET, "ended", nodes.ids[0]), namespace=NAMESPACE), no_restart=True)
    wait_until(lambda: bool(get(replica.observe.remote()).pid != pid), PATIENCE_S, "a new actor")
    time.sleep(1)
    get(replica.stop_load.remote())
    result = get(load)
    assert result.failures == ()
    assert result.searches > 100
    assert len(get(replica.observe.remote()).holders) == 1


def test_when_the_last_replica_of_a_node_is_killed_its_index_actor_goes_and_comes_back_with_the_next(
    nodes: Nodes, start_replica: Callable[..., Any], index: tuple[Path, str]
) -> None:
    dying = [start_replica(nodes.ids[2], "left", *index) for _ in range(2)]
    staying = start_replica(nodes.ids[0], "left", *index)
    beside = start_replica(nodes.ids[2], "beside", *index)
    first, _, stayed, neighbour = get([replica.open.remote() for replica in [*dying, staying, beside]])
    kill_process(get(dying[0].pid.remote()))
    time.sleep(LEASE_S + 2)
    assert get(dying[1].observe.remote()).pid == first.pid
    assert len(get(dying[1].observe.remote()).holders) == 1
    kill_process(get(dying[1].pid.remote()))
    wait_until(lambda: index_actors("left") == {nodes.ids[0]}, LEASE_S + 3, "the index actor is gone")
    wait_until(lambda: not Path(f"/proc/{first.pid}").exists(), 5, "its process is gone")
    assert get(staying.observe.remote()).pid == stayed.pid
    assert get(beside.observe.remote()).pid == neighbour.pid
    assert get(beside.search.remote()).version == index[1]
    returning = start_replica(nodes.ids[2], "left", *index)
    assert get(returning.open.remote()).node_id == nodes.ids[2]
    assert get(returning.search.remote()).version == index[1]
    assert index_actors("left") == {nodes.ids[0], nodes.ids[2]}


def test_when_the_last_replica_closes_its_index_actor_goes_before_the_lease_would_end(
    nodes: Nodes, start_replica: Callable[..., Any], index: tuple[Path, str]
) -> None:
    replicas = [start_replica(nodes.ids[0], "closed", *index) for _ in range(2)]
    get([replica.open.remote() for replica in replicas])
    get(replicas[0].close.remote())
    time.sleep(2)
    assert get(replicas[1].search.remote()).version == index[1]
    get(replicas[1].close.remote())
    wait_until(lambda: not index_actors("closed"), LEASE_S - 1, "the index actor is gone")


def test_a_swap_under_load_answers_every_search_whole_from_one_version_and_then_from_the_new(
    nodes: Nodes, start_replica: Callable[..., Any], index: tuple[Path, str]
) -> None:
    root, old = index
    new = build_edition(root, "second")
    replica, slower = (start_replica(nodes.ids[1], "swapped", root, old) for _ in range(2))
    get([replica.open.remote(), slower.open.remote()])
    load = replica.load.remote(8)
    time.sleep(1)
    get(replica.swap.remote(new))
    assert get(replica.search.remote()).version == new
    assert get(slower.search.remote()).version == old
    get(slower.swap.remote(new))
    kill_process(get(replica.observe.remote()).pid)
    assert get(replica.search.remote()).version == new
    get(replica.stop_load.remote())
    result = get(load)
    assert result.failures == ()
    assert result.mixed == 0
    assert result.versions[0] == old
    assert result.versions[-1] == new
    wait_until(lambda: bool(get(replica.observe.remote()).versions == (new,)), LEASE_S + 3, "the old version closed")


def test_a_swap_to_a_damaged_version_is_refused_and_searches_go_on_in_the_old(
    nodes: Nodes, start_replica: Callable[..., Any], index: tuple[Path, str]
) -> None:
    root, old = index
    new = build_edition(root, "second")
    (root / new / VECTORS_FILE).write_bytes(b"not an index")
    replica = start_replica(nodes.ids[1], "unswapped", root, old)
    get(replica.open.remote())
    with pytest.raises(IndexDamaged, match="build the index again"):
        get(replica.swap.remote(new))
    assert get(replica.search.remote()).version == old


def test_opening_a_missing_version_says_so_and_leaves_no_index_actor(
    nodes: Nodes, start_replica: Callable[..., Any], tmp_path: Path
) -> None:
    replica = start_replica(nodes.ids[0], "missing", tmp_path, "0123456789abcdef")
    with pytest.raises(IndexDamaged, match=r"manifest\.json cannot be read"):
        get(replica.open.remote())
    wait_until(lambda: not index_actors("missing"), LEASE_S + 3, "the index actor is gone")


def test_a_vector_of_another_encoder_is_refused_with_the_reason(
    nodes: Nodes, start_replica: Callable[..., Any], index: tuple[Path, str]
) -> None:
    replica = start_replica(nodes.ids[0], "narrow", *index)
    get(replica.open.remote())
    with pytest.raises(ConfigurationError, match=r"has shape \(3,\)"):
        get(replica.search.remote(3))


def test_an_index_actor_that_hangs_costs_a_search_its_deadline_and_no_more(
    nodes: Nodes, start_replica: Callable[..., Any], index: tuple[Path, str]
) -> None:
    replica = start_replica(nodes.ids[0], "hung", *index)
    pid = get(replica.open.remote()).pid
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(IndexUnavailable, match=r"domain 'hung' .* no answer to search in 1 s"):
            get(replica.search.remote(DIMENSIONS, 1.0))
        assert time.monotonic() - began < 5
    finally:
        os.kill(pid, signal.SIGCONT)
    assert get(replica.search.remote()).version == index[1]


def test_when_a_node_is_lost_its_index_actor_is_too_and_the_others_are_undisturbed(
    nodes: Nodes, start_replica: Callable[..., Any], index: tuple[Path, str]
) -> None:
    added = nodes.cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20, include_dashboard=False)
    lost = start_replica(added.node_id, "lost", *index)
    staying = start_replica(nodes.ids[0], "lost", *index)
    _, stayed = get([lost.open.remote(), staying.open.remote()])
    assert index_actors("lost") == {added.node_id, nodes.ids[0]}
    nodes.cluster.remove_node(added, allow_graceful=False)
    wait_until(lambda: index_actors("lost") == {nodes.ids[0]}, PATIENCE_S, "the index actor of the lost node is gone")
    assert get(staying.observe.remote()).pid == stayed.pid
    assert get(staying.search.remote()).version == index[1]

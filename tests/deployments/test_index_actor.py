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
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.node_matching import select_nodes
from deployments.cluster_nodes import match_cluster_nodes
from deployments.index_actor import LEASE_S, NAMESPACE, IndexActorReport, actor_name
from deployments.index_settings import IndexSettings, IndexSource
from deployments.node_index import NodeIndex
from experts.errors import ConfigurationError, EncoderMismatch, IndexDamaged, IndexUnavailable
from experts.fleet import Fleet
from retrieval.index_writer import IndexWriter
from retrieval.passage import IndexedDocument, Passage, SearchResult
from retrieval.storage import open_storage

pytestmark = pytest.mark.ray_local

FLEET = "test-fleet"
DIMENSIONS = 384
PATIENCE_S = 30.0


FINGERPRINT = "length-encoder"
EDITION_DOCUMENTS = 49


def embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Vectors that depend on a text's length alone: enough to search with, and nothing to load."""
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

    def __init__(self, domain: str, location: str, encoder: str, reranker: str | None) -> None:
        self.index = NodeIndex(FLEET, domain, IndexSettings(location, encoder, passages=4, reranker=reranker))
        self.loading = False

    async def open(self) -> IndexActorReport:
        return await self.index.open()

    async def observe(self) -> IndexActorReport:
        return await self.index.observe()

    async def search(
        self, dimensions: int = DIMENSIONS, deadline_s: float = PATIENCE_S, text: str = "x"
    ) -> SearchResult:
        return await self.index.search(text, np.ones(dimensions, dtype=np.float32), deadline_s)

    async def known(self) -> tuple[str, str]:
        """What the replica would report without asking anybody."""
        return self.index.version, self.index.problem

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


def open_writer(location: object, cache: Path = Path("/nonexistent")) -> IndexWriter:
    return IndexWriter(open_storage(str(location), cache), FINGERPRINT, DIMENSIONS)


def make_document(name: str, edition: str, length: int) -> IndexedDocument:
    passage = Passage(
        text="x " * length, title=edition, source=f"{name}#1", document=name, fingerprint=f"{edition}{length}"
    )
    return IndexedDocument(name, passage.fingerprint, (passage,))


def make_edition(edition: str) -> list[IndexedDocument]:
    """A whole corpus whose every passage says which edition it is of."""
    return [make_document(f"{length}.md", edition, length) for length in range(1, EDITION_DOCUMENTS + 1)]


def build_edition(location: object, edition: str, cache: Path = Path("/nonexistent")) -> str:
    return open_writer(location, cache).build(make_edition(edition), embed).label


@pytest.fixture
def location(tmp_path: Path) -> Path:
    build_edition(tmp_path / "index", "first")
    return tmp_path / "index"


def get(reference: Any) -> Any:
    return ray.get(reference, timeout=PATIENCE_S * 2)


def index_actors(domain: str) -> set[str]:
    """The nodes on which a domain has an index actor."""
    prefix = actor_name(FLEET, domain, "", IndexSource("", "")).partition("::")[0] + ":"
    return {
        actor["name"].removeprefix(prefix).partition(":")[0]
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
    nodes: Nodes, start_replica: Callable[..., Any], location: Path
) -> None:
    law = [start_replica(node, "law", location) for node in (nodes.ids[0], nodes.ids[1], nodes.ids[1])]
    art = start_replica(nodes.ids[2], "art", location)
    first, second, third, other = get([replica.open.remote() for replica in [*law, art]])
    label = first.version
    assert index_actors("law") == {nodes.ids[0], nodes.ids[1]}
    assert index_actors("art") == {nodes.ids[2]}
    assert second.pid == third.pid
    assert len({first.pid, second.pid, other.pid}) == 3
    assert len(get(law[1].observe.remote()).holders) == 2
    for replica, node in zip([*law, art], [*nodes.ids[:2], *nodes.ids[1:]], strict=True):
        assert get(replica.observe.remote()).node_id == node
        assert get(replica.search.remote()).version == label


def test_the_index_actors_process_loads_neither_torch_nor_vllm(
    nodes: Nodes, start_replica: Callable[..., Any], location: Path
) -> None:
    replica = start_replica(nodes.ids[0], "light", location)
    report = get(replica.open.remote())
    get(replica.search.remote())
    mapped = Path(f"/proc/{report.pid}/maps").read_text()
    assert "faiss" in mapped
    assert "torch" not in mapped
    assert "vllm" not in mapped


def test_when_the_index_actors_process_is_killed_under_load_no_search_fails(
    nodes: Nodes, start_replica: Callable[..., Any], location: Path
) -> None:
    replicas = [start_replica(nodes.ids[1], "killed", location) for _ in range(2)]
    reports = get([replica.open.remote() for replica in replicas])
    pids = [report.pid for report in reports]
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
        assert load.searches > 8
        assert load.versions == (reports[0].version,)
        print(f"{load.searches} searches, slowest {load.slowest_s:.2f} s")  # noqa: T201
    assert len(set(pids)) == 3
    # The holders came back to the restarted actor: it does not end under them.
    time.sleep(LEASE_S + 1)
    report = get(replicas[0].observe.remote())
    assert report.pid == pids[-1]
    assert len(report.holders) == 2


def test_when_the_index_actor_is_ended_for_good_under_load_it_is_created_again_and_no_search_fails(
    nodes: Nodes, start_replica: Callable[..., Any], location: Path
) -> None:
    replica = start_replica(nodes.ids[0], "ended", location)
    pid = get(replica.open.remote()).pid
    load = replica.load.remote(8)
    time.sleep(1)
    name = actor_name(FLEET, "ended", nodes.ids[0], IndexSource(str(location), FINGERPRINT))
    ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=True)
    wait_until(lambda: bool(get(replica.observe.remote()).pid != pid), PATIENCE_S, "a new actor")
    time.sleep(1)
    get(replica.stop_load.remote())
    result = get(load)
    assert result.failures == ()
    assert result.searches > 8
    assert len(get(replica.observe.remote()).holders) == 1


def test_when_the_last_replica_of_a_node_is_killed_its_index_actor_goes_and_comes_back_with_the_next(
    nodes: Nodes, start_replica: Callable[..., Any], location: Path
) -> None:
    dying = [start_replica(nodes.ids[2], "left", location) for _ in range(2)]
    staying = start_replica(nodes.ids[0], "left", location)
    beside = start_replica(nodes.ids[2], "beside", location)
    first, _, stayed, neighbour = get([replica.open.remote() for replica in [*dying, staying, beside]])
    label = first.version
    kill_process(get(dying[0].pid.remote()))
    time.sleep(LEASE_S + 2)
    assert get(dying[1].observe.remote()).pid == first.pid
    assert len(get(dying[1].observe.remote()).holders) == 1
    kill_process(get(dying[1].pid.remote()))
    wait_until(lambda: index_actors("left") == {nodes.ids[0]}, LEASE_S + 3, "the index actor is gone")
    wait_until(lambda: not Path(f"/proc/{first.pid}").exists(), 5, "its process is gone")
    assert get(staying.observe.remote()).pid == stayed.pid
    assert get(beside.observe.remote()).pid == neighbour.pid
    assert get(beside.search.remote()).version == label
    returning = start_replica(nodes.ids[2], "left", location)
    assert get(returning.open.remote()).node_id == nodes.ids[2]
    assert get(returning.search.remote()).version == label
    assert index_actors("left") == {nodes.ids[0], nodes.ids[2]}


def test_when_the_last_replica_closes_its_index_actor_goes_before_the_lease_would_end(
    nodes: Nodes, start_replica: Callable[..., Any], location: Path
) -> None:
    replicas = [start_replica(nodes.ids[0], "closed", location) for _ in range(2)]
    label = get([replica.open.remote() for replica in replicas])[0].version
    get(replicas[0].close.remote())
    time.sleep(2)
    assert get(replicas[1].search.remote()).version == label
    get(replicas[1].close.remote())
    wait_until(lambda: not index_actors("closed"), LEASE_S - 1, "the index actor is gone")


def test_a_new_version_is_taken_up_on_every_node_under_load_without_a_failed_or_mixed_search(
    nodes: Nodes, start_replica: Callable[..., Any], location: Path
) -> None:
    replicas = [start_replica(node, "followed", location) for node in nodes.ids]
    old = get([replica.open.remote() for replica in replicas])[0].version
    loads = [replica.load.remote(4) for replica in replicas]
    time.sleep(1)
    new = build_edition(location, "second")
    began = time.monotonic()
    wait_until(
        lambda: all(report.version == new for report in get([replica.observe.remote() for replica in replicas])),
        PATIENCE_S,
        "every node serves the new version",
    )
    print(f"taken up on three nodes under load after {time.monotonic() - began:.2f} s")  # noqa: T201
    assert get(replicas[0].search.remote()).version == new
    kill_process(get(replicas[0].observe.remote()).pid)
    assert get(replicas[0].search.remote()).version == new
    get([replica.stop_load.remote() for replica in replicas])
    for load in get(loads):
        assert load.failures == ()
        assert load.mixed == 0
        assert (load.versions[0], load.versions[-1]) == (old, new)
    # What a replica reports of itself comes with its lease and costs no call.
    wait_until(lambda: get(replicas[1].known.remote()) == (new, ""), 3, "the replica knows the version")


def test_added_and_removed_documents_are_followed_within_a_second(
    nodes: Nodes, start_replica: Callable[..., Any], location: Path
) -> None:
    replicas = [start_replica(node, "growing", location) for node in nodes.ids[:2]]
    get([replica.open.remote() for replica in replicas])
    writer = open_writer(location)

    def is_found(replica: Any) -> bool:
        result: SearchResult = get(replica.search.remote(text="zephyr"))
        return "new.md" in {hit.passage.document for hit in result.hits}

    passage = Passage(text="a zephyr", title="Wind", source="new.md#1", document="new.md", fingerprint="new")
    writer.add([IndexedDocument("new.md", "new", (passage,))], embed)
    wait_until(lambda: all(map(is_found, replicas)), 1, "what was added is found on both nodes")
    writer.remove(["new.md"])
    wait_until(lambda: not any(map(is_found, replicas)), 1, "what was removed is found on neither")


def test_a_damaged_version_is_reported_and_searches_go_on_in_the_old(
    nodes: Nodes, start_replica: Callable[..., Any], location: Path, tmp_path: Path
) -> None:
    replica = start_replica(nodes.ids[1], "damaged", location)
    old = get(replica.open.remote()).version
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(location, elsewhere)
    new = build_edition(elsewhere, "second").partition(".")[0]
    for path in (elsewhere / "versions" / new).rglob("*"):
        if path.is_file() and path.suffix != ".json":
            path.write_bytes(b"not an index")
    shutil.copytree(elsewhere / "versions" / new, location / "versions" / new)
    for commit in sorted((elsewhere / "log").iterdir()):
        if not (location / "log" / commit.name).exists():
            shutil.copy(commit, location / "log" / commit.name)
    wait_until(lambda: new in get(replica.known.remote())[1], 10, "the damage is reported")
    assert get(replica.search.remote()).version.partition(".")[0] == old.partition(".")[0]
    build_edition(location, "third")
    wait_until(lambda: get(replica.known.remote())[1] == "", 10, "a good version mends it")
    assert {hit.passage.title for hit in get(replica.search.remote()).hits} == {"third"}


def test_opening_a_missing_index_says_so_and_leaves_no_index_actor(
    nodes: Nodes, start_replica: Callable[..., Any], tmp_path: Path
) -> None:
    replica = start_replica(nodes.ids[0], "missing", tmp_path / "nothing")
    with pytest.raises(IndexDamaged, match="guildhall index build"):
        get(replica.open.remote())
    wait_until(lambda: not index_actors("missing"), LEASE_S + 3, "the index actor is gone")


def test_an_index_of_another_encoder_is_refused_with_the_way_to_rebuild_it(
    nodes: Nodes, start_replica: Callable[..., Any], location: Path
) -> None:
    replica = start_replica(nodes.ids[0], "foreign", location, "another-encoder")
    with pytest.raises(EncoderMismatch, match="guildhall index build"):
        get(replica.open.remote())


def test_a_reranker_that_does_not_load_is_found_before_the_first_search(
    nodes: Nodes, start_replica: Callable[..., Any], location: Path, tmp_path: Path
) -> None:
    replica = start_replica(nodes.ids[0], "reranked", location, reranker=str(tmp_path / "no-model"))
    with pytest.raises(ConfigurationError, match=r"index\.reranker"):
        get(replica.open.remote())


def test_a_vector_of_another_encoder_is_refused_with_the_reason(
    nodes: Nodes, start_replica: Callable[..., Any], location: Path
) -> None:
    replica = start_replica(nodes.ids[0], "narrow", location)
    get(replica.open.remote())
    with pytest.raises(ConfigurationError, match=r"has shape \(3,\)"):
        get(replica.search.remote(3))


def test_an_index_actor_that_hangs_costs_a_search_its_deadline_and_no_more(
    nodes: Nodes, start_replica: Callable[..., Any], location: Path
) -> None:
    replica = start_replica(nodes.ids[0], "hung", location)
    opened = get(replica.open.remote())
    pid, label = opened.pid, opened.version
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(IndexUnavailable, match=r"domain 'hung' .* no answer to search in 1 s"):
            get(replica.search.remote(DIMENSIONS, 1.0))
        assert time.monotonic() - began < 5
    finally:
        os.kill(pid, signal.SIGCONT)
    assert get(replica.search.remote()).version == label


def test_when_a_node_is_lost_under_load_the_others_are_undisturbed_and_a_new_one_gets_its_copy_before_it_serves(
    nodes: Nodes, start_replica: Callable[..., Any], tmp_path: Path
) -> None:
    # A URL, so that every node pulls a copy of its own.
    location = f"local://{tmp_path}/store"
    build_edition(location, "first", tmp_path / "writer")

    def add_node(name: str) -> Any:
        size = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
        return nodes.cluster.add_node(**size, env_vars={"GUILDHALL_DATA_DIR": str(tmp_path / name)})

    def copies(name: str) -> list[Path]:
        return list((tmp_path / name).rglob("manifest.json"))

    added = [add_node(f"node-{number}") for number in range(3)]
    replicas = [start_replica(node.node_id, "lost", location) for node in added]
    reports = get([replica.open.remote() for replica in replicas])
    assert index_actors("lost") == {node.node_id for node in added}
    assert all(len(copies(f"node-{number}")) == 1 for number in range(3))
    loads = [replica.load.remote(4) for replica in replicas[:2]]
    replicas[2].load.remote(4)
    time.sleep(1)
    nodes.cluster.remove_node(added[2], allow_graceful=False)
    left = {node.node_id for node in added[:2]}
    wait_until(lambda: index_actors("lost") == left, PATIENCE_S, "the index actor of the lost node is gone")
    wait_until(lambda: not Path(f"/proc/{reports[2].pid}").exists(), 10, "so is its process")
    new = add_node("node-3")
    arriving = start_replica(new.node_id, "lost", location)
    assert not copies("node-3")
    opened = get(arriving.open.remote())
    assert (opened.node_id, opened.version) == (new.node_id, reports[0].version)
    assert len(copies("node-3")) == 1
    assert get(arriving.search.remote()).version == reports[0].version
    get([replica.stop_load.remote() for replica in replicas[:2]])
    for load in get(loads):
        assert load.failures == ()
        assert load.searches > 8
    assert [report.pid for report in get([replica.observe.remote() for replica in replicas[:2]])] == [
        report.pid for report in reports[:2]
    ]
    for node in [*added[:2], new]:
        nodes.cluster.remove_node(node)


def test_replicas_that_a_plan_has_placed_start_on_its_machines_and_stay_on_them(nodes: Nodes) -> None:
    engine = {"model": "somebody/model", "placed_on": ["here-1", "here-3"]}
    fleet = Fleet.model_validate(
        {
            "name": "placed",
            "engines": {"law": engine},
            "domains": {"law": {"description": "Contracts and courts.", "variants": {"full": {"engine": "law"}}}},
            "generalist": "law",
            "nodes": {"here": {"count": len(nodes.ids), "cpus": 1, "memory_gib": 1}},
        }
    )
    matched = match_cluster_nodes(fleet)
    assert list(matched) == ["here-1", "here-3"]
    assert set(matched.values()) < set(nodes.ids)
    assert match_cluster_nodes(fleet) == matched
    selector = [select_nodes(fleet.engines["law"], matched)]
    groups = [placement_group([{"CPU": 0.6}], "STRICT_PACK", bundle_label_selector=selector) for _ in range(3)]
    try:
        ray.get([group.ready() for group in groups[:2]], timeout=60)
        placed = {placement_group_table(group)["bundles_to_node_id"][0] for group in groups[:2]}
        assert placed == set(matched.values())
        # The third machine is free, and not one of the plan's.
        assert placement_group_table(groups[2])["state"] == "PENDING"
    finally:
        for group in groups:
            remove_placement_group(group)

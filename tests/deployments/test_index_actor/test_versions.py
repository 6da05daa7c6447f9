"""What the index actors of three nodes serve: new versions, added documents, and what they refuse."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployments.index_actor import LEASE_S
from experts.errors import ConfigurationError, EncoderMismatch, IndexDamaged
from retrieval.passage import IndexedDocument, Passage, SearchResult
from tests.deployments.test_index_actor.replicas import (
    PATIENCE_S,
    Nodes,
    build_edition,
    embed,
    get,
    index_actors,
    kill_process,
    open_writer,
    wait_until,
)

pytestmark = pytest.mark.ray_local


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

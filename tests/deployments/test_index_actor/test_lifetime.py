"""Index actors on a Ray cluster of three nodes: who has one, who shares one, and what survives which fault."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

from cluster.node_matching import select_nodes
from deployments.cluster_nodes import match_cluster_nodes
from deployments.index_actor import LEASE_S, NAMESPACE, actor_name
from deployments.index_settings import IndexSource
from experts.errors import IndexUnavailable
from experts.fleet import Fleet
from tests.deployments.test_index_actor.replicas import (
    DIMENSIONS,
    FINGERPRINT,
    FLEET,
    PATIENCE_S,
    Nodes,
    build_edition,
    get,
    index_actors,
    kill_process,
    wait_until,
)

pytestmark = pytest.mark.ray_local


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

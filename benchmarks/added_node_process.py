"""Demand on a fleet whose Ray adds nodes, with that autoscaler at work, standing still and killed; says what it saw.

Runs on a machine made of namespaces only: `AutoscalingCluster` begins and ends with `ray stop`, which ends every Ray
that it sees. The added nodes are Ray's own of its tests: more raylets on the same machine, which the autoscaler starts.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any

import ray
from ray import serve
from ray.autoscaler._private.fake_multi_node.node_provider import (
    FAKE_HEAD_NODE_ID,
    FAKE_HEAD_NODE_TYPE,
    FakeMultiNodeProvider,
)
from ray.cluster_utils import AutoscalingCluster
from ray.exceptions import RayError
from ray.util import list_named_actors

from benchmarks.host_fleet import ANSWER, ENGINE_NAME, FLEET_FILE, PORT, QUESTION
from benchmarks.hosts import READY_FILE
from deployments.applications import EXPERT_DEPLOYMENT
from deployments.index_actor import NAMESPACE

STREAMS = 4
# Without it the questions alone would take a core from the replica that starts.
PAUSE_S = 0.25
NODE_IDLE_S = 5.0
# Three rounds of the autoscaler where nobody sets another pace than Ray's own.
STALL_S = 15.0
TIMEOUT_S = 900.0
# The gateway and one replica: a second one fits only on a node that is added.
HEAD = {"CPU": 2}
NODE = {"CPU": 1}
MONITOR = "ray/autoscaler/v2/monitor.py"


class AddedNodes(AutoscalingCluster):
    """Ray's cluster with an autoscaler, described without the file of defaults that its wheels leave out.

    The autoscaler's process reads it too, for the provider of type `fake_multinode`, and ends without it; `external` is
    the type that has none.
    """

    def _generate_config(self, head_resources: Any, worker_node_types: Any, **_: Any) -> dict[str, Any]:
        provider = f"{FakeMultiNodeProvider.__module__}.{FakeMultiNodeProvider.__name__}"
        head = {"resources": dict(head_resources), "node_config": {}, "max_workers": 0}
        return {
            "cluster_name": "added-node",
            "max_workers": 1,
            "idle_timeout_minutes": NODE_IDLE_S / 60,
            "provider": {
                "type": "external",
                "module": provider,
                "head_node_id": FAKE_HEAD_NODE_ID,
                "launch_multiple": True,
                # A node is a process that the provider starts; nobody logs in to set it up.
                "disable_node_updaters": True,
            },
            "head_node_type": FAKE_HEAD_NODE_TYPE,
            "available_node_types": {**worker_node_types, FAKE_HEAD_NODE_TYPE: head},
            "setup_commands": [],
            "head_setup_commands": [],
            "worker_setup_commands": [],
            "cluster_synced_files": [],
        }


@contextmanager
def demand() -> Iterator[list[str]]:
    """Ask in `STREAMS` streams until the end of the block; of each question, what was wrong with its answer."""
    ended = threading.Event()
    wrong: list[str] = []
    streams = [threading.Thread(target=_ask, args=(wrong, ended), daemon=True) for _ in range(STREAMS)]
    for stream in streams:
        stream.start()
    try:
        yield wrong
    finally:
        ended.set()
        for stream in streams:
            stream.join()


def _ask(wrong: list[str], ended: threading.Event) -> None:
    body = json.dumps({"model": "guildhall", "messages": [{"role": "user", "content": QUESTION}]}).encode()
    url = f"http://127.0.0.1:{PORT}/v1/chat/completions"
    while not ended.is_set():
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                said = json.load(reply)["choices"][0]["message"]["content"]
            wrong.append("" if ANSWER in said else said)
        except (OSError, HTTPException, ValueError, LookupError) as error:
            wrong.append(str(error) or type(error).__name__)
        time.sleep(PAUSE_S)


def count(wrong: list[str]) -> dict[str, Any]:
    """How many questions were answered right, and what was said to the others."""
    failures = [one for one in wrong if one]
    return {"answered": len(wrong) - len(failures), "failures": failures}


def find_nodes() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def count_replicas(state: str = "RUNNING") -> int:
    experts = serve.status().applications[ENGINE_NAME].deployments[EXPERT_DEPLOYMENT]
    return experts.replica_states.get(state, 0)


def find_index_nodes() -> set[str]:
    """Nodes whose index actor serves a version."""
    nodes = set()
    for actor in list_named_actors(all_namespaces=True):
        if actor["namespace"] != NAMESPACE:
            continue
        try:
            report = ray.get(ray.get_actor(actor["name"], NAMESPACE).observe.remote(), timeout=5)
        except (ValueError, RayError):
            continue
        if report.version:
            nodes.add(report.node_id)
    return nodes


def find_autoscaler() -> list[int]:
    """The process of Ray's autoscaler, if there is one."""
    found = subprocess.run(["pgrep", "--full", MONITOR], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


def await_all(since: float, conditions: Mapping[str, Callable[[], bool]]) -> dict[str, float]:
    """Seconds from a moment until each condition was first seen to hold; raises TimeoutError with what does not."""
    seconds: dict[str, float] = {}
    while len(seconds) < len(conditions):
        for name in conditions.keys() - seconds.keys():
            if conditions[name]():
                seconds[name] = round(time.monotonic() - since, 1)
                sys.stderr.write(f"{name} after {seconds[name]} s\n")
        if time.monotonic() - since > TIMEOUT_S:
            raise TimeoutError(f"{conditions.keys() - seconds.keys()} not within {TIMEOUT_S:g} s; so far: {seconds}")
        time.sleep(0.25)
    return {name: seconds[name] for name in conditions}


def await_grown(since: float) -> dict[str, float]:
    """Until a node is added, a second replica answers, and each node has an index."""
    return await_all(
        since,
        {
            "node_s": lambda: len(find_nodes()) == 2,
            "replica_s": lambda: count_replicas() == 2,
            "index_s": lambda: len(find_nodes()) == 2 and find_index_nodes() == find_nodes(),
        },
    )


def await_shrunk(since: float) -> dict[str, float]:
    """Until what was added is gone."""
    return await_all(
        since,
        {
            "replica_s": lambda: count_replicas() == 1,
            "index_s": lambda: find_index_nodes() == {FAKE_HEAD_NODE_ID},
            "node_s": lambda: find_nodes() == {FAKE_HEAD_NODE_ID},
        },
    )


def follow_demand() -> dict[str, Any]:
    """Demand begins, and ends once a node, a replica and an index were added for it."""
    with demand() as wrong:
        added = await_grown(time.monotonic())
    return {"added": added, "gone": await_shrunk(time.monotonic()), **count(wrong)}


def stall_autoscaler() -> dict[str, Any]:
    """Demand begins while the autoscaler stands still; then it goes on, and adds what was missing.

    Raises RuntimeError where a node was added meanwhile, or no replica waited for one.
    """
    (autoscaler,) = find_autoscaler()
    os.kill(autoscaler, signal.SIGSTOP)
    with demand() as wrong:
        await_all(time.monotonic(), {"replica wanted": lambda: count_replicas("STARTING") == 1})
        time.sleep(STALL_S)
        waiting, nodes = count_replicas("STARTING"), len(find_nodes())
        if (waiting, nodes) != (1, 1):
            raise RuntimeError(
                f"{waiting} replicas wait and {nodes} nodes live without an autoscaler, expected 1 and 1"
            )
        meanwhile = count(wrong[:])
        os.kill(autoscaler, signal.SIGCONT)
        return {"meanwhile": meanwhile, "added": await_grown(time.monotonic()), **count(wrong)}


def kill_autoscaler() -> dict[str, Any]:
    """The autoscaler is killed; what runs goes on."""
    (autoscaler,) = find_autoscaler()
    os.kill(autoscaler, signal.SIGKILL)
    with demand() as wrong:
        time.sleep(STALL_S)
    return {"started_again_by_ray": bool(find_autoscaler()), **count(wrong)}


def main() -> None:
    """Start the cluster and the fleet, do both, and write the figures to standard output as one line of JSON."""
    if not READY_FILE.exists():
        raise RuntimeError("this would end every Ray of the machine; `make bench-added_node` makes one for it")
    node = {"resources": NODE, "node_config": {}, "max_workers": 1}
    cluster = AddedNodes(dict(HEAD), {"node": node}, autoscaler_v2=True)
    # As `ray up` starts a head: an autoscaler that begins later than the head could not tell what it is.
    cluster.start(override_env={"RAY_NODE_TYPE_NAME": FAKE_HEAD_NODE_TYPE})
    try:
        environment = {**os.environ, "RAY_ADDRESS": "auto"}
        subprocess.run(["guildhall", "up", FLEET_FILE], env=environment, stdout=sys.stderr, check=True)
        ray.init("auto", log_to_driver=False)
        found = (len(find_nodes()), count_replicas(), len(find_index_nodes()))
        if found != (1, 1, 1):
            raise RuntimeError(f"nodes, replicas and indexes are {found} without demand, expected one of each")
        figures = {"demand": follow_demand(), "stalled": stall_autoscaler(), "killed": kill_autoscaler()}
    finally:
        ray.shutdown()
        cluster.shutdown()
    sys.stdout.write(f"{json.dumps(figures)}\n")


if __name__ == "__main__":
    main()

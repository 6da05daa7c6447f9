"""Machines that are there already as Ray's provider `local` takes them.

Ray gives the head and the workers one type, and its autoscaler v2, which counts the head among the type's machines,
then leaves one worker out. A file that has Ray's own name for that type Ray takes as it is: this one has the head alone
under it, a second type for the workers, and everything that Ray would fill in.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cluster.ray_node import NODE_TYPE_LABEL
from experts.fleet import NodeType

LOCAL_TYPE = "local.cluster.node"
"""Ray's own name: LOCAL_CLUSTER_NODE_TYPE of ray.autoscaler._private.local.config."""

HOST_TYPE = "host"


def render_host_types(hosts: Sequence[str]) -> dict[str, Any]:
    """The provider, the head's type and that of the workers; `hosts` has the head first."""
    head, *workers = hosts
    types = {LOCAL_TYPE: 0, HOST_TYPE: len(workers)}
    return {
        "provider": {"type": "local", "head_ip": head, "worker_ips": workers},
        "head_node_type": LOCAL_TYPE,
        "available_node_types": {
            # Without resources Ray asks each machine for its own.
            name: {"min_workers": count, "max_workers": count, "resources": {}, "node_config": {}}
            for name, count in types.items()
        },
        # What `ray.autoscaler._private.util.prepare_config` fills in for others.
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 5,
        "docker": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_filter": [],
    }


def plan_host_labels(nodes: Mapping[str, NodeType], workers: Sequence[str]) -> str:
    """The option of `ray start` that gives a worker the label of its node type; workers are in the fleet file's order.

    Ray names a host to its commands as RAY_CLOUD_INSTANCE_ID.
    """
    left = iter(workers)
    of_type = {name: [next(left) for _ in range(node.count)] for name, node in nodes.items()}
    if len(of_type) == 1:
        return f"--labels={NODE_TYPE_LABEL}={next(iter(of_type))}"
    cases = " ".join(f"{'|'.join(hosts)}) echo {name};;" for name, hosts in of_type.items())
    return f"--labels={NODE_TYPE_LABEL}=$(case $RAY_CLOUD_INSTANCE_ID in {cases} esac)"

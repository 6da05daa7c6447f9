"""A fleet as a KubeRay RayService: a head that runs no expert, and one worker group for each node type.

Manifest fields: https://docs.ray.io/en/latest/cluster/kubernetes/user-guides/config.html and
https://docs.ray.io/en/latest/serve/production-guide/kubernetes.html.
"""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import yaml

from experts.fleet import Fleet, NodeType

# The head runs Ray's control processes, the Serve controller and a proxy, but no replica: num-cpus is 0.
_HEAD_CPUS = 2
_HEAD_MEMORY_GIB = 8


def render_ray_service(fleet: Fleet, serve_config: Mapping[str, Any], image: str) -> dict[str, Any]:
    """The RayService manifest of a fleet; `serve_config` is its Ray Serve config (ServeDeploySchema).

    KubeRay gives every pod its group's name as RAY_NODE_TYPE_NAME, which Ray makes the node label
    `ray.io/node-group`: there the fleet's node types are found again.
    """
    head = {
        "rayStartParams": {"dashboard-host": "0.0.0.0", "num-cpus": "0"},  # noqa: S104 - the pod network only
        "template": _render_pod("ray-head", image, _render_resources(_HEAD_CPUS, _HEAD_MEMORY_GIB, 0)),
    }
    head["template"]["spec"]["containers"][0]["ports"] = [
        {"name": "gcs", "containerPort": 6379},
        {"name": "dashboard", "containerPort": 8265},
        {"name": "client", "containerPort": 10001},
        {"name": "serve", "containerPort": fleet.gateway.port},
    ]
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": fleet.name},
        "spec": {
            "serveConfigV2": yaml.safe_dump(dict(serve_config), sort_keys=False, allow_unicode=True),
            "rayClusterConfig": {
                "rayVersion": version("ray"),
                "headGroupSpec": head,
                "workerGroupSpecs": [_render_group(name, node, image) for name, node in fleet.nodes.items()],
            },
        },
    }


def _render_group(name: str, node: NodeType, image: str) -> dict[str, Any]:
    return {
        "groupName": name,
        # The fleet file says how many machines there are, so nothing is left for Ray's autoscaler to choose.
        "replicas": node.count,
        "minReplicas": node.count,
        "maxReplicas": node.count,
        "rayStartParams": {},
        "template": _render_pod("ray-worker", image, _render_resources(node.cpus, node.memory_gib, node.gpus)),
    }


def _render_pod(name: str, image: str, resources: dict[str, str]) -> dict[str, Any]:
    # Requests equal to limits: Ray counts what the limits say, so a pod must own it (Kubernetes' class Guaranteed).
    container = {"name": name, "image": image, "resources": {"limits": resources, "requests": dict(resources)}}
    return {"spec": {"containers": [container]}}


def _render_resources(cpus: float, memory_gib: float, gpus: int) -> dict[str, str]:
    resources = {"cpu": f"{cpus:.10g}", "memory": f"{memory_gib:.10g}Gi"}
    return resources | ({"nvidia.com/gpu": str(gpus)} if gpus else {})

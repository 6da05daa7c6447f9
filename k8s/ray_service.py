"""A fleet as a KubeRay RayService: a head that runs no expert, and one worker group for each node type.

Fields: https://ray-project.github.io/kuberay/reference/api/ (KubeRay 1.7) and
https://docs.ray.io/en/latest/serve/production-guide/kubernetes.html.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import yaml

from cluster.ray_node import NODE_TYPE_LABEL, OBJECT_STORE_BYTES
from experts.fleet import Fleet, NodeType
from k8s.pods import fleet_labels, render_head, render_worker

SERVICE_PORT = 80


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a fleet finds in its Kubernetes: a gateway class for upgrades, and a Redis; None: one of its own."""

    gateway_class: str | None = None
    redis: str | None = None
    """host:port, or rediss://host:port."""


def render_ray_service(
    fleet: Fleet, serve_config: Mapping[str, Any], fleet_file: str, around: Surroundings
) -> dict[str, Any]:
    """The RayService manifest of a fleet; `serve_config` is its Ray Serve config (ServeDeploySchema).

    `fleet` is as the image has it (see `plan_container_fleet`), `fleet_file` its path below the image's home. KubeRay
    gives every pod its group's name as RAY_NODE_TYPE_NAME, which Ray makes the node label `ray.io/node-group`.
    """
    start = {"object-store-memory": str(OBJECT_STORE_BYTES)}
    spec: dict[str, Any] = {
        "serveConfigV2": yaml.safe_dump(dict(serve_config), sort_keys=False, allow_unicode=True, width=120),
        # The workers' proxies take the traffic, so a restarted head loses no request.
        "excludeHeadPodFromServeSvc": True,
        "serveService": {
            "metadata": {"name": fleet.name, "labels": fleet_labels(fleet)},
            "spec": {"ports": [{"name": "serve", "port": SERVICE_PORT, "targetPort": fleet.gateway.port}]},
        },
        "rayClusterConfig": {
            "rayVersion": version("ray"),
            # A token that KubeRay makes for each cluster: whoever reaches Ray's ports without it runs no code.
            "authOptions": {"mode": "token"},
            "enableInTreeAutoscaling": True,
            "autoscalerOptions": {"version": "v2"},
            "gcsFaultToleranceOptions": {
                "redisAddress": around.redis or f"{fleet.name}-redis:6379",
                "redisPassword": {"valueFrom": {"secretKeyRef": {"name": f"{fleet.name}-redis", "key": "password"}}},
            },
            "headGroupSpec": {
                "rayStartParams": {"num-cpus": "0", **start},
                "template": render_head(fleet, fleet_file),
            },
            "workerGroupSpecs": [_render_group(fleet, name, node, start) for name, node in fleet.nodes.items()],
        },
    }
    if around.gateway_class is not None:
        spec["upgradeStrategy"] = _render_upgrade(around.gateway_class)
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": fleet.name, "labels": fleet_labels(fleet)},
        "spec": spec,
    }


def _render_group(fleet: Fleet, name: str, node: NodeType, start: Mapping[str, str]) -> dict[str, Any]:
    return {
        "groupName": name,
        "replicas": node.kept,
        "minReplicas": node.kept,
        "maxReplicas": node.count,
        "labels": {NODE_TYPE_LABEL: name},
        "rayStartParams": dict(start),
        "template": render_worker(fleet, name, node),
    }


def _render_upgrade(gateway_class: str) -> dict[str, Any]:
    """Traffic moves to a new cluster a fifth at a time, each step after the engines of that fifth have started."""
    return {
        "type": "NewClusterWithIncrementalUpgrade",
        "clusterUpgradeOptions": {
            "gatewayClassName": gateway_class,
            "maxSurgePercent": 20,
            "stepSizePercent": 20,
            # An engine of two million parameters takes 41 s to start on two cores; larger ones load from the volume.
            "intervalSeconds": 120,
        },
    }

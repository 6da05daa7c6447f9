"""The pods of a fleet: a head that runs no expert, and for each machine of a node type one worker.

Fields: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/.
"""

from collections.abc import Sequence
from typing import Any

from cluster.ray_node import HEAD, NODE_TYPE_LABEL
from experts.fleet import Fleet, NodeType
from k8s.container_fleet import DATA, HOME

CPU_IMAGE = "guildhall-cpu"
CUDA_IMAGE = "guildhall-cuda"
"""Names that an overlay's `images:` gives a registry and a tag."""

USER = 1000
"""The user of the images."""

METRICS_PORT = 8080
_NODE_HEALTH_PORT = 52365
_NODE_HEALTH = "/api/healthz"


def fleet_labels(fleet: Fleet) -> dict[str, str]:
    """The labels by which everything finds a fleet's pods; KubeRay's own name the RayCluster, which changes."""
    return {"app.kubernetes.io/part-of": "guildhall", "app.kubernetes.io/instance": fleet.name}


def render_head(fleet: Fleet, fleet_file: str) -> dict[str, Any]:
    """The head's pod template; `fleet_file` is relative to the image's home.

    Before Ray starts it makes every index equal to its corpus, as `guildhall up` does. Nothing in it depends on the
    domains: a changed pod template would make KubeRay start a second cluster for a domain that Serve adds in place.
    """
    container = _render_container("ray-head", CPU_IMAGE, fleet, HEAD)
    container["ports"] = [
        {"name": "gcs-server", "containerPort": 6379},
        {"name": "dashboard", "containerPort": 8265},
        {"name": "serve", "containerPort": fleet.gateway.port},
        {"name": "metrics", "containerPort": METRICS_PORT},
    ]
    container["readinessProbe"] = _render_probe(_NODE_HEALTH, _NODE_HEALTH_PORT, period_s=5, failures=10)
    template = _render_template(fleet, "ray-head", [container])
    template["spec"]["initContainers"] = [
        {
            **_render_container("prepare-indexes", CPU_IMAGE, fleet, HEAD, probed=False),
            "command": ["python", "-m", "deployments.index_preparation", fleet_file],
            "workingDir": HOME,
        }
    ]
    return template


def render_worker(fleet: Fleet, name: str, node: NodeType) -> dict[str, Any]:
    """The pod template of a node type: a pod of it has a whole machine as the fleet file gives it."""
    container = _render_container("ray-worker", CUDA_IMAGE if node.gpus else CPU_IMAGE, fleet, node)
    container["ports"] = [
        {"name": "serve", "containerPort": fleet.gateway.port},
        {"name": "metrics", "containerPort": METRICS_PORT},
    ]
    # Traffic goes to workers whose proxy is healthy; KubeRay's own probe does that with wget, which the images lack.
    container["readinessProbe"] = _render_probe("/-/healthz", fleet.gateway.port, period_s=5, failures=2)
    template = _render_template(fleet, "ray-worker", [container])
    template["metadata"]["labels"][NODE_TYPE_LABEL] = name
    template["spec"]["automountServiceAccountToken"] = False
    if node.gpus:
        template["spec"]["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    return template


def render_resources(node: NodeType) -> dict[str, dict[str, str]]:
    """Requests equal to limits: Ray counts what the limits say, so a pod must own it (Kubernetes' class Guaranteed)."""
    resources = {"cpu": f"{node.cpus:.10g}", "memory": f"{node.memory_gib:.10g}Gi"}
    if node.gpus:
        resources["nvidia.com/gpu"] = str(node.gpus)
    return {"limits": resources, "requests": dict(resources)}


def _render_template(fleet: Fleet, component: str, containers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "metadata": {"labels": {**fleet_labels(fleet), "app.kubernetes.io/component": component}},
        "spec": {
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            # Longer than Serve gives a replica to finish its answers (20 s).
            "terminationGracePeriodSeconds": 60,
            "containers": list(containers),
            "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": f"{fleet.name}-data"}},
                {"name": "copies", "emptyDir": {}},
            ],
        },
    }


def _render_container(name: str, image: str, fleet: Fleet, node: NodeType, probed: bool = True) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": name,
        "image": image,
        "env": [
            {"name": "GUILDHALL_DATA_DIR", "value": DATA},
            {"name": "HF_HOME", "value": f"{DATA}/models"},
            _render_key("GUILDHALL_API_KEYS", fleet, "api-keys", optional=False),
            _render_key("GUILDHALL_INDEX_KEYS", fleet, "index-keys", optional=True),
        ],
        # Credentials of the object store and the model hub, as the variables that their clients read.
        "envFrom": [{"secretRef": {"name": f"{fleet.name}-environment", "optional": True}}],
        "resources": render_resources(node),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "data", "mountPath": DATA},
            # Copies of indexes from object stores are searched through memory maps, so they lie on the node's own disk.
            {"name": "copies", "mountPath": f"{DATA}/copies"},
        ],
    }
    if probed:
        # 600 s, as long as KubeRay lets a worker wait for a head that is restarted.
        container["livenessProbe"] = _render_probe(_NODE_HEALTH, _NODE_HEALTH_PORT, period_s=10, failures=60)
    return container


def _render_key(variable: str, fleet: Fleet, key: str, optional: bool) -> dict[str, Any]:
    reference = {"name": f"{fleet.name}-keys", "key": key}
    return {
        "name": variable,
        "valueFrom": {"secretKeyRef": {**reference, "optional": True} if optional else reference},
    }


def _render_probe(path: str, port: int, period_s: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": port},
        "initialDelaySeconds": 10,
        "periodSeconds": period_s,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }

"""What stands around a fleet's RayService: its volume, Redis, network rules, disruption budget and monitoring.

Fields: https://kubernetes.io/docs/reference/kubernetes-api/ and
https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cluster.scraping import INTERVAL_S, JOB, RELABELLING
from experts.fleet import Fleet
from k8s.pods import METRICS_PORT, fleet_labels

# The last Redis under the BSD licence.
_REDIS_IMAGE = "redis:7.2"
_REDIS_PORT = 6379
_REDIS_USER = 999
# Ray's control state is a few MiB.
_REDIS_GIB = 1
# Five indexes of the pocket fleet take 2 MiB, a model of 7 billion parameters 15 GiB.
_DATA_GIB = 200
_DASHBOARD_PORT = 8265


def render_volume(fleet: Fleet) -> dict[str, Any]:
    """The volume that all pods share: indexes without a URL, models from the hub, feedback."""
    return _render(
        fleet,
        "v1",
        "PersistentVolumeClaim",
        "data",
        {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": f"{_DATA_GIB}Gi"}}},
    )


def render_redis(fleet: Fleet) -> list[dict[str, Any]]:
    """A Redis that keeps the head's state on a disk, so that a head which is restarted finds its cluster again."""
    labels = {**fleet_labels(fleet), "app.kubernetes.io/component": "redis"}
    password = {
        "valueFrom": {"secretKeyRef": {"name": f"{fleet.name}-redis", "key": "password"}},
    }
    container = {
        "name": "redis",
        "image": _REDIS_IMAGE,
        "command": [
            "sh",
            "-c",
            'exec redis-server --dir /data --appendonly yes --requirepass "$REDISCLI_AUTH"',
        ],
        "env": [{"name": "REDISCLI_AUTH", **password}],
        "ports": [{"name": "redis", "containerPort": _REDIS_PORT}],
        "readinessProbe": {"exec": {"command": ["redis-cli", "ping"]}, "periodSeconds": 5},
        "livenessProbe": {"exec": {"command": ["redis-cli", "ping"]}, "periodSeconds": 10, "failureThreshold": 6},
        "resources": {
            "requests": {"cpu": "100m", "memory": "256Mi"},
            "limits": {"cpu": "1", "memory": "256Mi"},
        },
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    state = {
        "serviceName": f"{fleet.name}-redis",
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {
                "automountServiceAccountToken": False,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": _REDIS_USER,
                    "runAsGroup": _REDIS_USER,
                    "fsGroup": _REDIS_USER,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [container],
            },
        },
        "volumeClaimTemplates": [
            {
                "metadata": {"name": "data"},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": f"{_REDIS_GIB}Gi"}},
                },
            }
        ],
    }
    service = {"selector": labels, "ports": [{"name": "redis", "port": _REDIS_PORT, "targetPort": "redis"}]}
    return [
        _render(fleet, "apps/v1", "StatefulSet", "redis", state),
        _render(fleet, "v1", "Service", "redis", service),
    ]


def render_network_policies(fleet: Fleet, own_redis: bool) -> list[dict[str, Any]]:
    """Who may open connections: the fleet's pods to each other, everyone to the gateway's port, and two more.

    KubeRay's operator needs the dashboard's port, which takes Serve configs; Prometheus needs the metrics' port.
    """
    pods = _select_pods(fleet)
    rules = [
        {"from": [{"podSelector": pods}]},
        {"ports": [_port(fleet.gateway.port)]},
        {"from": [_anywhere("kuberay-operator")], "ports": [_port(_DASHBOARD_PORT)]},
        {"from": [_anywhere("prometheus")], "ports": [_port(METRICS_PORT)]},
    ]
    policies = [_render_policy(fleet, "pods", pods, rules)]
    if own_redis:
        redis = {"matchLabels": {**fleet_labels(fleet), "app.kubernetes.io/component": "redis"}}
        only = [{"from": [{"podSelector": pods}], "ports": [_port(_REDIS_PORT)]}]
        policies.append(_render_policy(fleet, "redis", redis, only))
    return policies


def render_disruption_budget(fleet: Fleet) -> dict[str, Any]:
    """One pod of the fleet at a time when nodes are drained.

    A number of pods and not `maxUnavailable`, which Kubernetes knows only for owners with a scale subresource.
    """
    least = sum(node.kept for node in fleet.nodes.values())  # The head is one more, and one may go.
    spec = {
        "minAvailable": least,
        "selector": _select_pods(fleet),
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return _render(fleet, "policy/v1", "PodDisruptionBudget", "pods", spec)


def render_monitoring(fleet: Fleet) -> list[dict[str, Any]]:
    """Every pod's metrics, for a Prometheus of the Prometheus operator."""
    labels = {**fleet_labels(fleet), "app.kubernetes.io/component": "metrics"}
    ports = [{"name": "metrics", "port": METRICS_PORT, "targetPort": "metrics"}]
    # Pods without a healthy proxy are not ready, and their metrics say why.
    service = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": _pod_labels(fleet), "ports": ports}
    described = _render(fleet, "v1", "Service", "metrics", service)
    described["metadata"]["labels"] = labels
    monitor = {
        "selector": {"matchLabels": labels},
        "endpoints": [
            {
                "port": "metrics",
                "interval": f"{INTERVAL_S}s",
                "relabelings": [{"targetLabel": "job", "replacement": JOB}],
                "metricRelabelings": [step.render_for_operator() for step in RELABELLING],
            }
        ],
        "podTargetLabels": ["guildhall/node-type", "app.kubernetes.io/component"],
    }
    return [described, _render(fleet, "monitoring.coreos.com/v1", "ServiceMonitor", "metrics", monitor)]


def render_alerts(fleet: Fleet, rules: Mapping[str, Any]) -> dict[str, Any]:
    """Alert rules, as a rule file of Prometheus has them, for a Prometheus of the Prometheus operator."""
    return _render(fleet, "monitoring.coreos.com/v1", "PrometheusRule", "alerts", dict(rules))


def _render(fleet: Fleet, api: str, kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": f"{fleet.name}-{name}", "labels": fleet_labels(fleet)}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec}


def _render_policy(fleet: Fleet, name: str, pods: dict[str, Any], ingress: Sequence[dict[str, Any]]) -> dict[str, Any]:
    spec = {"podSelector": pods, "policyTypes": ["Ingress"], "ingress": list(ingress)}
    return _render(fleet, "networking.k8s.io/v1", "NetworkPolicy", name, spec)


def _select_pods(fleet: Fleet) -> dict[str, Any]:
    components = {"key": "app.kubernetes.io/component", "operator": "In", "values": ["ray-head", "ray-worker"]}
    return {"matchLabels": fleet_labels(fleet), "matchExpressions": [components]}


def _pod_labels(fleet: Fleet) -> dict[str, str]:
    return {**fleet_labels(fleet), "ray.io/is-ray-node": "yes"}


def _port(number: int) -> dict[str, Any]:
    return {"protocol": "TCP", "port": number}


def _anywhere(name: str) -> dict[str, Any]:
    """Pods of an application in whatever namespace it was installed."""
    return {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": name}}}

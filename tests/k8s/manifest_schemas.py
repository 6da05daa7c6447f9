"""JSON schemas of every kind of manifest that Guildhall writes, with unknown fields rejected.

Kubernetes' own kinds come from the package kubernetes-validate. The fields of KubeRay 1.7's RayService and of the
Prometheus operator's ServiceMonitor and PrometheusRule are written down here, only those that Guildhall may use, from
https://ray-project.github.io/kuberay/reference/api/ and
https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema
from jsonschema.protocols import Validator
from referencing import Registry, Resource

KUBERNETES = "v1.31.0"
"""The oldest Kubernetes that docs/operations.md promises; later ones know its fields too."""

_DEFINITIONS = "https://kubernetes.io/api/_definitions.json"
_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_PERCENT = {"type": "integer", "minimum": 0, "maximum": 100}
_LABELS = {"type": "object", "additionalProperties": _TEXT}


def find_mistakes(manifest: Mapping[str, Any]) -> list[str]:
    """What is wrong with a manifest, as `path: what`; a kind without a schema is wrong."""
    kind = (manifest["apiVersion"], manifest["kind"])
    if kind not in _validators():
        return [f"no schema for {kind}"]
    errors = _validators()[kind].iter_errors(manifest)
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in errors]


def _closed(required: Mapping[str, Any], optional: Mapping[str, Any]) -> dict[str, Any]:
    properties = {**required, **optional}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _kubernetes(name: str) -> dict[str, str]:
    return {"$ref": f"{_DEFINITIONS}#/$defs/io.k8s.{name}"}


def _describe_ray_service() -> dict[str, Any]:
    template = _kubernetes("api.core.v1.PodTemplateSpec")
    group = {"rayStartParams": _LABELS, "template": template}
    redis = {
        "redisAddress": _TEXT,
        "redisPassword": _closed({"valueFrom": _kubernetes("api.core.v1.EnvVarSource")}, {}),
    }
    workers = {
        "groupName": _TEXT,
        "replicas": _COUNT,
        "minReplicas": _COUNT,
        "maxReplicas": _COUNT,
        "labels": _LABELS,
        **group,
    }
    cluster = {
        "rayVersion": _TEXT,
        "authOptions": _closed({"mode": {"enum": ["token", "disabled"]}}, {"secretName": _TEXT}),
        "enableInTreeAutoscaling": {"type": "boolean"},
        "autoscalerOptions": _closed({"version": {"enum": ["v1", "v2"]}}, {"idleTimeoutSeconds": _COUNT}),
        "gcsFaultToleranceOptions": _closed(redis, {"redisUsername": _closed({}, {"value": _TEXT})}),
        "headGroupSpec": _closed(group, {}),
        "workerGroupSpecs": {"type": "array", "items": _closed(workers, {})},
    }
    steps = {
        "gatewayClassName": _TEXT,
        "maxSurgePercent": _PERCENT,
        "stepSizePercent": _PERCENT,
        "intervalSeconds": {"type": "integer", "minimum": 1},
    }
    upgrade = {"enum": ["NewClusterWithIncrementalUpgrade", "NewCluster", "None"]}
    spec = {
        "serveConfigV2": _TEXT,
        "excludeHeadPodFromServeSvc": {"type": "boolean"},
        "serveService": _kubernetes("api.core.v1.Service"),
        "rayClusterConfig": _closed(cluster, {}),
    }
    return {
        "spec": _closed(
            spec, {"upgradeStrategy": _closed({"type": upgrade}, {"clusterUpgradeOptions": _closed(steps, {})})}
        )
    }


def _describe_service_monitor() -> dict[str, Any]:
    # https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.RelabelConfig
    labels = {"type": "array", "items": _TEXT}
    step = {"action": _TEXT, "regex": _TEXT, "sourceLabels": labels, "targetLabel": _TEXT, "replacement": _TEXT}
    relabelling = {"type": "array", "items": _closed({}, step)}
    endpoint = _closed(
        {"port": _TEXT, "interval": _TEXT},
        {"path": _TEXT, "relabelings": relabelling, "metricRelabelings": relabelling},
    )
    spec = {
        "selector": _kubernetes("apimachinery.pkg.apis.meta.v1.LabelSelector"),
        "endpoints": {"type": "array", "minItems": 1, "items": endpoint},
        "podTargetLabels": {"type": "array", "items": _TEXT},
    }
    return {"spec": _closed(spec, {})}


def _describe_prometheus_rule() -> dict[str, Any]:
    # https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.Rule
    lasts = {"type": "string", "pattern": "^[1-9][0-9]*[smhd]$"}
    alert = _closed({"alert": _TEXT, "expr": _TEXT, "for": lasts}, {"labels": _LABELS, "annotations": _LABELS})
    rule = {"oneOf": [_closed({"record": _TEXT, "expr": _TEXT}, {}), alert]}
    group = _closed({"name": _TEXT, "rules": {"type": "array", "items": rule}}, {})
    return {"spec": _closed({"groups": {"type": "array", "minItems": 1, "items": group}}, {})}


@cache
def _validators() -> dict[tuple[str, str], Validator]:
    path = files("kubernetes_validate").joinpath(
        "kubernetes-json-schema", f"{KUBERNETES}-local-strict", "_definitions.json"
    )
    definitions = json.loads(path.read_text(encoding="utf-8"))
    registry: Registry[Any] = Resource.from_contents(definitions) @ Registry()
    schemas: dict[tuple[str, str], dict[str, Any]] = {}
    for name, definition in definitions["$defs"].items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            api = "/".join(part for part in (kind["group"], kind["version"]) if part)
            schemas[api, kind["kind"]] = {"$ref": f"{_DEFINITIONS}#/$defs/{name}"}
    whole = {"apiVersion": _TEXT, "kind": _TEXT, "metadata": _kubernetes("apimachinery.pkg.apis.meta.v1.ObjectMeta")}
    schemas["ray.io/v1", "RayService"] = _closed({**whole, **_describe_ray_service()}, {})
    schemas["monitoring.coreos.com/v1", "ServiceMonitor"] = _closed({**whole, **_describe_service_monitor()}, {})
    schemas["monitoring.coreos.com/v1", "PrometheusRule"] = _closed({**whole, **_describe_prometheus_rule()}, {})
    return {kind: jsonschema.Draft202012Validator(schema, registry=registry) for kind, schema in schemas.items()}

"""Every manifest of every shipped fleet is one that Kubernetes, KubeRay and the Prometheus operator take."""

import copy
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from deployments.dashboards.alerts import render_rules
from tests.conftest import FLEETS
from tests.k8s.manifest_schemas import find_mistakes
from tests.k8s.rendered import BASE, OVERLAYS, find_manifest, render_fleet, run_render

FLEET_NAMES = sorted(path.stem for path in FLEETS.glob("*.yaml"))
OPTIONS = [(), ("--gateway-class", "istio"), ("--redis", "rediss://redis.example.org:6379")]
OVERLAY_NAMES = sorted(path.parent.name for path in OVERLAYS.glob("*/kustomization.yaml"))


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: " ".join(options) or "plain")
@pytest.mark.parametrize("name", FLEET_NAMES)
def test_no_field_is_unknown_missing_or_of_another_type(name: str, options: tuple[str, ...]) -> None:
    manifests = render_fleet(name, *options)
    assert {one["metadata"]["name"]: found for one in manifests if (found := find_mistakes(one))} == {}


FREE_KEYS = {"labels", "annotations", "matchLabels", "rayStartParams", "limits", "requests", "selector"}


def list_parts(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of every mapping whose keys are not free."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    if isinstance(node, dict) and path and path[-1] not in FREE_KEYS:
        yield path
    for key, inner in items:
        yield from list_parts(inner, (*path, key))


def test_an_unknown_field_anywhere_in_a_manifest_is_found() -> None:
    tried = 0
    for manifest in render_fleet("pocket", "--gateway-class", "istio"):
        for path in list_parts(manifest):
            broken = copy.deepcopy(manifest)
            part = broken
            for key in path:
                part = part[key]
            part["noSuchField"] = 1
            assert any("noSuchField" in mistake or "oneOf" in mistake for mistake in find_mistakes(broken)), path
            tried += 1
    assert tried > 100


def test_without_a_redis_of_its_own_nothing_of_one_is_rendered() -> None:
    plain, named = render_fleet("pocket"), render_fleet("pocket", "--redis", "redis.example.org:6379")
    names = [one["metadata"]["name"] for one in plain if one["metadata"]["name"] == "pocket-redis"]
    assert len(names) == 3  # StatefulSet, Service, NetworkPolicy
    assert not [one for one in named if one["metadata"]["name"] == "pocket-redis"]
    options = find_manifest(named, "RayService")["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]
    assert options["redisAddress"] == "redis.example.org:6379"


def test_the_network_rules_and_the_budget_select_the_pods_that_the_ray_service_makes() -> None:
    manifests = render_fleet("sixteen-gpu")
    cluster = find_manifest(manifests, "RayService")["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    policy = find_manifest(manifests, "NetworkPolicy", "sixteen-gpu-pods")["spec"]["podSelector"]
    budget = find_manifest(manifests, "PodDisruptionBudget")["spec"]
    for selector in (policy, budget["selector"]):
        (among,) = selector["matchExpressions"]
        for group in groups:
            labels = group["template"]["metadata"]["labels"]
            assert selector["matchLabels"].items() <= labels.items()
            assert labels[among["key"]] in among["values"]
    assert budget["minAvailable"] == 2  # of a head and two workers, one may go
    monitor = find_manifest(manifests, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert monitor.items() <= find_manifest(manifests, "Service", "sixteen-gpu-metrics")["metadata"]["labels"].items()
    redis = find_manifest(manifests, "NetworkPolicy", "sixteen-gpu-redis")["spec"]["podSelector"]["matchLabels"]
    state = find_manifest(manifests, "StatefulSet")["spec"]
    assert redis == state["template"]["metadata"]["labels"] == state["selector"]["matchLabels"]


def test_the_alerts_are_the_rules_that_are_tested_elsewhere() -> None:
    alerts = find_manifest(render_fleet("pocket"), "PrometheusRule")
    assert alerts["spec"] == render_rules()
    assert alerts["metadata"]["labels"] == find_manifest(render_fleet("pocket"), "ServiceMonitor")["metadata"]["labels"]


@pytest.mark.parametrize("name", sorted(path.name for path in BASE.iterdir()))
def test_the_committed_bases_are_fresh(name: str, tmp_path: Path) -> None:
    first, _, _ = (BASE / name / "kustomization.yaml").read_text().partition("\n")
    command = first.removeprefix("# Written by: guildhall render ").split()
    assert command[command.index("--out") + 1] == f"k8s/base/{name}"
    done = run_render(*command[: command.index("--out")], "--out", str(tmp_path / name))
    assert done.exit_code == 0, done.output
    assert read_without_heading(BASE / name) == read_without_heading(tmp_path / name), f"run guildhall render {command}"


def read_without_heading(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text().partition("\n")[2] for path in folder.iterdir()}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed: no overlay was built")
@pytest.mark.parametrize("overlay", OVERLAY_NAMES)
def test_every_overlay_builds_into_valid_manifests_with_images_of_a_registry(overlay: str) -> None:
    built = subprocess.run(
        ["kubectl", "kustomize", str(OVERLAYS / overlay)], capture_output=True, text=True, timeout=60, check=False
    )
    assert built.returncode == 0, built.stderr
    manifests = tuple(yaml.safe_load_all(built.stdout))
    assert {one["metadata"]["name"]: found for one in manifests if (found := find_mistakes(one))} == {}
    service = find_manifest(manifests, "RayService")
    ServeDeploySchema.model_validate(yaml.safe_load(service["spec"]["serveConfigV2"]))
    cluster = service["spec"]["rayClusterConfig"]
    containers = [
        container
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
        for kind in ("containers", "initContainers")
        for container in group["template"]["spec"].get(kind, [])
    ]
    # Without a tag an image is pulled as :latest, which says nothing of the lock that it was built from.
    assert [container["image"] for container in containers if ":" not in container["image"].rpartition("/")[2]] == []
    namespaces = {one["metadata"]["name"] for one in manifests if one["kind"] == "Namespace"}
    # kind has no Prometheus operator, and a cluster rejects a kind that it does not know.
    assert any(one["apiVersion"].startswith("monitoring.coreos.com/") for one in manifests) == (overlay != "kind")
    assert {one["metadata"]["namespace"] for one in manifests if one["kind"] != "Namespace"} == namespaces

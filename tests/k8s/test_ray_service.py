"""The RayService manifest carries a valid Serve config and the machines of the fleet file."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from experts.fleet import Fleet
from experts.fleet_file import load_fleet
from k8s.ray_service import render_ray_service

SERVE_CONFIG = {
    "http_options": {"host": "0.0.0.0", "port": 8000},
    "applications": [
        {
            "name": "gateway",
            "route_prefix": "/",
            "import_path": "deployments.applications:build_gateway",
            "args": {"replicas": 2},
            "deployments": [{"name": "Gateway", "user_config": {"greeting": "à bientôt"}}],
        }
    ],
}


@pytest.fixture
def fleet() -> Fleet:
    return load_fleet(Path(__file__).parents[2] / "cluster" / "fleets" / "sixteen-gpu.yaml")


@pytest.fixture
def manifest(fleet: Fleet) -> dict[str, Any]:
    nodes = {
        **fleet.nodes,
        "little": fleet.nodes["gpu"].model_copy(update={"gpus": 0, "cpus": 3.5, "memory_gib": 31.5}),
    }
    return render_ray_service(fleet.model_copy(update={"nodes": nodes}), SERVE_CONFIG, "example.org/guildhall:0.1.0")


def test_the_serve_config_arrives_unchanged_and_valid(manifest: dict[str, Any]) -> None:
    config = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    assert config == SERVE_CONFIG
    ServeDeploySchema.model_validate(config)


def test_each_node_type_is_a_worker_group_with_its_machines(manifest: dict[str, Any]) -> None:
    groups = {group["groupName"]: group for group in manifest["spec"]["rayClusterConfig"]["workerGroupSpecs"]}
    assert list(groups) == ["gpu", "little"]
    assert [groups["gpu"][name] for name in ("replicas", "minReplicas", "maxReplicas")] == [2, 2, 2]
    (container,) = groups["gpu"]["template"]["spec"]["containers"]
    limits = {"cpu": "96", "memory": "1024Gi", "nvidia.com/gpu": "8"}
    assert container["resources"] == {"limits": limits, "requests": limits}
    (container,) = groups["little"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"cpu": "3.5", "memory": "31.5Gi"}


def test_the_head_runs_no_replica_and_opens_the_gateways_port(manifest: dict[str, Any], fleet: Fleet) -> None:
    head = manifest["spec"]["rayClusterConfig"]["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    (container,) = head["template"]["spec"]["containers"]
    assert {"name": "serve", "containerPort": fleet.gateway.port} in container["ports"]


def test_the_manifest_is_a_ray_service_of_the_fleets_name_and_image(manifest: dict[str, Any]) -> None:
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayService")
    assert manifest["metadata"]["name"] == "sixteen-gpu"
    cluster = manifest["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    images = {container["image"] for group in groups for container in group["template"]["spec"]["containers"]}
    assert images == {"example.org/guildhall:0.1.0"}
    assert yaml.safe_load(yaml.safe_dump(manifest)) == manifest

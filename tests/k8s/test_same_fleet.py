"""What is rendered for Kubernetes and what `guildhall up` deploys here are the same fleet."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray._raylet import node_labels_match_selector  # type: ignore[attr-defined]

from deployments.applications import observe_weights, plan_serve_config
from deployments.cli_render import plan_container_config
from deployments.domain_index import locate_index
from deployments.index_settings import IndexSource
from experts.fleet import Fleet
from experts.fleet_file import load_fleet
from k8s.container_fleet import DATA, HOME
from k8s.ray_service import Surroundings, render_ray_service
from retrieval.encoder import observe_encoder_fingerprint
from tests.conftest import FLEETS, ROOT, read_fleet, write_fleet
from tests.k8s.rendered import find_cluster, find_manifest, render_fleet

FLEET_NAMES = sorted(path.stem for path in FLEETS.glob("*.yaml"))


def plan_local(fleet: Fleet, data_dir: Path) -> dict[str, Any]:
    """What `guildhall up` sends to Ray Serve."""
    encoder = observe_encoder_fingerprint(fleet.router.encoder)
    indexes = {
        name: IndexSource(locate_index(fleet, name, data_dir), encoder)
        for name, domain in fleet.domains.items()
        if domain.index is not None
    }
    return plan_serve_config(fleet, indexes, observe_weights(fleet))


def move(value: Any, data_dir: Path) -> Any:
    """Paths of an image as paths of this machine."""
    if isinstance(value, dict):
        return {key: move(item, data_dir) for key, item in value.items()}
    if isinstance(value, list):
        return [move(item, data_dir) for item in value]
    if isinstance(value, str) and value.startswith(f"{HOME}/"):
        return str(ROOT / value.removeprefix(f"{HOME}/"))
    if isinstance(value, str) and value.startswith(f"{DATA}/"):
        return str(data_dir / value.removeprefix(f"{DATA}/"))
    return value


@pytest.mark.parametrize("name", FLEET_NAMES)
def test_the_same_applications_with_the_same_arguments_are_deployed(name: str, tmp_path: Path) -> None:
    fleet = load_fleet(FLEETS / f"{name}.yaml")
    local = plan_local(fleet, tmp_path)
    text = find_manifest(render_fleet(name), "RayService")["spec"]["serveConfigV2"]
    there = move(yaml.safe_load(text), tmp_path)
    # The three things that differ on purpose: where the proxies are, and the address twice.
    assert (there.pop("proxy_location"), local.pop("proxy_location")) == ("EveryNode", "HeadOnly")
    assert there["http_options"].pop("host") == "0.0.0.0"
    assert local["http_options"].pop("host") == fleet.gateway.host
    gateways = [config["applications"][-1]["deployments"][0]["user_config"]["fleet"] for config in (there, local)]
    assert [gateway["gateway"].pop("host") for gateway in gateways] == ["0.0.0.0", fleet.gateway.host]
    assert there == local


@pytest.mark.parametrize("name", FLEET_NAMES)
def test_the_pods_have_what_the_planner_counts_on(name: str) -> None:
    fleet = load_fleet(FLEETS / f"{name}.yaml")
    groups = {group["groupName"]: group for group in find_cluster(render_fleet(name))["workerGroupSpecs"]}
    assert list(groups) == list(fleet.nodes)
    for node_type, node in fleet.nodes.items():
        group = groups[node_type]
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert (group["minReplicas"], group["maxReplicas"]) == (node.kept, node.count)
        assert float(limits["cpu"]) == node.cpus
        assert float(limits["memory"].removesuffix("Gi")) == node.memory_gib
        assert int(limits.get("nvidia.com/gpu", 0)) == node.gpus


def test_every_replica_may_start_in_the_worker_groups_that_have_its_processor_and_in_no_other(tmp_path: Path) -> None:
    document = read_fleet(FLEETS / "one-gpu.yaml")
    document["nodes"]["little"] = {"cpus": 8, "memory_gib": 32}
    document["engines"]["general-awq"] = {"model": "x/y"}
    write_fleet(tmp_path / "fleet.yaml", document)
    fleet, config, fleet_file = plan_container_config(tmp_path / "fleet.yaml", tmp_path)
    service = render_ray_service(fleet, config, fleet_file, Surroundings())
    groups = {group["groupName"]: group["labels"] for group in service["spec"]["rayClusterConfig"]["workerGroupSpecs"]}
    places = {}
    for application in config["applications"]:
        (deployment,) = application["deployments"]
        (selector,) = deployment.get("placement_group_bundle_label_selector") or [
            deployment["ray_actor_options"]["label_selector"]
        ]
        places[application["name"]] = [
            name for name, labels in groups.items() if node_labels_match_selector(labels, selector)
        ]
    (gpu,) = (name for name, node in fleet.nodes.items() if node.gpus)
    on_cpus = {"general-awq", "gateway"}
    assert places == {name: ["little" if name in on_cpus else gpu] for name in (*fleet.engines, "gateway")}

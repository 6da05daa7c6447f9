"""The RayService has the machines of the fleet file, and what KubeRay 1.7's operator asks of it."""

import re
from typing import Any

import pytest
import yaml
from ray._private.label_utils import validate_node_labels
from ray.serve.schema import ServeDeploySchema

from experts.fleet import NodeType, Variant
from experts.fleet_file import load_fleet
from k8s.container_fleet import HOME, plan_container_fleet
from k8s.ray_service import Surroundings, render_ray_service
from tests.cluster.test_moved_fleet import make_fleet
from tests.conftest import FLEETS, ROOT
from tests.k8s.rendered import find_cluster, find_manifest, render_fleet

FLEET_NAMES = sorted(path.stem for path in FLEETS.glob("*.yaml"))


def render_with(nodes: dict[str, NodeType]) -> dict[str, Any]:
    fleet = plan_container_fleet(load_fleet(FLEETS / "sixteen-gpu.yaml"), ROOT)
    fleet = fleet.model_copy(update={"nodes": nodes})
    return render_ray_service(fleet, {"applications": []}, "fleet.yaml", Surroundings())


@pytest.mark.parametrize("name", FLEET_NAMES)
def test_the_serve_config_is_one_that_ray_takes_with_an_application_for_every_engine(name: str) -> None:
    config = yaml.safe_load(find_manifest(render_fleet(name), "RayService")["spec"]["serveConfigV2"])
    applications = [app.name for app in ServeDeploySchema.model_validate(config).applications]
    assert applications == [*load_fleet(FLEETS / f"{name}.yaml").engines, "gateway"]


def test_each_node_type_is_a_worker_group_with_its_machines() -> None:
    nodes = {
        "gpu": NodeType(count=4, min_count=1, cpus=96, memory_gib=1024, gpus=8),
        "little": NodeType(count=2, cpus=3.5, memory_gib=31.5),
    }
    cluster = render_with(nodes)["spec"]["rayClusterConfig"]
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    assert [groups["gpu"][field] for field in ("replicas", "minReplicas", "maxReplicas")] == [1, 1, 4]
    assert [groups["little"][field] for field in ("replicas", "minReplicas", "maxReplicas")] == [2, 2, 2]
    (gpu,), (little,) = (groups[name]["template"]["spec"]["containers"] for name in ("gpu", "little"))
    limits = {"cpu": "96", "memory": "1024Gi", "nvidia.com/gpu": "8"}
    assert gpu["resources"] == {"limits": limits, "requests": limits}
    assert little["resources"]["limits"] == {"cpu": "3.5", "memory": "31.5Gi"}
    assert (gpu["image"], little["image"]) == ("guildhall-cuda", "guildhall-cpu")


def test_only_groups_with_gpus_tolerate_what_keeps_other_pods_off_gpu_machines() -> None:
    nodes = {"gpu": NodeType(cpus=8, memory_gib=64, gpus=1), "little": NodeType(cpus=4, memory_gib=16)}
    gpu, little = render_with(nodes)["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert [taint["key"] for taint in gpu["template"]["spec"]["tolerations"]] == ["nvidia.com/gpu"]
    assert "tolerations" not in little["template"]["spec"]


def test_the_head_runs_no_replica_and_prepares_the_indexes_before_ray_starts() -> None:
    head = find_cluster(render_fleet("pocket"))["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    (prepare,) = head["template"]["spec"]["initContainers"]
    assert prepare["command"] == ["python", "-m", "deployments.index_preparation", "cluster/fleets/pocket.yaml"]
    assert prepare["workingDir"] == HOME


def test_a_changed_domain_changes_the_serve_config_and_not_the_cluster() -> None:
    """KubeRay starts a second cluster when the cluster's spec changes; Serve changes applications in place."""
    fleet = plan_container_fleet(load_fleet(FLEETS / "pocket.yaml"), ROOT)
    more = make_fleet().domains["web"].model_copy(update={"variants": {"base": Variant(engine="pocket")}})
    grown = fleet.model_copy(update={"domains": {**fleet.domains, "web": more}})
    bare = fleet.model_copy(update={"domains": {"web": more.model_copy(update={"index": None})}, "generalist": "web"})
    clusters = [
        render_ray_service(one, {"applications": []}, "fleet.yaml", Surroundings())["spec"]["rayClusterConfig"]
        for one in (fleet, grown, bare)
    ]
    assert clusters[0] == clusters[1] == clusters[2]


@pytest.mark.parametrize("name", FLEET_NAMES)
def test_workers_take_traffic_only_with_a_healthy_proxy_and_outlive_a_restarted_head(name: str) -> None:
    manifests = render_fleet(name)
    assert find_manifest(manifests, "RayService")["spec"]["excludeHeadPodFromServeSvc"] is True
    config = yaml.safe_load(find_manifest(manifests, "RayService")["spec"]["serveConfigV2"])
    assert config["proxy_location"] == "EveryNode"
    for group in find_cluster(manifests)["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        ready, live = container["readinessProbe"]["httpGet"], container["livenessProbe"]
        assert ready == {"path": "/-/healthz", "port": config["http_options"]["port"]}
        assert live["periodSeconds"] * live["failureThreshold"] >= 600


@pytest.mark.parametrize("name", FLEET_NAMES)
def test_secrets_are_named_and_never_written(name: str) -> None:
    manifests = render_fleet(name)
    groups = [find_cluster(manifests)["headGroupSpec"], *find_cluster(manifests)["workerGroupSpecs"]]
    for group in groups:
        variables = {one["name"]: one for one in group["template"]["spec"]["containers"][0]["env"]}
        wanted = {"name": f"{name}-keys", "key": "api-keys"}
        assert variables["GUILDHALL_API_KEYS"]["valueFrom"]["secretKeyRef"] == wanted
    assert not [one for one in manifests if one["kind"] == "Secret"]
    assert find_cluster(manifests)["authOptions"] == {"mode": "token"}


def test_a_gateway_class_makes_upgrades_move_traffic_in_steps() -> None:
    assert "upgradeStrategy" not in find_manifest(render_fleet("pocket"), "RayService")["spec"]
    service = find_manifest(render_fleet("pocket", "--gateway-class", "istio"), "RayService")
    upgrade = service["spec"]["upgradeStrategy"]
    assert upgrade["type"] == "NewClusterWithIncrementalUpgrade"
    options = upgrade["clusterUpgradeOptions"]
    assert options["gatewayClassName"] == "istio"
    # What the operator refuses: smaller surges than steps, and steps without the autoscaler.
    assert 0 < options["stepSizePercent"] <= options["maxSurgePercent"] <= 100
    assert find_cluster(render_fleet("pocket"))["enableInTreeAutoscaling"] is True


@pytest.mark.parametrize("name", FLEET_NAMES)
def test_the_operators_own_rules_are_kept(name: str) -> None:
    manifests = render_fleet(name)
    service, cluster = find_manifest(manifests, "RayService"), find_cluster(manifests)
    # Six characters of a generated suffix and -serve-svc must fit a DNS label.
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", service["metadata"]["name"])
    assert len(service["metadata"]["name"]) <= 47
    # Token authentication needs Ray 2.52 or later.
    assert tuple(map(int, cluster["rayVersion"].split("."))) >= (2, 52)
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        # Autoscaler v2 asks for pods that never restart, which KubeRay sets; labels stand beside the start parameters.
        assert "restartPolicy" not in group["template"]["spec"]
        assert "labels" not in group["rayStartParams"]
        validate_node_labels(group.get("labels", {}))
    ports = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"]
    assert {port["name"] for port in ports} >= {"gcs-server", "dashboard", "serve"}


def test_the_ray_version_is_that_of_the_locks() -> None:
    version = find_cluster(render_fleet("pocket"))["rayVersion"]
    for lock in ("cpu.lock", "cuda.lock"):
        assert f"ray=={version}" in (ROOT / "requirements" / lock).read_text().splitlines()

"""Everything that a fleet is on Kubernetes, as the files of a kustomize base."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.yaml_text import show_yaml
from experts.fleet import Fleet
from k8s.ray_service import Surroundings, render_ray_service
from k8s.surroundings import (
    render_alerts,
    render_disruption_budget,
    render_monitoring,
    render_network_policies,
    render_redis,
    render_volume,
)

KUSTOMIZATION = "kustomization.yaml"


def render_manifests(
    fleet: Fleet, serve_config: Mapping[str, Any], fleet_file: str, around: Surroundings, rules: Mapping[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    """The manifests of a fleet by the file that holds them.

    `rules` is a rule file of Prometheus, the other arguments are those of `render_ray_service`.
    """
    files = {
        "ray-service.yaml": [render_ray_service(fleet, serve_config, fleet_file, around)],
        "volume.yaml": [render_volume(fleet)],
        "network-policy.yaml": render_network_policies(fleet, own_redis=around.redis is None),
        "disruption-budget.yaml": [render_disruption_budget(fleet)],
        "monitoring.yaml": [*render_monitoring(fleet), render_alerts(fleet, rules)],
    }
    return files | ({"redis.yaml": render_redis(fleet)} if around.redis is None else {})


def write_base(files: Mapping[str, Sequence[Mapping[str, Any]]], command: str, folder: Path) -> list[Path]:
    """Write the files of a base, each naming the command that writes it again; returns them."""
    folder.mkdir(parents=True, exist_ok=True)
    resources = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": list(files)}
    written = []
    for name, documents in {**files, KUSTOMIZATION: [resources]}.items():
        path = folder / name
        path.write_text(f"# Written by: {command}\n{show_yaml(documents)}", encoding="utf-8")
        written.append(path)
    return written

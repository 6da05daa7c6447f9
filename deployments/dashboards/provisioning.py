"""Dashboards, alerts and Prometheus' settings as files, for a Grafana and a Prometheus that read folders.

Fields: https://grafana.com/docs/grafana/latest/administration/provisioning/.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.scraping import render_prometheus
from cluster.yaml_text import show_yaml
from deployments.dashboards.alerts import render_rules
from deployments.dashboards.boards import DASHBOARDS
from deployments.dashboards.panel import render_dashboard
from experts.errors import ConfigurationError

RULES_FILE = "alerts.yaml"
GRAFANA_FOLDER = "grafana"


def render_committed() -> dict[str, str]:
    """What is the same for every fleet, by its path: one JSON a dashboard, and the rule file."""
    boards = {
        f"{GRAFANA_FOLDER}/{dashboard.uid}.json": json.dumps(render_dashboard(dashboard), indent=2) + "\n"
        for dashboard in DASHBOARDS
    }
    return {**boards, RULES_FILE: show_yaml([render_rules()])}


def write_provisioning(folder: Path, targets: Path, prometheus_url: str) -> list[Path]:
    """Everything that a Prometheus and a Grafana need for a fleet, whose nodes `targets` lists; gives what it wrote.

    Raises ConfigurationError where the folder cannot be written.
    """
    source: Mapping[str, Any] = {
        "apiVersion": 1,
        "datasources": [
            {"name": "Prometheus", "type": "prometheus", "access": "proxy", "url": prometheus_url, "isDefault": True}
        ],
    }
    provider: Mapping[str, Any] = {
        "apiVersion": 1,
        "providers": [
            {
                "name": "guildhall",
                "folder": "Guildhall",
                "type": "file",
                "options": {"path": str((folder / GRAFANA_FOLDER).absolute())},
            }
        ],
    }
    files = {
        **render_committed(),
        "prometheus.yml": show_yaml([render_prometheus([str(targets.absolute())], RULES_FILE)]),
        "provisioning/datasources/guildhall.yaml": show_yaml([source]),
        "provisioning/dashboards/guildhall.yaml": show_yaml([provider]),
    }
    written = []
    for name, text in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be written ({error.strerror}); choose another folder") from error
        written.append(path)
    return written


if __name__ == "__main__":
    # The committed files; a test compares them.
    for name, text in render_committed().items():
        (Path(__file__).parent / name).write_text(text, encoding="utf-8")

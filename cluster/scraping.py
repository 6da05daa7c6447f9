"""How Prometheus reads a fleet: Ray's agent of every node, renamed to Guildhall's names and labels.

Ray puts `ray_` before every name and eight labels beside ours; what nobody looks at is dropped where it is scraped.
Fields: https://prometheus.io/docs/prometheus/latest/configuration/configuration/#relabel_config.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

INTERVAL_S = 15
JOB = "guildhall"
"""The label `job` of every node's metrics, whatever found the node."""
# Of Ray's own: what a node has and how much of it is used.
_NODE_METRICS = (
    "cpu_utilization",
    "cpu_count",
    "mem_used",
    "mem_total",
    "gpus_available",
    "gpus_utilization",
    "gram_used",
    "gram_available",
)


@dataclass(frozen=True, slots=True)
class Relabel:
    """One step of relabelling; fields are Prometheus'. `target` None leaves the label set as it is."""

    action: str
    regex: str
    source: str | None = None
    target: str | None = None
    replacement: str | None = None

    def render(self) -> dict[str, Any]:
        """As prometheus.yml has it."""
        fields = {
            "action": self.action,
            "source_labels": [self.source] if self.source is not None else None,
            "regex": self.regex,
            "target_label": self.target,
            "replacement": self.replacement,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def render_for_operator(self) -> dict[str, Any]:
        """As a ServiceMonitor has it: the same in camel case."""
        names = {"source_labels": "sourceLabels", "target_label": "targetLabel"}
        return {names.get(name, name): value for name, value in self.render().items()}


RELABELLING = (
    Relabel("keep", f"ray_guildhall_.+|ray_node_({'|'.join(_NODE_METRICS)})", "__name__"),
    Relabel("replace", "(.+)", "NodeAddress", "node", "$1"),
    Relabel("replace", "(.+)", "ip", "node", "$1"),
    # Twelve of Ray's 56 characters tell processes apart.
    Relabel("replace", "(.{12}).*", "WorkerId", "process", "$1"),
    Relabel("replace", "ray_(guildhall_.+)", "__name__", "__name__", "$1"),
    Relabel("labeldrop", "otel_.+|Component|Version|SessionName|NodeAddress|WorkerId|JobId|ip|IsHeadNode|RayNodeType"),
)


def render_prometheus(targets: Sequence[str], rules: str) -> dict[str, Any]:
    """A whole prometheus.yml: `targets` are files of file_sd_configs, `rules` a rule file."""
    return {
        "global": {"scrape_interval": f"{INTERVAL_S}s", "evaluation_interval": f"{INTERVAL_S}s"},
        "rule_files": [rules],
        "scrape_configs": [
            {
                "job_name": JOB,
                "file_sd_configs": [{"files": list(targets), "refresh_interval": "10s"}],
                "relabel_configs": [{"target_label": "job", "replacement": JOB}],
                "metric_relabel_configs": [step.render() for step in RELABELLING],
            }
        ],
    }

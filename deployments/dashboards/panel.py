"""What a dashboard is made of, and Grafana's JSON of it.

Fields: https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/.
"""

from dataclasses import dataclass
from typing import Any, Literal

# Of the JSON model that Grafana 11 writes; later ones read it.
SCHEMA_VERSION = 39
_PER_ROW = 3
_WIDTH = 24 // _PER_ROW
_HEIGHT = 8
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

Unit = Literal["short", "s", "reqps", "percentunit", "watt", "joule", "bytes", "percent", "ops", "none"]


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression and how its series are called; `{{label}}` is a label's value."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph; `says` is what it tells and what to do about it."""

    title: str
    queries: tuple[Query, ...]
    unit: Unit
    says: str


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page; `variables` are labels by which it is narrowed, each with the metric that has all their values."""

    name: str
    title: str
    panels: tuple[Panel, ...]
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def uid(self) -> str:
        return f"guildhall-{self.name}"


def render_dashboard(dashboard: Dashboard) -> dict[str, Any]:
    """Grafana's JSON of a dashboard, the same for the same dashboard."""
    return {
        "uid": dashboard.uid,
        "title": f"Guildhall / {dashboard.title}",
        "tags": ["guildhall"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_DATASOURCE_VARIABLE, *(_render_variable(*pair) for pair in dashboard.variables)]},
        "links": [
            {"type": "dashboards", "tags": ["guildhall"], "title": "Guildhall", "asDropdown": True, "keepTime": True}
        ],
        "panels": [_render_panel(panel, number) for number, panel in enumerate(dashboard.panels)],
    }


_DATASOURCE_VARIABLE = {
    "name": "datasource",
    "label": "Prometheus",
    "type": "datasource",
    "query": "prometheus",
    "refresh": 1,
}


def _render_variable(label: str, metric: str) -> dict[str, Any]:
    query = f"label_values({metric}, {label})"
    return {
        "name": label,
        "label": label,
        "type": "query",
        "datasource": _DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": "A"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _render_panel(panel: Panel, number: int) -> dict[str, Any]:
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.says,
        "datasource": _DATASOURCE,
        "gridPos": {
            "x": number % _PER_ROW * _WIDTH,
            "y": number // _PER_ROW * _HEIGHT,
            "w": _WIDTH,
            "h": _HEIGHT,
        },
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {
                "refId": chr(ord("A") + position),
                "datasource": _DATASOURCE,
                "expr": query.expression,
                "legendFormat": query.legend,
            }
            for position, query in enumerate(panel.queries)
        ],
    }

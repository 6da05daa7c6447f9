"""Dashboards and alerts: only catalogued metrics, fresh files, rules that promtool tests, a push that repeats."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cluster.scraping import RELABELLING
from deployments.cli import app
from deployments.dashboards.alerts import ALERTS, render_rules
from deployments.dashboards.boards import DASHBOARDS
from deployments.dashboards.grafana import FOLDER_UID, push_dashboards
from deployments.dashboards.panel import render_dashboard
from deployments.dashboards.provisioning import render_committed
from deployments.metric_catalogue import METRICS, Metric
from experts.errors import ConfigurationError, Unavailable
from tests.conftest import ROOT
from tests.deployments.grafana_server import TOKEN, Grafana, run_grafana
from tests.deployments.prometheus_server import find_program

FOLDER = ROOT / "deployments/dashboards"
PAGE = ROOT / "docs/observability.md"
EXPRESSIONS = [query.expression for board in DASHBOARDS for panel in board.panels for query in panel.queries]
EXPRESSIONS += [alert.expression for alert in ALERTS]


def list_metrics(expression: str) -> set[str]:
    """Guildhall's metrics in an expression, by their names in the catalogue."""
    found = set(re.findall(r"\bguildhall_\w+", expression))
    return {re.sub(r"_(bucket|count|sum)$", "", name) if name not in METRICS else name for name in found}


def test_every_expression_uses_catalogued_metrics_and_none_averages_a_histogram() -> None:
    used = set()
    for expression in EXPRESSIONS:
        used |= list_metrics(expression)
        assert not re.search(r"guildhall_\w+_seconds_sum", expression)
    assert used <= set(METRICS)
    unseen = {"guildhall_planner_seconds", "guildhall_scaling_replicas", "guildhall_engine_wake_seconds"}
    assert set(METRICS) - used == unseen


def test_every_label_in_a_selector_or_grouping_is_one_of_the_metrics() -> None:
    scraped = {"node", "process", "instance", "job", "le"}
    known = {label for metric in METRICS.values() for label in metric.labels} | scraped
    for expression in EXPRESSIONS:
        groups = re.findall(r"\b(?:by|on|ignoring) \(([^)]*)\)", expression)
        grouped = {name for group in groups for name in re.findall(r"\w+", group)}
        selected = re.findall(r"[{,]\s*(\w+)\s*(?:=~|!=|=)", expression)
        assert grouped | set(selected) <= known


def test_what_a_dashboard_shows_is_kept_when_nodes_are_scraped() -> None:
    keep = next(step for step in RELABELLING if step.action == "keep").regex
    for expression in EXPRESSIONS:
        for name in re.findall(r"\b(?:ray|guildhall)_\w+", expression):
            raw = name if name.startswith("ray_") else f"ray_{name}"
            assert re.fullmatch(keep, raw), name


def test_the_committed_dashboards_and_rules_are_fresh() -> None:
    wanted = render_committed()
    found = {
        str(path.relative_to(FOLDER)): path.read_text() for path in (*FOLDER.glob("grafana/*"), *FOLDER.glob("*.yaml"))
    }
    assert found == wanted, "run python -m deployments.dashboards.provisioning"


def test_panels_have_a_title_of_their_own_and_say_what_they_tell() -> None:
    for board in DASHBOARDS:
        rendered = render_dashboard(board)
        places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in rendered["panels"]}
        assert len(places) == len({panel["title"] for panel in rendered["panels"]}) == len(board.panels)
        assert all(panel["description"] for panel in rendered["panels"])
        used = set(re.findall(r"\$(domain|node)\b", json.dumps(rendered["panels"])))
        assert used == {label for label, _ in board.variables}


def test_promtool_accepts_the_rules_and_every_alert_comes_and_goes_as_it_should() -> None:
    promtool = find_program("promtool")
    for arguments in (["check", "rules", "deployments/dashboards/alerts.yaml"], ["test", "rules", "alert_tests.yaml"]):
        folder = ROOT if arguments[0] == "check" else Path(__file__).parent
        done = subprocess.run([promtool, *arguments], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test_and_a_place_in_the_page_that_says_what_to_do() -> None:
    cases = yaml.safe_load((Path(__file__).parent / "alert_tests.yaml").read_text())["tests"]
    tested: dict[str, set[bool]] = {}
    for case in cases:
        for check in case["alert_rule_test"]:
            tested.setdefault(check["alertname"], set()).add(bool(check.get("exp_alerts")))
    assert tested == {alert.name: {True, False} for alert in ALERTS}
    titles = re.findall(r"^#+ (.+)$", PAGE.read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert {alert.anchor for alert in ALERTS} <= anchors


def test_the_page_lists_every_metric_as_the_catalogue_has_it() -> None:
    def row(metric: Metric) -> str:
        labels = ", ".join(metric.labels)
        absent = f" No series {metric.absent}." if metric.absent else ""
        return f"| `{metric.name}` | {metric.kind} | {metric.unit} | {labels} | {metric.help}{absent} |"

    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `guildhall_")]
    assert rows == [row(metric) for metric in METRICS.values()]


@pytest.fixture
def grafana() -> Any:
    with run_grafana("/grafana") as server:
        yield server


def test_pushed_twice_there_is_one_of_each_and_nothing_new_is_stored(grafana: Grafana) -> None:
    assert {one.change for one in push_dashboards(grafana.url, TOKEN)} == {"created"}
    assert {one.change for one in push_dashboards(f"{grafana.url}/", TOKEN)} == {"unchanged"}
    assert grafana.folders == {FOLDER_UID: "Guildhall"}
    assert set(grafana.dashboards) == {board.uid for board in DASHBOARDS}
    assert {stored["version"] for stored in grafana.dashboards.values()} == {1}


def test_a_dashboard_changed_or_moved_by_hand_is_brought_back_and_others_stay(grafana: Grafana) -> None:
    push_dashboards(grafana.url, TOKEN)
    grafana.dashboards["somebodys"] = {"uid": "somebodys", "title": "Theirs"}
    grafana.dashboards["guildhall-fleet"]["title"] = "Mine"
    grafana.folder_of["guildhall-node"] = "elsewhere"
    changed = {one.dashboard: one.change for one in push_dashboards(grafana.url, TOKEN)}
    assert [name for name, change in changed.items() if change == "updated"] == [
        "Guildhall / Fleet",
        "Guildhall / Node",
    ]
    assert grafana.dashboards["guildhall-fleet"]["title"] == "Guildhall / Fleet"
    assert grafana.folder_of["guildhall-node"] == FOLDER_UID
    assert grafana.dashboards["somebodys"]["title"] == "Theirs"


def test_a_push_that_cannot_be_says_why_and_what_to_do(grafana: Grafana) -> None:
    with pytest.raises(ConfigurationError, match=r"refused the token \(401\); set GUILDHALL_GRAFANA_TOKEN"):
        push_dashboards(grafana.url, "wrong")
    with pytest.raises(ConfigurationError, match="correct --url"):
        push_dashboards(grafana.url.removesuffix("/grafana"), TOKEN)
    with pytest.raises(ConfigurationError, match="not an http or https URL"):
        push_dashboards("localhost:3000", TOKEN)
    with pytest.raises(Unavailable, match="no Grafana answers"):
        push_dashboards("http://127.0.0.1:1", TOKEN)
    grafana.fails = True
    with pytest.raises(Unavailable, match=r"failed \(500\)"):
        push_dashboards(grafana.url, TOKEN)


def test_the_command_pushes_with_the_token_of_the_environment_and_writes_what_promtool_takes(
    grafana: Grafana, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GUILDHALL_GRAFANA_TOKEN", raising=False)
    refused = CliRunner().invoke(app, ["dashboards", "push", "--url", grafana.url])
    assert refused.exit_code == 2
    assert "GUILDHALL_GRAFANA_TOKEN" in refused.stderr
    monkeypatch.setenv("GUILDHALL_GRAFANA_TOKEN", TOKEN)
    pushed = CliRunner().invoke(app, ["dashboards", "push", "--url", grafana.url, "--json"])
    assert [one["change"] for one in json.loads(pushed.stdout)["dashboards"]] == ["created"] * len(DASHBOARDS)
    targets = tmp_path / "targets.json"
    targets.write_text('[{"targets": ["127.0.0.1:8080"]}]')
    written = CliRunner().invoke(
        app, ["dashboards", "write", str(tmp_path / "out"), "--targets", str(targets), "--json"]
    )
    assert written.exit_code == 0, written.output
    assert yaml.safe_load((tmp_path / "out/alerts.yaml").read_text()) == render_rules()
    provider = yaml.safe_load((tmp_path / "out/provisioning/dashboards/guildhall.yaml").read_text())["providers"][0]
    assert len(list(Path(provider["options"]["path"]).glob("*.json"))) == len(DASHBOARDS)
    checked = [find_program("promtool"), "check", "config", str(tmp_path / "out/prometheus.yml")]
    done = subprocess.run(checked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

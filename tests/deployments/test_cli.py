"""The `guildhall` command without a fleet: checking a file, what it refuses to start, and what it says and returns."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from deployments.cli_output import choose_exit_code
from deployments.client import DEFAULT_URL
from deployments.up import check_port, gateway_url, plan_logical_cpus
from experts.errors import (
    BadRequest,
    ConfigurationError,
    ExpertUnavailable,
    FleetFileError,
    GuildhallError,
    NotAuthenticated,
    NotServing,
    UnknownModel,
)
from experts.fleet import Domain, Engine, Fleet, NodeType, Replicas, Variant
from tests.conftest import find_free_port
from tests.deployments.cli_runs import run, set_environment


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(tmp_path, monkeypatch)


def write_fleet(folder: Path, **changes: Any) -> Path:
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "config.json").write_text("{}", encoding="utf-8")
    fleet: dict[str, Any] = {
        "name": "tiny",
        "engines": {"base": {"model": "./model", "max_model_len": 1024}},
        "domains": {"general": {"description": "Everything there is.", "variants": {"full": {"engine": "base"}}}},
        "generalist": "general",
        "nodes": {"laptop": {"cpus": 4, "memory_gib": 8}},
    } | changes
    path = folder / "fleet.yaml"
    path.write_text(json.dumps(fleet), encoding="utf-8")
    return path


def test_check_of_a_good_file_shows_domains_engines_and_placement(tmp_path: Path) -> None:
    shown = run("check", str(write_fleet(tmp_path)))
    assert shown.exit_code == 0, shown.output
    assert "general" in shown.stdout
    assert "laptop-1: base" in shown.stdout


def test_check_as_json_writes_json_and_nothing_else(tmp_path: Path) -> None:
    report = json.loads(run("check", str(write_fleet(tmp_path)), "--json").stdout)
    assert report["ok"] is True
    assert report["domains"] == ["general"]
    assert report["engines"] == ["base"]
    assert report["mistakes"] == []


def test_check_of_a_broken_file_shows_every_mistake_and_exits_2(tmp_path: Path) -> None:
    path = write_fleet(tmp_path, generalist="nobody", gateway={"port": 99999})
    shown = run("check", str(path))
    assert shown.exit_code == 2
    assert "gateway.port" in shown.stderr
    assert "generalist" in shown.stderr
    assert shown.stdout == ""
    as_json = run("check", str(path), "--json")
    assert as_json.exit_code == 2
    assert len(json.loads(as_json.stdout)["mistakes"]) == 2


def test_check_of_a_fleet_that_fits_no_node_exits_2(tmp_path: Path) -> None:
    shown = run("check", str(write_fleet(tmp_path, nodes={"small": {"cpus": 0.5, "memory_gib": 8}})))
    assert shown.exit_code == 2
    assert "no room" in shown.stderr


def test_check_of_a_missing_file_exits_2(tmp_path: Path) -> None:
    shown = run("check", str(tmp_path / "none.yaml"))
    assert shown.exit_code == 2
    assert "no such file" in shown.stderr


@pytest.mark.parametrize("command", [["ask", "hi"], ["explain", "hi"], ["explain", "--placement"], ["status"]])
def test_without_a_server_a_command_says_how_to_start_one_and_exits_3(command: list[str]) -> None:
    shown = run(*command, "--url", f"http://127.0.0.1:{find_free_port()}")
    assert shown.exit_code == 3
    assert "nothing answers at" in shown.stderr
    assert "guildhall up" in shown.stderr
    assert "Traceback" not in shown.output


def test_down_with_nothing_running_says_so_and_exits_3() -> None:
    shown = run("down")
    assert shown.exit_code == 3
    assert "nothing to stop" in shown.stderr


def test_up_with_a_broken_file_starts_nothing_and_exits_2(tmp_path: Path) -> None:
    shown = run("up", str(write_fleet(tmp_path, generalist="nobody")))
    assert shown.exit_code == 2
    assert "generalist" in shown.stderr
    assert not (tmp_path / "data").exists()


def test_up_without_keys_refuses_an_address_that_others_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GUILDHALL_API_KEYS")
    shown = run("up", str(write_fleet(tmp_path, gateway={"host": "0.0.0.0"})))
    assert shown.exit_code == 2
    assert "no API key is set" in shown.stderr


def test_up_with_the_port_taken_says_what_to_do_and_exits_2(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        shown = run("up", str(write_fleet(tmp_path, gateway={"port": port})))
    assert shown.exit_code == 2
    assert f"port {port}" in shown.stderr
    assert "set gateway.port" in shown.stderr


def test_help_names_every_command_and_the_exit_codes() -> None:
    shown = run("--help")
    assert shown.exit_code == 0
    for word in ("check", "up", "down", "status", "ask", "explain", "Exit codes"):
        assert word in shown.stdout
    assert run("--version").stdout.startswith("guildhall")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotServing("x"), 3),
        (FleetFileError("f", ("m",)), 2),
        (UnknownModel("x"), 2),
        (BadRequest("x"), 2),
        (ConfigurationError("x"), 2),
        (ExpertUnavailable("x"), 1),
        (NotAuthenticated("x"), 1),
    ],
)
def test_choose_exit_code_follows_the_error(error: GuildhallError, code: int) -> None:
    assert choose_exit_code(error) == code


def test_gateway_url_is_one_that_this_machine_reaches() -> None:
    assert gateway_url("127.0.0.1", 8000) == DEFAULT_URL
    assert gateway_url("0.0.0.0", 80) == "http://127.0.0.1:80"
    assert gateway_url("::", 80) == "http://[::1]:80"
    assert gateway_url("::1", 80) == "http://[::1]:80"
    check_port("127.0.0.1", find_free_port())


def test_plan_logical_cpus_has_room_for_every_replica_and_never_less_than_the_machine() -> None:
    fleet = Fleet(
        name="f",
        engines={"a": Engine(model="m", cpus=1.5, replicas=Replicas(min=1, max=2)), "b": Engine(model="m")},
        domains={"d": Domain(description="All of it.", variants={"v": Variant(engine="a")})},
        generalist="d",
        nodes={"n": NodeType(cpus=4, memory_gib=8)},
    )
    assert plan_logical_cpus(fleet, 2) == 4 + 1 + 2
    assert plan_logical_cpus(fleet, 64) == 64

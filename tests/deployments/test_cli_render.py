"""`guildhall render` writes files that name their command, and refuses what could not run where it goes."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from tests.conftest import FLEETS, ROOT, read_fleet, write_fleet
from tests.k8s.rendered import run_render


def test_rendering_twice_gives_the_same_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    first, second = (run_render("k8s", "cluster/fleets/pocket.yaml") for _ in range(2))
    assert first.exit_code == 0
    assert first.stdout == second.stdout
    assert first.stderr == ""


def test_a_base_is_written_with_the_command_that_writes_it_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    out = tmp_path / "base"
    command = ["k8s", "cluster/fleets/one-gpu.yaml", "--out", str(out), "--gateway-class", "istio"]
    done = run_render(*command)
    assert done.exit_code == 0, done.output
    text = (out / "kustomization.yaml").read_text()
    assert text.startswith(f"# Written by: guildhall render {' '.join(command)}\n")
    resources = yaml.safe_load(text)["resources"]
    assert sorted([*resources, "kustomization.yaml"]) == sorted(path.name for path in out.iterdir())
    assert done.stdout == ""


def test_a_fleet_outside_the_folder_of_the_images_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    write_fleet(tmp_path / "fleet.yaml", read_fleet(FLEETS / "one-gpu.yaml"))
    done = run_render("k8s", str(tmp_path / "fleet.yaml"))
    assert done.exit_code == 2
    assert f"the fleet file is {tmp_path / 'fleet.yaml'}, which is not in {ROOT}" in done.stderr


def test_mistakes_of_the_fleet_file_are_said_as_check_says_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    write_fleet(tmp_path / "fleet.yaml", {"name": "office"})
    done = run_render("k8s", "fleet.yaml")
    assert done.exit_code == 2
    assert "mistake(s)" in done.stderr


OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


@pytest.mark.parametrize("command", re.findall(r"^\s*guildhall render (.*?)(?:\s+#.*)?$", OPERATIONS, re.M))
def test_the_commands_of_the_page_about_operations_work(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    arguments = shlex.split(command)
    if "--out" in arguments:
        arguments[arguments.index("--out") + 1] = str(tmp_path / "out")
    done = run_render(*arguments)
    assert done.exit_code == 0, done.output


def test_the_files_that_the_page_about_operations_names_are_there() -> None:
    named = re.findall(r"(?:k8s|cluster)/[\w./-]+\w", OPERATIONS)
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []

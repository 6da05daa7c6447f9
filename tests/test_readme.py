"""Every command that the README shows is run as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from experts.fleet import Index, Router
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
ROUTING = (ROOT / "docs/routing.md").read_text()
STAYS_UP = {"make demo": "make demo ONCE=1"}


def read_blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    environment = {
        **os.environ,
        "GUILDHALL_DATA_DIR": str(tmp_path / "data"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    keys = ("GUILDHALL_API_KEYS", "GUILDHALL_API_KEYS_FILE")
    for name in (*keys, "RAY_ADDRESS", "GUILDHALL_URL", "MAKEFLAGS", "MAKELEVEL"):
        environment.pop(name, None)
    return environment


def run(command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500, check=False
    )


@pytest.mark.engine
def test_every_command_of_the_readme_works(environment: dict[str, str]) -> None:
    commands = [line for block in read_blocks("sh") for line in block.strip().splitlines()]
    assert commands[0] == "make demo"
    assert commands[-1] == "guildhall down"
    # The fleet that the README has up answers the page about routing too.
    shown_elsewhere = [line for block in read_blocks("sh", ROUTING) for line in block.strip().splitlines()]
    commands[-1:-1] = shown_elsewhere
    outputs: dict[str, str] = {}
    try:
        for command in commands:
            if command == commands[-1]:
                (snippet,) = read_blocks("python")
                done = subprocess.run(
                    [sys.executable, "-c", snippet],
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=100,
                    check=False,
                )
                assert done.returncode == 0, done.stderr
                assert "412.5 million euros" in done.stdout
                assert "norvane_systems.md#q2-2025-results" in done.stdout
            done = run(STAYS_UP.get(command, command), environment)
            assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            outputs[command] = done.stdout
    finally:
        run("guildhall down", environment)
    asked = next(command for command in commands if command.startswith("guildhall ask"))
    assert outputs[shown_elsewhere[0]].startswith("flowchart TD")
    (shown,) = [block for block in read_blocks("text") if "million euros" in block]
    answer = [line for line in shown.splitlines() if line.startswith(("finance:", "coding:"))]
    assert len(answer) == 2
    for line in answer:
        assert line in outputs[asked]


def test_every_command_of_the_page_about_indexes_works(environment: dict[str, str]) -> None:
    page = (ROOT / "docs/indexes.md").read_text()
    (block,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    outputs = []
    for command in block.strip().splitlines():
        done = run(command, environment)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        outputs.append(done.stdout)
    assert "ferry, passage 0" in outputs[2]
    assert "nine coins" in outputs[2]


def test_the_index_of_the_page_about_indexes_is_one_that_a_fleet_file_may_have() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/indexes.md").read_text(), re.DOTALL)
    assert Index.model_validate(yaml.safe_load(block)["index"]).reranker


def test_the_settings_of_the_page_about_routing_are_ones_that_a_fleet_file_may_have() -> None:
    settings = [Router.model_validate(yaml.safe_load(block)["router"]) for block in read_blocks("yaml", ROUTING)]
    assert settings[0].refusals
    assert settings[1].artifact == "router"


def test_links_in_the_documents_lead_somewhere() -> None:
    for document in [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document}: {target}"

"""`guildhall index` on real files, as a user runs it; where words are enough to search by, no encoder is loaded."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import FLEETS, ROOT, read_fleet, write_fleet

NORVANE = "What was the revenue of Norvane Systems in Q2 2025?"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A fleet file beside a corpus of two documents, and documents to add."""
    document = read_fleet(FLEETS / "pocket.yaml")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/tides.md").write_text("# Tides\n\nHigh at noon.\n\n## Moon\n\nThe moon pulls the sea.\n")
    (tmp_path / "corpus/ports.txt").write_text("The port of Ilvermar opens at six.\n")
    (tmp_path / "more").mkdir()
    (tmp_path / "more/ships.md").write_text("# Ships\n\nThe Zephyrine carries timber.\n")
    (tmp_path / "more/broken.pdf").write_bytes(b"not a pdf at all")
    for domain in document["domains"].values():
        del domain["index"]
    document["domains"]["finance"]["index"] = {"corpus": str(tmp_path / "corpus")}
    write_fleet(tmp_path / "fleet.yaml", document)
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Run:
    environment = {**os.environ, "GUILDHALL_DATA_DIR": str(folder / "data"), "PYTHONPATH": str(ROOT)}

    def run(*arguments: str, stdin: str = "", fleet: bool = True) -> subprocess.CompletedProcess[str]:
        named = ["--fleet", str(folder / "fleet.yaml")] if fleet else []
        command = [sys.executable, "-m", "deployments.cli", "index", *arguments, *named]
        return subprocess.run(
            command, env=environment, input=stdin, capture_output=True, text=True, timeout=200, check=False
        )

    return run


def read_json(done: subprocess.CompletedProcess[str], code: int = 0) -> dict[str, Any]:
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    body: dict[str, Any] = json.loads(done.stdout)
    return body


def test_build_add_search_remove_and_rollback_as_a_user_does_it(folder: Path, run: Run) -> None:
    built = read_json(run("build", "finance", "--json"))
    assert (built["added"], built["changed"], built["unreadable"]) == (2, True, [])
    again = run("build", "finance")
    assert again.returncode == 0
    assert f"2 unchanged; version {built['version']}" in again.stdout
    added = run("add", "finance", str(folder / "more"), "--json")
    change = read_json(added)
    assert change["added"] == 1
    (unreadable,) = change["unreadable"]
    assert "broken.pdf" in unreadable["source"]
    assert added.stderr.count("broken.pdf") == 1
    found = read_json(run("search", "finance", "Zephyrine timber", "--by", "lexical", "--passages", "1", "--json"))
    assert found["version"] == change["version"]
    (hit,) = found["data"]
    assert (hit["document"].endswith("ships.md"), hit["position"]) == (True, 0)
    shown = run("search", "finance", "Zephyrine timber", "--by", "lexical").stdout
    for expected in (hit["document"], "passage 0", hit["source"], change["version"], "The Zephyrine carries timber."):
        assert expected in shown
    refused = run("remove", "finance", "tides.md")
    assert refused.returncode == 2
    assert "corpus" in refused.stderr
    assert read_json(run("remove", "finance", hit["document"], "--json"))["removed"] == 1
    assert read_json(run("remove", "finance", hit["document"], "--json"), code=1)["missing"] == [hit["document"]]
    (folder / "corpus/tides.md").unlink()
    changed = read_json(run("build", "finance", "--json"))
    assert (changed["removed"], changed["unchanged"], changed["embedded"]) == (1, 1, 0)
    status = read_json(run("status", "finance", "--json"))
    assert [version["is_current"] for version in status["versions"]] == [True, False]
    assert run("rollback", "finance").returncode == 0
    found = read_json(run("search", "finance", "moon", "--by", "lexical", "--json"))
    assert [hit["document"] for hit in found["data"]] == ["tides.md"]


def test_documents_come_from_standard_input_with_metadata_that_filters(run: Run) -> None:
    lines = [
        {"id": "old", "text": "The ferry costs two coins.", "metadata": {"year": 1990}},
        {"id": "new", "text": "The ferry costs nine coins.", "title": "Ferry", "metadata": {"year": 2024}},
    ]
    stdin = "".join(json.dumps(line) + "\n" for line in lines)
    assert read_json(run("add", "finance", "-", "--json", stdin=stdin))["added"] == 2
    recent = '{"year": {"gte": 2000}}'
    found = read_json(run("search", "finance", "ferry", "--by", "lexical", "--filter", recent, "--json"))
    assert [(hit["document"], hit["title"]) for hit in found["data"]] == [("new", "Ferry")]
    assert run("search", "finance", "ferry", "--filter", "{year}").returncode == 2


def test_when_nothing_can_be_read_the_exit_code_is_1_and_the_reasons_are_given(folder: Path, run: Run) -> None:
    done = run("add", "finance", str(folder / "more/broken.pdf"), "--json")
    assert read_json(done, code=1)["unreadable"][0]["reason"]
    for path in (folder / "corpus").iterdir():
        path.write_bytes(b"\xff\xfe\x00garbage\xff")
    assert read_json(run("build", "finance", "--json"), code=1)["changed"] is False


def test_mistakes_say_the_next_step(run: Run) -> None:
    for arguments, words in (
        (("status", "law"), "has no index for a domain 'law'; it has finance"),
        (("search", "finance", "tide", "--by", "lexical"), "guildhall index build"),
        (("rollback", "finance", "unknown"), "not built yet"),
    ):
        done = run(*arguments)
        assert done.returncode == 2, done.stdout
        assert words in done.stderr
    assert "--fleet" in run("status", "finance", fleet=False).stderr
    status = run("status")
    assert status.returncode == 0
    assert "not built yet" in status.stdout


@pytest.mark.parametrize("command", [("status",), ("build", "finance")])
def test_what_embeds_nothing_imports_neither_torch_nor_faiss(folder: Path, run: Run, command: tuple[str, ...]) -> None:
    assert run("build", "finance").returncode == 0
    script = (
        "import sys\nfrom deployments.cli import app\n"
        f"code = app(['index', *{list(command)}, '--fleet', {str(folder / 'fleet.yaml')!r}], standalone_mode=False)\n"
        "heavy = sorted({'torch', 'faiss', 'ray', 'vllm'} & set(sys.modules))\n"
        "print('heavy', heavy)"
    )
    environment = {**os.environ, "GUILDHALL_DATA_DIR": str(folder / "data"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.stdout.endswith("heavy []\n"), f"{done.stdout}\n{done.stderr}"

"""`guildhall ask`, `explain` and `status` against a real HTTP server with scripted bodies."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployments.cli_runs import run, set_environment
from tests.deployments.scripted_gateway import CITATION, FLEET, run_scripted_gateway


@pytest.fixture(scope="module")
def gateway() -> Iterator[str]:
    with run_scripted_gateway() as url:
        yield url


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(tmp_path, monkeypatch)


def test_ask_shows_the_answer_its_citation_a_failed_part_and_timings(gateway: str) -> None:
    shown = run("ask", "What was the revenue?", "--url", gateway)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("It was 412.5 million euros [1].\n")
    assert "[1] Norvane Systems - Q2 2025 results  norvane_systems.md#q2-2025-results" in shown.stdout
    assert "coding: its replica died" in shown.stdout
    assert "first token 40 ms, total 1.25 s, 9 tokens" in shown.stdout
    assert "finance" in shown.stderr


def test_ask_as_json_writes_the_whole_response(gateway: str) -> None:
    shown = run("ask", "What was the revenue?", "--json", "--url", gateway)
    assert json.loads(shown.stdout)["guildhall"]["citations"] == [CITATION]


def test_ask_reads_the_question_from_standard_input(gateway: str) -> None:
    shown = run("ask", "-", "--json", "--url", gateway, stdin="How much?\n")
    assert json.loads(shown.stdout)["choices"][0]["message"]["content"] == "How much?"


def test_ask_with_an_empty_question_exits_2(gateway: str) -> None:
    assert run("ask", "-", "--url", gateway, stdin=" \n").exit_code == 2


def test_ask_of_an_unknown_model_shows_the_servers_message_and_exits_2(gateway: str) -> None:
    shown = run("ask", "hi", "--model", "guildhall/law", "--url", gateway)
    assert shown.exit_code == 2
    assert "there is no model 'guildhall/law'" in shown.stderr


def test_ask_without_the_key_shows_the_servers_message_and_exits_1(
    gateway: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GUILDHALL_API_KEYS")
    shown = run("ask", "hi", "--url", gateway)
    assert shown.exit_code == 1
    assert "no API key" in shown.stderr


def test_ask_when_the_answer_breaks_off_keeps_what_came_and_exits_1(gateway: str) -> None:
    shown = run("ask", "break off", "--url", gateway)
    assert shown.exit_code == 1
    assert "It was 412.5 million euros" in shown.stdout
    assert "before it was complete" in shown.stderr


def test_explain_shows_domains_scores_runner_up_needs_and_microseconds(gateway: str) -> None:
    shown = run("explain", "What was the revenue?", "--url", gateway)
    assert shown.exit_code == 0, shown.output
    for part in (
        "0-21",
        "finance",
        "0.81",
        "math 0.25",
        "nearest to an example",
        "split at 'and'",
        "split 51 µs",
        "refused",
    ):
        assert part in shown.stdout
    assert "balanced: the most right for its cost" in shown.stdout
    drawn = run("explain", "What was the revenue?", "--mermaid", "--url", gateway)
    assert drawn.stdout.startswith("flowchart TD")
    assert "finance/adapter 0.81 encoder" in drawn.stdout
    as_json = run("explain", "Why?", "--json", "--url", gateway)
    assert json.loads(as_json.stdout)["plan"]["question"] == "Why?"


def test_status_shows_one_line_per_domain(gateway: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUILDHALL_URL", gateway)
    shown = run("status")
    assert shown.exit_code == 0, shown.output
    for part in ("finance", "adapter", "12.3", "v-2f", "f00dcafe0123"):
        assert part in shown.stdout
    assert json.loads(run("status", "--json").stdout) == FLEET


def test_the_command_runs_as_a_process_and_starts_light(gateway: str) -> None:
    code = (
        "import sys; from deployments import cli; sys.argv = ['guildhall', 'status', '--json', '--url', sys.argv[1]]\n"
        "try: cli.main()\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'torch', 'vllm', 'ray', 'faiss', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "sys.exit(code)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, gateway], capture_output=True, text=True, timeout=60, check=False, env=os.environ
    )
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout) == FLEET
    assert told.stderr == ""

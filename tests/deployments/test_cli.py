"""The `guildhall` command against a real HTTP server with scripted bodies, and against none."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from typer.testing import CliRunner

from deployments.cli import app
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

KEY = "a-key-of-the-test-that-is-long"
PLAN = {
    "question": "What was the revenue?",
    "sub_queries": [
        {
            "id": 0,
            "text": "What was the revenue?",
            "span": [0, 21],
            "domain": "finance",
            "reason": "nearest to an example",
            "tier": "encoder",
            "confidence": 0.8123,
            "refusal": None,
            "variant": "adapter",
            "predicted_quality": 0.9,
            "cost": 1.0,
            "queue": 2,
            "variant_reason": "balanced: the most right for its cost",
            "candidates": [{"domain": "finance", "score": 0.8123}, {"domain": "math", "score": 0.2512}],
            "needs": [],
        },
        {
            "id": 1,
            "text": "Which function loads that?",
            "span": None,
            "domain": "coding",
            "reason": "nearest to its description",
            "tier": "static",
            "confidence": 0.6,
            "refusal": "The fleet does not write code.",
            "candidates": [{"domain": "coding", "score": 0.6}],
            "needs": [0],
        },
    ],
    "reasons": ["split at 'and'"],
    "timings_s": {"split": 0.000051, "encode": 0.0072},
}
CITATION = {
    "number": 1,
    "domain": "finance",
    "title": "Norvane Systems - Q2 2025 results",
    "source": "norvane_systems.md#q2-2025-results",
    "text": "Revenue was 412.5 million euros.",
    "score": 0.9,
    "version": "abc",
}
ENDING = {
    "citations": [CITATION],
    "sub_answers": [
        {"sub_query": 0, "domain": "finance", "text": "It was 412.5 million euros [1].", "failure": None},
        {"sub_query": 1, "domain": "coding", "text": "", "failure": {"code": "x", "message": "its replica died"}},
    ],
    "timings_s": {"route": 0.009, "first_token": 0.04, "total": 1.25},
}
FLEET = {
    "object": "fleet",
    "name": "pocket",
    "generalist": "general",
    "domains": [
        {
            "domain": "finance",
            "variant": "adapter",
            "answers": True,
            "engine": "pocket",
            "replicas": 1,
            "nodes": ["f00dcafe0123456789"],
            "running": 0,
            "requests": 7,
            "completion_tokens": 90,
            "tokens_per_s": 12.34,
            "index_version": "v-2f",
            "replica_states": [],
        }
    ],
}


def chunk(delta: dict[str, str], finish: str | None = None, **extra: Any) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return f"data: {json.dumps({'object': 'chat.completion.chunk', 'choices': [choice], **extra})}\n\n"


def build_scripted_gateway() -> FastAPI:
    """Answers as a gateway does; the question chooses the script."""
    api = FastAPI()

    @api.post("/v1/chat/completions", response_model=None)
    async def chat(request: Request) -> Response:
        body = await request.json()
        asked = body["messages"][-1]["content"]
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return JSONResponse({"error": {"message": "the request carries no API key"}}, 401)
        if body["model"] == "guildhall/law":
            return JSONResponse({"error": {"message": "there is no model 'guildhall/law'"}}, 404)
        if not body.get("stream"):
            return JSONResponse({"choices": [{"message": {"content": asked}}], "guildhall": {"plan": PLAN, **ENDING}})
        frames = [
            chunk({"role": "assistant", "content": ""}, guildhall={"plan": PLAN}),
            chunk({"content": "It was 412.5 "}),
            chunk({"content": "million euros [1]."}),
        ]
        if asked != "break off":
            frames += [
                chunk({}, "stop", guildhall=ENDING),
                f"data: {json.dumps({'choices': [], 'usage': {'completion_tokens': 9}})}\n\n",
                "data: [DONE]\n\n",
            ]
        return StreamingResponse(iter(frames), media_type="text/event-stream")

    @api.post("/v1/plan")
    async def plan(request: Request) -> dict[str, Any]:
        asked = await request.json()
        return {"object": "plan", "model": asked["model"], "plan": {**PLAN, "question": asked["question"]}}

    @api.get("/v1/fleet")
    async def fleet() -> dict[str, Any]:
        return FLEET

    return api


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def gateway() -> Iterator[str]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(build_scripted_gateway(), port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GUILDHALL_API_KEYS_FILE", "GUILDHALL_URL", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GUILDHALL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("GUILDHALL_API_KEYS", KEY)


def run(*arguments: str, stdin: str | None = None) -> Any:
    return CliRunner().invoke(app, list(arguments), input=stdin)


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
    shown = run(*command, "--url", f"http://127.0.0.1:{free_port()}")
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
    check_port("127.0.0.1", free_port())


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

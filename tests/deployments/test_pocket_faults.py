"""Faults of the running pocket fleet, by name: index actor killed, replica killed, Serve controller stalled."""

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import RunningFleet

pytestmark = pytest.mark.engine

QUESTION = "What was the revenue of Norvane Systems in Q2 2025?"
ENOUGH_S = 180


def find_processes(pocket: RunningFleet, title: str) -> list[int]:
    """Processes of this fleet's own Ray whose title begins so."""
    state = json.loads((Path(pocket.environment["GUILDHALL_DATA_DIR"]) / "ray.json").read_text())
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if command.startswith(title) and os.getsid(int(entry.name)) == state["pid"]:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


async def ask(http: httpx.AsyncClient, model: str = "guildhall/finance") -> tuple[int, dict[str, Any]]:
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION}]}
    response = await http.post("/v1/chat/completions", json=body)
    return response.status_code, response.json()


async def ask_for(http: httpx.AsyncClient, seconds: float, streams: int) -> list[tuple[int, dict[str, Any]]]:
    """Answers of that many streams that ask again and again for that long."""
    answers: list[tuple[int, dict[str, Any]]] = []

    async def stream() -> None:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            answers.append(await ask(http))

    await asyncio.gather(*(stream() for _ in range(streams)))
    return answers


async def test_index_actor_killed_under_load_fails_no_request(pocket: RunningFleet) -> None:
    async with httpx.AsyncClient(base_url=pocket.url, timeout=60) as http:
        load = asyncio.create_task(ask_for(http, 15, 6))
        killed = 0
        for _ in range(2):
            await asyncio.sleep(2)
            for process in find_processes(pocket, "ray::IndexActor"):
                os.kill(process, signal.SIGKILL)
                killed += 1
        answers = await load
    assert killed >= 5
    assert len(answers) > 6
    assert [body for status, body in answers if status != 200] == []
    assert all(answer["guildhall"]["citations"] for _, answer in answers)
    assert len(find_processes(pocket, "ray::IndexActor")) == 5


async def test_replica_killed_fails_only_what_it_held_and_says_that_it_may_be_retried(pocket: RunningFleet) -> None:
    streams = 6
    async with httpx.AsyncClient(base_url=pocket.url, timeout=ENOUGH_S) as http:
        (replica,) = find_processes(pocket, "ray::ServeReplica:pocket:Expert")
        (engine,) = find_processes(pocket, "VLLM::EngineCore")
        # An engine that stands still holds what it is asked, however fast the machine is.
        os.kill(engine, signal.SIGSTOP)
        load = asyncio.create_task(ask_for(http, 1, streams))
        await asyncio.sleep(3)
        os.kill(replica, signal.SIGKILL)
        os.kill(engine, signal.SIGKILL)
        answers = await load
        failed = [(status, body) for status, body in answers if status != 200]
        assert 1 <= len(failed) <= streams
        for status, body in failed:
            assert status == 503
            assert "may be retried" in body["error"]["message"]
        ends = time.monotonic() + ENOUGH_S
        status = 0
        while status != 200 and time.monotonic() < ends:
            status, body = await ask(http)
            await asyncio.sleep(0.5)
        assert status == 200, body
        assert "412.5" in body["choices"][0]["message"]["content"]
        assert len(find_processes(pocket, "ray::IndexActor")) == 5


async def test_the_serve_controller_stalled_and_then_killed_fails_no_request_and_takes_changes_again(
    pocket: RunningFleet,
) -> None:
    (controller,) = find_processes(pocket, "ray::ServeController")
    async with httpx.AsyncClient(base_url=pocket.url, timeout=60) as http:
        load = asyncio.create_task(ask_for(http, 10, 2))
        os.kill(controller, signal.SIGSTOP)
        await asyncio.sleep(6)
        os.kill(controller, signal.SIGKILL)
        answers = await load
    assert len(answers) > 2
    assert [body for status, body in answers if status != 200] == []
    began = time.monotonic()
    # Who scales and changes the fleet is another process, and it knows what the first one knew.
    done = await asyncio.to_thread(pocket.run, "up", str(pocket.file), "--json")
    assert done.returncode == 0, done.stderr
    assert {change["kind"] for change in json.loads(done.stdout)["changes"]["applications"]} == {"unchanged"}
    assert find_processes(pocket, "ray::ServeController") not in ([], [controller])
    print(f"takes changes again after {time.monotonic() - began:.1f} s")  # noqa: T201

"""Experts with an engine each: two applications beside the gateway's, changed one without the other."""

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from safetensors.torch import load_file, save_file

from deployments.start_queue import StartQueue, choose_queue_folder
from tests.conftest import ROOT, RunningFleet, run_fleet

pytestmark = pytest.mark.engine

WEIGHTS = ROOT / "experts/pocket/weights"


def make_document(adapter: Path = WEIGHTS / "finance") -> dict[str, Any]:
    engine = {
        "model": str(WEIGHTS / "base"),
        "dtype": "bfloat16",
        "max_model_len": 1024,
        "kv_cache_gib": 0.125,
        "max_num_seqs": 8,
    }
    return {
        "name": "own-engines",
        "engines": {"finance": {**engine, "max_adapters": 1, "sleep": {"idle_sleep_s": 3600}}, "plain": dict(engine)},
        "domains": {
            "finance": {
                "description": "Quarterly results of companies.",
                "examples": ["What was the revenue of Norvane Systems in Q2 2025?"],
                "variants": {"tuned": {"engine": "finance", "adapter": str(adapter)}},
                "index": {"corpus": str(ROOT / "experts/pocket/corpora/finance")},
                "history_turns": 0,
            },
            "plain": {
                "description": "Everything that no other domain owns.",
                "variants": {"full": {"engine": "plain"}},
                "max_tokens": 32,
            },
        },
        "generalist": "plain",
        "sharing": {"kv_cache_gib": 0.125},
        "nodes": {"here": {"cpus": 4, "memory_gib": 8}},
    }


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFleet]:
    folder = tmp_path_factory.mktemp("own")
    yield from run_fleet(folder, make_document(Path(shutil.copytree(WEIGHTS / "finance", folder / "adapter"))))


def find_replicas(fleet: RunningFleet) -> dict[str, str]:
    return {domain["domain"]: domain["replica_states"][0]["replica"] for domain in fleet.get("/v1/fleet")["domains"]}


def test_each_domain_answers_from_its_own_engine(fleet: RunningFleet) -> None:
    client = openai.OpenAI(base_url=f"{fleet.url}/v1", api_key="none", timeout=60, max_retries=0)
    question = "What was the revenue of Norvane Systems in Q2 2025?"
    grounded = client.chat.completions.create(model="guildhall", messages=[{"role": "user", "content": question}])
    assert "412.5 million euros" in (grounded.choices[0].message.content or "")
    plain = client.chat.completions.create(model="guildhall/plain", messages=[{"role": "user", "content": "Hello"}])
    assert plain.guildhall["citations"] == []  # type: ignore[attr-defined]
    replicas = find_replicas(fleet)
    assert replicas["finance"] != replicas["plain"]


def test_placement_says_what_each_engine_may_use_of_the_node_and_why(fleet: RunningFleet) -> None:
    shown = fleet.run("explain", "--placement", "--json", "--url", fleet.url)
    assert shown.returncode == 0, shown.stderr
    quotas = {quota["engine"]: quota for quota in json.loads(shown.stdout)["quotas"]}
    assert set(quotas) == {"finance", "plain"}
    assert sum(quota["in_force_bytes"] for quota in quotas.values()) <= 2**27
    assert {quota["quota_bytes"] for quota in quotas.values()} == {2**26 // 393216 * 393216}
    text = fleet.run("explain", "--placement", "--url", fleet.url).stdout
    assert "plain: its share of 128.0 MiB for 2 engines; never lends its floor of" in text


def test_the_adapter_over_ray_serve_keeps_the_experts_contract(fleet: RunningFleet) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.deployments.contract_on_ray", str(fleet.file)],
        env=fleet.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "the contract holds" in done.stdout


def test_changing_one_engine_restarts_only_its_application(fleet: RunningFleet) -> None:
    before = find_replicas(fleet)
    document = make_document(fleet.file.parent / "adapter")
    document["gateway"] = {"port": int(fleet.url.rsplit(":", 1)[1])}
    document["engines"]["plain"]["max_num_seqs"] = 4
    report = fleet.up(document)
    kinds = {change["name"]: change["kind"] for change in report["changes"]["applications"]}
    assert kinds == {"finance": "unchanged", "plain": "restarted", "gateway": "in place"}
    after = find_replicas(fleet)
    assert after["finance"] == before["finance"]
    assert after["plain"] != before["plain"]


def test_expert_put_to_sleep_ends_and_its_next_request_wakes_it_in_its_turn(fleet: RunningFleet) -> None:
    slept = fleet.run("sleep", "finance", "--json")
    assert slept.returncode == 0, slept.stderr
    report = json.loads(slept.stdout)
    assert (report["state"], report["engines"]) == ("asleep", {"finance": ["finance"]})
    line = find_line(fleet, "finance")
    assert (line["state"], line["replicas"]) == ("asleep", 0)
    assert find_line(fleet, "plain")["state"] == "serving"
    assert httpx.get(f"{fleet.url}/readyz", timeout=30).status_code == 200
    answers: list[httpx.Response] = []
    question = "What was the revenue of Norvane Systems in Q2 2025?"

    def ask() -> None:
        body = {"model": "guildhall/finance", "messages": [{"role": "user", "content": question}]}
        answers.append(httpx.post(f"{fleet.url}/v1/chat/completions", json=body, timeout=180))

    askers = [threading.Thread(target=ask) for _ in range(3)]
    queue, ends = StartQueue(choose_queue_folder()), time.monotonic() + 180
    with queue.hold("test", "start", ends):
        for asker in askers:
            asker.start()
        while [ticket.engine for ticket in queue.observe()].count("finance") == 0:
            assert time.monotonic() < ends, "no replica came for the requests that wait"
            time.sleep(0.1)
        assert answers == []
    for asker in askers:
        asker.join(180)
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    for answer in answers:
        assert "412.5 million euros" in answer.json()["choices"][0]["message"]["content"]
    line = find_line(fleet, "finance")
    assert (line["state"], line["replicas"]) == ("serving", 1)
    assert line["index_version"]


def test_expert_that_may_not_sleep_is_left_awake_and_the_message_says_what_to_add(fleet: RunningFleet) -> None:
    refused = fleet.run("sleep", "plain")
    assert refused.returncode == 2
    assert "add engines.plain.sleep" in " ".join(refused.stderr.split())


def test_an_adapter_trained_again_in_its_own_folder_is_served_without_a_restart(fleet: RunningFleet) -> None:
    client = openai.OpenAI(base_url=f"{fleet.url}/v1", api_key="none", timeout=60, max_retries=0)
    question = "What was the revenue of Norvane Systems in Q2 2025?"

    def ask() -> str | None:
        asked = client.chat.completions.create(
            model="guildhall/finance", messages=[{"role": "user", "content": question}], seed=1
        )
        return asked.choices[0].message.content

    document = make_document(fleet.file.parent / "adapter")
    document["gateway"] = {"port": int(fleet.url.rsplit(":", 1)[1])}
    document["engines"]["plain"]["max_num_seqs"] = 4
    before, said = find_replicas(fleet), ask()
    # An adapter that points the other way: what was added to every layer is now taken from it.
    weights = fleet.file.parent / "adapter/adapter_model.safetensors"
    state = load_file(weights)
    save_file({name: -tensor if "lora_B" in name else tensor for name, tensor in state.items()}, weights)
    kinds = {change["name"]: change["kind"] for change in fleet.up(document)["changes"]["applications"]}
    assert kinds == {"finance": "in place", "plain": "unchanged", "gateway": "unchanged"}
    assert find_replicas(fleet) == before
    assert said is not None
    assert "412.5 million euros" in said
    assert ask() != said


def find_line(fleet: RunningFleet, domain: str) -> dict[str, Any]:
    line: dict[str, Any] = next(line for line in fleet.get("/v1/fleet")["domains"] if line["domain"] == domain)
    return line

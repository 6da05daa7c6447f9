"""The pocket fleet as a user meets it: the real command, gateway, engine, adapters and indexes."""

import asyncio
import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.conftest import ROOT, RunningFleet, read_fleet, write_fleet

pytestmark = pytest.mark.engine

TWO_DOMAINS = (
    "What was the revenue of Norvane Systems in Q2 2025, and which function of the pipeline loads the raw events?"
)
QUESTIONS = ROOT / "experts/pocket/corpora/questions.jsonl"
NORVANE = ROOT / "experts/pocket/corpora/finance/norvane_systems.md"


@pytest.fixture(scope="module")
def client(pocket: RunningFleet) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{pocket.url}/v1", api_key="none", timeout=60, max_retries=0)


def ask(client: openai.OpenAI, question: str, model: str = "guildhall", **options: Any) -> Any:
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": question}], **options)


def test_a_question_over_two_domains_is_answered_by_both_with_their_citations(client: openai.OpenAI) -> None:
    stream = ask(client, TWO_DOMAINS, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    first, last = chunks[0].guildhall, [chunk for chunk in chunks if chunk.choices][-1].guildhall
    assert [part["domain"] for part in first["plan"]["sub_queries"]] == ["finance", "coding"]
    assert "412.5 million euros" in text
    assert "load_events" in text
    cited = {citation["number"]: citation for citation in last["citations"]}
    assert "[1]" in text
    assert "[2]" in text
    assert cited[1]["source"] == "norvane_systems.md#q2-2025-results"
    assert cited[1]["domain"] == "finance"
    assert "412.5" in cited[1]["text"]
    assert cited[2]["domain"] == "coding"
    assert "load_events" in cited[2]["text"]
    assert chunks[-1].usage.completion_tokens > 0


def test_independent_sub_queries_run_at_the_same_time(client: openai.OpenAI) -> None:
    answer = ask(client, TWO_DOMAINS)
    first, second = answer.guildhall["sub_answers"]
    assert second["timings_s"]["first_token"] < first["timings_s"]["total"]


def test_questions_of_every_domain_come_from_the_right_document(client: openai.OpenAI) -> None:
    rows = [json.loads(line) for line in QUESTIONS.read_text().splitlines()]
    for domain in ("finance", "math", "coding", "reasoning", "generalist"):
        asked = [row for row in rows if row["domain"] == domain and row["source"]][:6]
        right = 0
        for row in asked:
            answer = ask(client, row["question"], model=f"guildhall/{domain}")
            sources = {citation["source"] for citation in answer.guildhall["citations"]}
            right += row["answer"] in answer.choices[0].message.content and bool(sources)
        assert right >= 4, f"{domain}: {right} of {len(asked)} right"


def test_what_the_passages_do_not_say_is_not_invented(client: openai.OpenAI) -> None:
    answer = ask(client, "What was the revenue of Zelquor Aviation in Q2 2025?", model="guildhall/finance")
    assert answer.choices[0].message.content == "The passages do not say."
    assert answer.guildhall["citations"] == []


def test_a_later_turn_is_resolved_from_the_turns_before(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="guildhall",
        messages=[
            {"role": "user", "content": "What was the revenue of Norvane Systems in Q2 2025?"},
            {"role": "assistant", "content": "412.5 million euros [1]"},
            {"role": "user", "content": "And what was its net income?"},
        ],
    )
    (part,) = answer.guildhall["plan"]["sub_queries"]  # type: ignore[attr-defined]
    assert "Norvane Systems" in part["text"]
    found = re.search(r"Q2 2025 was .*? The net income was ([\d.]+ million euros)", NORVANE.read_text())
    assert found
    assert found[1] in (answer.choices[0].message.content or "")


def test_json_schema_is_kept_by_one_expert(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"answer": {"enum": ["yes", "no"]}}, "required": ["answer"]}
    answer = ask(
        client,
        "Is the revenue known?",
        model="guildhall/finance",
        response_format={"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema}},
    )
    assert json.loads(answer.choices[0].message.content)["answer"] in {"yes", "no"}


def test_stop_and_token_limit_end_an_answer(client: openai.OpenAI) -> None:
    question = "What was the revenue of Norvane Systems in Q2 2025?"
    cut = ask(client, question, model="guildhall/finance", max_completion_tokens=2)
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage.completion_tokens == 2
    stopped = ask(client, question, model="guildhall/finance", stop=["million"])
    assert "million" not in stopped.choices[0].message.content
    assert stopped.choices[0].finish_reason == "stop"


def test_completions_embeddings_and_models_work_with_the_official_client(client: openai.OpenAI) -> None:
    completed = client.completions.create(model="guildhall/generalist", prompt="The", max_tokens=3, temperature=0)
    assert completed.usage is not None
    assert completed.usage.completion_tokens <= 3
    embedded = client.embeddings.create(model="all-MiniLM-L6-v2", input=["one", "two"])
    assert [len(item.embedding) for item in embedded.data] == [384, 384]
    ids = {model.id for model in client.models.list()}
    assert {"guildhall", "guildhall/finance", "guildhall/coding", "all-MiniLM-L6-v2"} <= ids


def test_a_prompt_over_the_context_length_is_the_callers_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, "Why " * 2000 + "?", model="guildhall/generalist")
    assert "1024" in str(caught.value)
    assert caught.value.param == "messages"


def test_metrics_count_what_was_asked(pocket: RunningFleet, client: openai.OpenAI) -> None:
    ask(client, "What was the revenue of Norvane Systems in Q2 2025?")
    text = httpx.get(f"{pocket.url}/metrics").text
    assert "guildhall_sub_queries_total" in text
    assert 'domain="finance"' in text
    assert "Norvane" not in text


async def test_a_client_that_leaves_stops_the_generation(pocket: RunningFleet) -> None:
    # A schema that asks for 300 items keeps the engine from ending by itself.
    schema = {"type": "array", "items": {"enum": ["yes", "no"]}, "minItems": 300}
    body = {
        "model": "guildhall/generalist",
        "messages": [{"role": "user", "content": "List them."}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "items", "schema": schema}},
        "max_tokens": 700,
    }
    async with httpx.AsyncClient(base_url=pocket.url, timeout=60) as http:
        began = time.monotonic()
        whole = await http.post("/v1/chat/completions", json=body)
        took = time.monotonic() - began
        assert whole.json()["usage"]["completion_tokens"] == 700
        for _ in range(4):
            async with http.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as response:
                await anext(response.aiter_bytes())
        left = time.monotonic()
        running = 1
        while running and time.monotonic() - left < took / 2:
            fleet = (await http.get("/v1/fleet")).json()
            running = max(domain["running"] for domain in fleet["domains"])
            await asyncio.sleep(0.05)
    assert running == 0, f"still running {took / 2:.1f} s after every client left; a whole answer takes {took:.1f} s"


def test_the_command_line_asks_explains_and_reports(pocket: RunningFleet) -> None:
    asked = pocket.run("ask", TWO_DOMAINS, "--url", pocket.url)
    assert asked.returncode == 0, asked.stderr
    assert "412.5 million euros" in asked.stdout
    explained = pocket.run("explain", TWO_DOMAINS, "--json", "--url", pocket.url)
    assert [part["domain"] for part in json.loads(explained.stdout)["plan"]["sub_queries"]] == ["finance", "coding"]
    status = json.loads(pocket.run("status", "--json", "--url", pocket.url).stdout)
    finance = next(domain for domain in status["domains"] if domain["domain"] == "finance")
    assert finance["replicas"] == 1
    assert finance["variant"] == "adapter"
    assert finance["index_version"]


def test_what_an_answer_cites_is_found_again_by_document_position_and_version(
    pocket: RunningFleet, client: openai.OpenAI
) -> None:
    question = "What was the revenue of Norvane Systems in Q2 2025?"
    (citation,) = ask(client, question, model="guildhall/finance").guildhall["citations"]
    done = pocket.run("index", "search", "finance", question, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["version"] == citation["version"]
    places = {(hit["document"], hit["position"]): hit["text"] for hit in found["data"]}
    assert places[citation["document"], citation["position"]] == citation["text"]


def test_what_is_added_over_http_is_served_by_the_running_replica_within_a_second(pocket: RunningFleet) -> None:
    def served() -> str:
        return next(line["index_version"] for line in pocket.get("/v1/fleet")["domains"] if line["domain"] == "finance")

    documents = f"{pocket.url}/v1/indexes/finance/documents"
    record = {"id": "zephyr.md", "text": "The revenue of Zephyr Looms was 7 euros.", "title": "Zephyr Looms"}
    added = httpx.post(documents, json={"documents": [record]}, timeout=30)
    assert added.status_code == 200, added.text
    try:
        # The replica knows from its lease, which it renews every second, what its index actor took up before.
        deadline = time.monotonic() + 2.5
        while served() != added.json()["version"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        body = {"query": "revenue of Zephyr Looms"}
        found = httpx.post(f"{pocket.url}/v1/indexes/finance/search", json=body, timeout=30).json()
        assert found["data"][0]["document"] == "zephyr.md"
    finally:
        assert httpx.delete(f"{documents}/zephyr.md", timeout=30).status_code == 200


def test_a_changed_corpus_reaches_the_running_replica_in_place(pocket: RunningFleet, tmp_path: Path) -> None:
    before = read_fleet(pocket.file)
    shutil.copytree(NORVANE.parent, tmp_path / "corpus")
    moved = json.loads(json.dumps(before))
    moved["domains"]["finance"]["index"]["corpus"] = str(tmp_path / "corpus")
    replicas = {state["replica"] for domain in pocket.get("/v1/fleet")["domains"] for state in domain["replica_states"]}
    try:
        pocket.up(moved)
        (tmp_path / "corpus/zephyr.md").write_text("# Zephyr Looms\n\nRevenue was 7 euros.\n")
        report = pocket.up(moved)
        assert {change["kind"] for change in report["changes"]["applications"]} == {"unchanged"}
        fleet = pocket.get("/v1/fleet")
        finance = next(line for line in fleet["domains"] if line["domain"] == "finance")
        assert finance["index_version"] == report["indexes"]["finance"]
        assert {state["replica"] for domain in fleet["domains"] for state in domain["replica_states"]} == replicas
    finally:
        pocket.up(before)


def test_up_changes_only_what_the_file_changed_and_says_so(
    pocket: RunningFleet, client: openai.OpenAI, tmp_path: Path
) -> None:
    before = read_fleet(pocket.file)
    replicas = {state["replica"] for domain in pocket.get("/v1/fleet")["domains"] for state in domain["replica_states"]}
    shutil.copy(NORVANE, tmp_path)
    adapter = before["domains"]["finance"]["variants"]["adapter"]
    grown = {
        **before,
        "domains": {
            **before["domains"],
            "tides": {
                "description": "Takings of harbours at high and at low tide.",
                "examples": ["What did the harbour take in?"],
                "variants": {"adapter": dict(adapter)},
                "index": {"corpus": str(tmp_path)},
            },
        },
    }
    write_fleet(pocket.file, grown)
    said = pocket.run("up", str(pocket.file))
    assert said.returncode == 0, said.stderr
    assert "pocket: in place" in said.stdout + said.stderr
    assert "gateway: in place" in said.stdout + said.stderr
    try:
        answer = ask(client, "What was the revenue of Norvane Systems in Q2 2025?", model="guildhall/tides")
        (citation,) = answer.guildhall["citations"]
        assert (citation["domain"], citation["source"]) == ("tides", "norvane_systems.md#q2-2025-results")
        fleet = pocket.get("/v1/fleet")
        assert {state["replica"] for domain in fleet["domains"] for state in domain["replica_states"]} == replicas
    finally:
        report = pocket.up(before)
    assert {change["kind"] for change in report["changes"]["applications"]} == {"in place"}
    with pytest.raises(openai.NotFoundError):
        ask(client, "What was the revenue?", model="guildhall/tides")
    assert pocket.up(before)["changes"]["applications"] == [
        {"name": "pocket", "kind": "unchanged", "keys": []},
        {"name": "gateway", "kind": "unchanged", "keys": []},
    ]

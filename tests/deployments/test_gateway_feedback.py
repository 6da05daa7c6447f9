"""Feedback over HTTP: by request id, durable, one's own only, and what training reads of it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.api_keys import digest_keys
from deployments.feedback import FEEDBACK_FOLDER, FeedbackRow, FeedbackStore, RatedSubQuery, read_feedback
from tests.conftest import ROOT
from tests.deployments.fakes import (
    PlannedService,
    Script,
    ScriptedExperts,
    build_plan,
    build_sub_query,
    down,
    start_service,
)
from tests.deployments.http_calls import ask, chat, open_client, read_chunks, read_error

TWO_PARTS = build_plan(build_sub_query(1, "one", "finance"), build_sub_query(2, "two", "coding"))
ANNE, BERT = "a-key-that-is-anne's", "a-key-that-is-bert's"


@pytest.fixture
async def service(tmp_path: Path) -> PlannedService:
    return await start_service(ScriptedExperts(), data_dir=tmp_path / "data")


async def rate(service: PlannedService, key: str | None = None, **body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key is not None else {}
    return await ask(service, body, "/v1/feedback", headers=headers)


async def answered(service: PlannedService, text: str = "What does the loan cost?", **settings: Any) -> str:
    """The request id of an answered question."""
    response = await ask(service, chat("guildhall", text), **settings)
    assert response.status_code == 200, response.text
    id_: str = response.json()["guildhall"]["request_id"]
    assert response.headers["x-request-id"] == id_
    return id_


def rows(tmp_path: Path) -> list[FeedbackRow]:
    return list(read_feedback(tmp_path / "data" / FEEDBACK_FOLDER))


def list_lines(folder: Path) -> list[str]:
    return [line for path in folder.rglob("*.jsonl") for line in path.read_text().splitlines()]


def put_in_the_way(place: Path) -> None:
    """A file where a folder should be."""
    if place.is_dir():
        place.rmdir()
    place.parent.mkdir(exist_ok=True)
    place.write_text("in the way")


async def test_feedback_is_on_the_disk_when_it_is_answered(service: PlannedService, tmp_path: Path) -> None:
    id_ = await answered(service)
    response = await rate(service, request_id=id_, score=0.9, comment="Good.")
    assert response.status_code == 200, response.text
    assert response.json()["sub_queries"] == [{"id": 1, "domain": "finance", "correction": None}]
    (row,) = rows(tmp_path)
    assert (row.request_id, row.question, row.score, row.comment) == (id_, "What does the loan cost?", 0.9, "Good.")
    assert row.labels() == (("What does the loan cost?", "finance"),)


async def test_the_id_of_a_stream_takes_feedback_too(service: PlannedService, tmp_path: Path) -> None:
    chunks = read_chunks(await ask(service, chat("guildhall", stream=True)))
    assert (await rate(service, request_id=chunks[0]["guildhall"]["request_id"], score=1)).status_code == 200
    assert len(rows(tmp_path)) == 1


async def test_the_last_feedback_for_an_answer_counts(service: PlannedService, tmp_path: Path) -> None:
    id_ = await answered(service)
    for score in (1, 0, 0.25):
        assert (await rate(service, request_id=id_, score=score)).status_code == 200
    assert [row.score for row in rows(tmp_path)] == [0.25]


async def test_a_correction_names_the_domain_that_should_have_answered(service: PlannedService, tmp_path: Path) -> None:
    id_ = await answered(service)
    assert (await rate(service, request_id=id_, domain="coding")).status_code == 200
    assert rows(tmp_path)[0].labels() == (("What does the loan cost?", "coding"),)


async def test_parts_are_corrected_one_by_one(service: PlannedService, tmp_path: Path) -> None:
    service.planned = TWO_PARTS
    id_ = await answered(service)
    parts = [{"id": 2, "domain": "general"}]
    assert (await rate(service, request_id=id_, score=0.2, sub_queries=parts)).status_code == 200
    (row,) = rows(tmp_path)
    assert [part.correction for part in row.sub_queries] == [None, "general"]
    assert row.labels() == (("two", "general"),), "a bad score says nothing of the other part's domain"


async def test_an_id_that_nobody_knows_is_404_and_says_what_to_send(service: PlannedService, tmp_path: Path) -> None:
    response = await rate(service, request_id="unknown", score=1)
    assert response.status_code == 404
    error = read_error(response)
    assert (error["code"], error["param"]) == ("not_found", "request_id")
    assert "guildhall.request_id" in error["message"]
    assert rows(tmp_path) == []


async def test_another_keys_answer_is_as_unknown_as_any(service: PlannedService) -> None:
    service.keys = digest_keys([ANNE, BERT])
    id_ = await answered(service, headers={"authorization": f"Bearer {ANNE}"})
    others = await rate(service, BERT, request_id=id_, score=0)
    unknown = await rate(service, BERT, request_id="nothing", score=0)
    assert others.status_code == unknown.status_code == 404
    assert read_error(others)["message"].replace(id_, "") == read_error(unknown)["message"].replace("nothing", "")
    assert (await rate(service, ANNE, request_id=id_, score=0)).status_code == 200
    assert (await rate(service, request_id=id_, score=0)).status_code == 401


async def test_two_keys_may_use_one_request_id(service: PlannedService, tmp_path: Path) -> None:
    service.keys = digest_keys([ANNE, BERT])
    for key, text in ((ANNE, "What does the loan cost?"), (BERT, "How high is the interest?")):
        await answered(service, text, headers={"authorization": f"Bearer {key}", "x-request-id": "same"})
    assert (await rate(service, ANNE, request_id="same", score=1)).status_code == 200
    assert (await rate(service, BERT, request_id="same", score=0)).status_code == 200
    assert {(row.question, row.score) for row in rows(tmp_path)} == {
        ("What does the loan cost?", 1.0),
        ("How high is the interest?", 0.0),
    }
    stored = list_lines(tmp_path / "data" / FEEDBACK_FOLDER)
    assert not any(key in line for key in (ANNE, BERT) for line in stored)


async def test_another_replica_of_the_node_takes_feedback(service: PlannedService, tmp_path: Path) -> None:
    id_ = await answered(service)
    other = await start_service(ScriptedExperts(), data_dir=tmp_path / "data")
    assert (await rate(other, request_id=id_, score=1)).status_code == 200
    service.close()
    assert len(rows(tmp_path)) == 1


async def test_a_question_reaches_the_disk_only_with_feedback(
    service: PlannedService, tmp_path: Path, shared_memory: Path
) -> None:
    await answered(service)
    assert not list_lines(tmp_path / "data" / FEEDBACK_FOLDER)
    assert any("loan" in line for line in list_lines(shared_memory))


async def test_an_answer_that_failed_takes_no_feedback(tmp_path: Path) -> None:
    lost = {name: Script((), failure=down(name)) for name in ("finance", "coding", "general")}
    service = await start_service(ScriptedExperts(lost), data_dir=tmp_path / "data")
    response = await ask(service, chat("guildhall"), headers={"x-request-id": "lost"})
    assert response.status_code == 503
    assert (await rate(service, request_id="lost", score=0)).status_code == 404


async def test_memory_that_cannot_be_written_costs_no_answer(
    service: PlannedService, tmp_path: Path, shared_memory: Path
) -> None:
    put_in_the_way(shared_memory)
    id_ = await answered(service)
    assert (await rate(service, request_id=id_, score=0)).status_code == 404


async def test_a_disk_that_takes_nothing_is_503(service: PlannedService, tmp_path: Path) -> None:
    id_ = await answered(service)
    put_in_the_way(tmp_path / "data" / FEEDBACK_FOLDER)
    response = await rate(service, request_id=id_, score=0)
    assert response.status_code == 503
    assert "GUILDHALL_DATA_DIR" in read_error(response)["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"score": 1}, "request_id"),
        ({"request_id": 5, "score": 1}, "request_id"),
        ({"request_id": "ID"}, "score"),
        ({"request_id": "ID", "score": 1.1}, "score"),
        ({"request_id": "ID", "score": True}, "score"),
        ({"request_id": "ID", "score": "good"}, "score"),
        ({"request_id": "ID", "rating": "good"}, "rating"),
        ({"request_id": "ID", "score": 1, "comment": "x" * 2001}, "comment"),
        ({"request_id": "ID", "domain": "law"}, "domain"),
        ({"request_id": "ID", "domain": "coding"}, "domain"),
        ({"request_id": "ID", "sub_queries": [5]}, "sub_queries[0]"),
        ({"request_id": "ID", "sub_queries": [{"id": 3, "domain": "coding"}]}, "sub_queries[0].id"),
        ({"request_id": "ID", "sub_queries": [{"id": 1}]}, "sub_queries[0].domain"),
        ({"request_id": "ID", "sub_queries": [{"domain": "coding"}]}, "sub_queries[0].id"),
        ({"request_id": "ID", "sub_queries": [{"id": 1, "domain": "coding"}] * 2}, "sub_queries[1].id"),
    ],
)
async def test_a_mistake_names_its_field_and_stores_nothing(
    service: PlannedService, tmp_path: Path, body: dict[str, Any], param: str
) -> None:
    service.planned = TWO_PARTS
    id_ = await answered(service)
    response = await rate(service, **{**body, **({"request_id": id_} if body.get("request_id") == "ID" else {})})
    assert response.status_code == 400
    assert read_error(response)["param"] == param
    assert rows(tmp_path) == []


async def test_feedback_is_counted_by_score(service: PlannedService) -> None:
    id_ = await answered(service)
    for body in ({"score": 0.1}, {"score": 0.5}, {"score": 1}, {"domain": "coding"}):
        await rate(service, request_id=id_, **body)
    async with open_client(service) as client:
        metrics = (await client.get("/metrics")).text
    for bucket in ("bad", "mixed", "good", "none"):
        assert f'guildhall_feedback_total{{score="{bucket}"}} 1.0' in metrics


def test_damaged_lines_are_reported_and_left_out(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path, tmp_path / "memory")
    store.remember("one", "", TWO_PARTS)
    found = store.find("one", "")
    assert found is not None
    store.record(found, 1.0, {}, None)
    store.close()
    (segment,) = (tmp_path / FEEDBACK_FOLDER).iterdir()
    whole = segment.read_bytes()
    damaged = [b"{", b"[]", b"null", b'"x"', b"\xff\xfe", whole.strip()[:-5], b'{"request_id": 5}', b"[" * 5000]
    damaged += [whole.strip().replace(b'"score":1.0', wrong) for wrong in (b'"score":2', b'"score":"x"')]
    segment.write_bytes(b"\n".join([*damaged, b"", whole]))
    reports: list[str] = []
    assert [row.request_id for row in read_feedback(tmp_path / FEEDBACK_FOLDER, reports.append)] == ["one"]
    assert len(reports) == len(damaged)
    assert reports[0].startswith(f"{segment.name} line 1 ")


def test_no_folder_is_no_feedback(tmp_path: Path) -> None:
    assert list(read_feedback(tmp_path / "nothing")) == []


def test_the_newest_wins_between_nodes(tmp_path: Path) -> None:
    def row(time_s: float, score: float) -> str:
        parts = [{"id": 1, "text": "one", "domain": "finance"}]
        fields = {"request_id": "a", "owner": "", "time_s": time_s, "question": "one", "sub_queries": parts}
        return json.dumps({**fields, "score": score, "comment": None}) + "\n"

    (tmp_path / "east-000001.jsonl").write_text(row(2, 1) + row(1, 0.5))
    (tmp_path / "west-000001.jsonl").write_text(row(1.5, 0))
    (found,) = read_feedback(tmp_path)
    assert found == FeedbackRow("a", "", 2.0, "one", (RatedSubQuery(1, "one", "finance"),), 1.0)


def test_only_the_last_answers_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.feedback.RECENT_SEGMENT_BYTES", 10_000)
    monkeypatch.setattr("deployments.feedback.RECENT_BYTES", 20_000)
    store = FeedbackStore(tmp_path, tmp_path / "memory")
    for number in range(1000):
        store.remember(f"id-{number}", "", TWO_PARTS)
    assert store.find("id-0", "") is None
    assert store.find("id-999", "") is not None
    assert sum(path.stat().st_size for path in (tmp_path / "memory").iterdir()) < 31_000


def test_a_document_with_a_question_is_not_kept(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path, tmp_path / "memory")
    store.remember("long", "", build_plan(build_sub_query(1, "word " * 20_000, "finance")))
    assert store.find("long", "") is None


KILLED = """
import os, signal, sys
from pathlib import Path
from deployments.feedback import FeedbackStore
from tests.deployments.test_gateway_feedback import TWO_PARTS
store = FeedbackStore(Path(sys.argv[1]), Path(sys.argv[1]) / "memory")
for number in range(1000):
    store.remember(f"id-{number}", "", TWO_PARTS)
    store.record(store.find(f"id-{number}", ""), 1.0, {}, None)
    print(number, flush=True)
"""


def test_what_was_confirmed_survives_a_kill(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    confirmed = [int(process.stdout.readline()) for _ in range(20)]
    process.kill()
    confirmed += [int(line) for line in process.stdout.read().split()]
    process.wait(30)
    stored = {row.request_id for row in read_feedback(tmp_path / FEEDBACK_FOLDER)}
    assert {f"id-{number}" for number in confirmed} <= stored

"""The gateway's index routes on real indexes in a temporary folder, without a fleet that runs."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from deployments.api_keys import IndexKeys, digest_keys
from deployments.domain_index import DomainIndex, IndexEncoder, Reading
from deployments.gateway_service import GatewayService
from deployments.index_settings import IndexSource
from experts.fleet import Index
from retrieval.document import build_document
from tests.conftest import ROOT
from tests.deployments.fakes import DIMENSIONS, ScriptedExperts, WordEncoder, build_fleet, start_service
from tests.deployments.http_calls import open_client, read_error

READ_KEY, WRITE_KEY = "a-key-that-may-read-only", "a-key-that-may-write-too"
DOCUMENTS = "/v1/indexes/finance/documents"
LOAN = {"id": "loan.md", "text": "The loan costs four percent.", "title": "Loan", "metadata": {"year": 2024}}
RENT = {"id": "notes/rent.md", "text": "The rent is due in March.", "metadata": {"year": 2020}}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "interest.md").write_text("# Interest\n\nInterest is paid in June.\n")
    return folder


@pytest.fixture
async def service(tmp_path: Path, corpus: Path) -> AsyncIterator[GatewayService]:
    fleet = build_fleet(max_body_kib=64)
    finance = fleet.domains["finance"].model_copy(update={"index": Index(corpus=str(corpus))})
    fleet = fleet.model_copy(update={"domains": {**fleet.domains, "finance": finance}})
    source = IndexSource(str(tmp_path / "index"), WordEncoder.fingerprint)
    encoder = IndexEncoder(WordEncoder.fingerprint, DIMENSIONS, WordEncoder().embed_documents)
    DomainIndex("finance", Index(corpus=str(corpus)), source, encoder, tmp_path).build(Reading())
    started = await start_service(ScriptedExperts(), fleet, {"finance": source}, data_dir=tmp_path)
    yield started
    started.close()


async def send(service: GatewayService, method: str, path: str, **settings: Any) -> httpx.Response:
    async with open_client(service) as client:
        return await client.request(method, path, **settings)


async def search(service: GatewayService, query: str, **fields: Any) -> dict[str, Any]:
    response = await send(service, "POST", "/v1/indexes/finance/search", json={"query": query, **fields})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def test_what_is_added_is_found_with_document_position_and_version(service: GatewayService) -> None:
    added = await send(service, "POST", DOCUMENTS, json={"documents": [LOAN, RENT]})
    assert added.status_code == 200, added.text
    assert (added.json()["added"], added.json()["changed"]) == (2, True)
    found = await search(service, "What does the loan cost?", passages=1)
    assert found["version"] == added.json()["version"]
    (hit,) = found["data"]
    assert (hit["document"], hit["position"], hit["metadata"]) == ("loan.md", 0, {"year": 2024})
    assert hit["source"].startswith("loan.md#")
    assert "four percent" in hit["text"]


async def test_a_search_takes_a_filter_and_a_mode(service: GatewayService) -> None:
    await send(service, "POST", DOCUMENTS, json={"documents": [LOAN, RENT]})
    found = await search(service, "loan or rent", filter={"year": {"lte": 2021}}, mode="lexical")
    assert {hit["document"] for hit in found["data"]} == {"notes/rent.md"}


async def test_adding_again_what_is_there_changes_nothing_and_new_text_replaces_the_document(
    service: GatewayService,
) -> None:
    first = (await send(service, "POST", DOCUMENTS, json={"documents": [LOAN]})).json()
    again = (await send(service, "POST", DOCUMENTS, json={"documents": [LOAN]})).json()
    assert (again["changed"], again["unchanged"], again["version"]) == (False, 1, first["version"])
    other = {**LOAN, "text": "The loan costs nothing."}
    assert (await send(service, "POST", DOCUMENTS, json={"documents": [other]})).json()["replaced"] == 1
    texts = [hit["text"] for hit in (await search(service, "loan", passages=9))["data"]]
    assert sum("loan" in text for text in texts) == 1


async def test_files_of_a_form_are_read_by_their_names_and_unreadable_ones_reported(service: GatewayService) -> None:
    files = [
        ("file", ("../../etc/cost.md", b"# Cost\n\nA budget costs time.\n", "text/markdown")),
        ("file", ("broken.pdf", b"not a pdf", "application/pdf")),
    ]
    added = await send(service, "POST", DOCUMENTS, files=files)
    assert added.status_code == 200, added.text
    assert added.json()["added"] == 1
    assert {hit["document"] for hit in (await search(service, "budget time", passages=1))["data"]} == {"cost.md"}
    (unreadable,) = added.json()["unreadable"]
    assert unreadable["source"] == "broken.pdf"
    assert unreadable["reason"]


async def test_when_no_file_can_be_read_nothing_changes_and_the_reason_is_given(service: GatewayService) -> None:
    response = await send(service, "POST", DOCUMENTS, files=[("file", ("a.pdf", b"nonsense", "application/pdf"))])
    assert response.status_code == 400
    assert "a.pdf" in read_error(response)["message"]


async def test_a_removed_document_is_gone_and_one_that_is_not_there_is_404(service: GatewayService) -> None:
    await send(service, "POST", DOCUMENTS, json={"documents": [RENT]})
    removed = await send(service, "DELETE", f"{DOCUMENTS}/notes/rent.md")
    assert removed.json()["removed"] == 1
    assert all(hit["document"] != "notes/rent.md" for hit in (await search(service, "rent", passages=9))["data"])
    again = await send(service, "DELETE", f"{DOCUMENTS}/notes/rent.md")
    assert again.status_code == 404
    assert read_error(again)["code"] == "not_found"


@pytest.mark.parametrize("way", ["remove", "replace"])
async def test_a_document_of_the_corpus_is_not_changed_over_http(service: GatewayService, way: str) -> None:
    if way == "remove":
        response = await send(service, "DELETE", f"{DOCUMENTS}/interest.md")
    else:
        record = {"id": "interest.md", "text": "Interest is never paid."}
        response = await send(service, "POST", DOCUMENTS, json={"documents": [record]})
    assert response.status_code == 400
    assert "corpus" in read_error(response)["message"]


async def test_a_rollback_serves_the_version_before(service: GatewayService, corpus: Path) -> None:
    before = await search(service, "interest")
    (corpus / "interest.md").write_text("# Interest\n\nInterest is paid in July.\n")
    index = service.desk.index("finance", service.serving().fleet, service.serving().indexes, service.serving().encoder)
    await service.desk.write(lambda: index.build(Reading()))
    assert "July" in (await search(service, "interest"))["data"][0]["text"]
    rolled = await send(service, "POST", "/v1/indexes/finance/rollback", json={})
    assert rolled.status_code == 200, rolled.text
    after = await search(service, "interest")
    assert "June" in after["data"][0]["text"]
    assert after["version"].partition(".")[0] == before["version"].partition(".")[0]
    unknown = await send(service, "POST", "/v1/indexes/finance/rollback", json={"version": "none"})
    assert unknown.status_code == 404


async def test_an_index_describes_itself_and_its_versions(service: GatewayService) -> None:
    listed = (await send(service, "GET", "/v1/indexes")).json()
    (index,) = listed["data"]
    assert (index["domain"], index["documents"], index["problem"]) == ("finance", 1, None)
    assert [version["is_current"] for version in index["versions"]] == [True]
    assert (await send(service, "GET", "/v1/indexes/finance")).json() == index
    assert (await send(service, "GET", "/v1/indexes/coding")).status_code == 404


class SlowEncoder(WordEncoder):
    """Takes as long for a text as a real one for a long passage."""

    def embed_documents(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        time.sleep(0.02 * len(texts))
        return super().embed_documents(texts)


async def test_questions_are_routed_while_a_long_document_is_embedded(service: GatewayService) -> None:
    service._serving = replace(service.serving(), encoder=SlowEncoder())
    words = "\n\n".join(f"Paragraph {number} {'word ' * 200}" for number in range(50))
    adding = asyncio.create_task(send(service, "POST", DOCUMENTS, json={"documents": [{"id": "long", "text": words}]}))
    waits = []
    while not adding.done():
        began = time.perf_counter()
        planned = await send(service, "POST", "/v1/plan", json={"question": "What does the loan cost?"})
        assert planned.status_code == 200
        waits.append(time.perf_counter() - began)
    assert adding.result().json()["embedded"] >= 50
    assert len(waits) > 4
    assert statistics.median(waits) < 0.5


async def test_what_gathers_is_compacted_beside_and_nothing_is_lost(
    service: GatewayService, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = service.desk.index("finance", service.serving().fleet, service.serving().indexes, service.serving().encoder)
    for part in range(2):
        documents = [build_document(f"{part}-{number}", f"note {part} {number}") for number in range(2500)]
        await service.desk.write(lambda documents=documents: index.add(documents, Reading()))  # type: ignore[misc]
    assert index.describe()["delta_passages"] == 5000
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert (await send(service, "POST", DOCUMENTS, json={"documents": [LOAN]})).status_code == 200
    async with asyncio.timeout(60):
        while index.describe()["versions"][0]["reason"] != "compact":  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.1)
    described = index.describe()
    assert (described["delta_passages"], described["documents"]) == (0, 5002)
    found = await search(service, "loan", passages=1, mode="lexical")
    assert found["data"][0]["document"] == "loan.md"


async def test_only_an_index_key_may_write_and_any_key_may_search(service: GatewayService) -> None:
    service.keys = digest_keys([READ_KEY, WRITE_KEY])
    service.index_keys = IndexKeys(digest_keys([WRITE_KEY]), gateway_has_keys=True)
    reading, writing = ({"authorization": f"Bearer {key}"} for key in (READ_KEY, WRITE_KEY))
    body = {"documents": [LOAN]}
    assert (await send(service, "POST", DOCUMENTS, json=body)).status_code == 401
    for method, path in (
        ("POST", DOCUMENTS),
        ("DELETE", f"{DOCUMENTS}/loan.md"),
        ("POST", "/v1/indexes/finance/rollback"),
    ):
        refused = await send(service, method, path, json=body, headers=reading)
        assert refused.status_code == 403
        error = read_error(refused)
        assert error["code"] == "permission_denied"
        assert "GUILDHALL_INDEX_KEYS" in error["message"]
    assert (await send(service, "POST", DOCUMENTS, json=body, headers=writing)).status_code == 200
    found = await send(service, "POST", "/v1/indexes/finance/search", json={"query": "loan"}, headers=reading)
    assert found.status_code == 200


async def test_with_api_keys_and_no_index_key_nobody_writes(service: GatewayService) -> None:
    service.keys = digest_keys([READ_KEY])
    service.index_keys = IndexKeys(gateway_has_keys=True)
    headers = {"authorization": f"Bearer {READ_KEY}"}
    refused = await send(service, "POST", DOCUMENTS, json={"documents": [LOAN]}, headers=headers)
    assert refused.status_code == 403
    assert "set GUILDHALL_INDEX_KEYS" in read_error(refused)["message"]


async def test_without_keys_a_web_page_may_not_write(service: GatewayService) -> None:
    files = [("file", ("a.md", b"# A\n\nfrom a page", "text/markdown"))]
    refused = await send(service, "POST", DOCUMENTS, files=files, headers={"origin": "https://example.org"})
    assert refused.status_code == 403


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "documents"),
        ({"documents": []}, "documents"),
        ({"documents": ["text"]}, "documents[0]"),
        ({"documents": [{"id": "a"}]}, "documents[0].text"),
        ({"documents": [{"id": " ", "text": "x"}]}, "documents[0]"),
        ({"documents": [{"id": "a" * 600, "text": "x"}]}, "documents[0]"),
        ({"documents": [LOAN, LOAN]}, "documents[1].id"),
        ({"documents": [{**LOAN, "metadata": {"a": []}}]}, "documents[0]"),
        ({"documents": [{**LOAN, "text": " "}]}, "documents[0]"),
        ({"documents": [{**LOAN, "metadata": "x"}]}, "documents[0].metadata"),
        ({"documents": [{**LOAN, "body": "x"}]}, "documents[0].body"),
        ({"documents": [LOAN], "replace": True}, "replace"),
    ],
)
async def test_a_mistake_in_a_body_names_its_field_and_changes_nothing(
    service: GatewayService, body: Any, param: str
) -> None:
    before = (await send(service, "GET", "/v1/indexes/finance")).json()
    response = await send(service, "POST", DOCUMENTS, json=body)
    assert response.status_code == 400
    assert read_error(response)["param"] == param
    assert (await send(service, "GET", "/v1/indexes/finance")).json() == before


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "query"),
        ({"query": " "}, "query"),
        ({"query": "x", "passages": 0}, "passages"),
        ({"query": "x", "mode": "magic"}, "mode"),
        ({"query": "x", "filter": {"year": {"about": 1}}}, "filter.year"),
    ],
)
async def test_a_mistake_in_a_search_names_its_field(service: GatewayService, body: Any, param: str) -> None:
    response = await send(service, "POST", "/v1/indexes/finance/search", json=body)
    assert response.status_code == 400
    assert read_error(response)["param"] == param


async def test_a_body_over_the_limit_or_of_another_kind_is_refused(service: GatewayService) -> None:
    large = {"documents": [{**LOAN, "text": "x" * 70_000}]}
    assert (await send(service, "POST", DOCUMENTS, json=large)).status_code == 413
    files = [("file", ("a.md", b"x" * 70_000, "text/markdown"))]
    assert (await send(service, "POST", DOCUMENTS, files=files)).status_code == 413
    assert (await send(service, "POST", DOCUMENTS, content=b"plain")).status_code == 415
    broken = {"content-type": "multipart/form-data; boundary=x"}
    assert (await send(service, "POST", DOCUMENTS, content=b"nonsense", headers=broken)).status_code == 400
    assert (
        await send(service, "POST", DOCUMENTS, content=b"x", headers={"content-type": "multipart/form-data"})
    ).status_code == 400

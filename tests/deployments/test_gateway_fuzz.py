"""Whatever the body, the gateway answers it or says why not, and never breaks."""

import asyncio
import json
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployments.chat_request import KNOWN_CHAT
from deployments.gateway import build_app
from tests.deployments.fakes import ScriptedExperts, start_service

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    sorted(KNOWN_CHAT | {"prompt", "input", "question", "encoding_format", "dimensions", "suffix"})
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "system", "assistant", "tool"]) | JSON, "content": st.text(max_size=20) | JSON}
)
VALID: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "guildhall", "messages": [{"role": "user", "content": "Why?"}]},
    "/v1/completions": {"model": "guildhall/coding", "prompt": "Once"},
    "/v1/embeddings": {"model": "all-MiniLM-L6-v2", "input": "text"},
    "/v1/plan": {"question": "Why?"},
}
BODIES = (
    st.dictionaries(FIELDS, JSON, max_size=4)
    | st.builds(lambda messages: {"messages": messages}, st.lists(MESSAGE, max_size=3))
    | JSON
)


async def post(path: str, raw: bytes) -> httpx.Response:
    service = await start_service(ScriptedExperts())
    try:
        transport = httpx.ASGITransport(build_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post(path, content=raw, headers={"content-type": "application/json"})
    finally:
        service.close()


def check(response: httpx.Response) -> None:
    assert response.status_code in (200, 400, 404), response.text
    if response.status_code != 200:
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(sorted(VALID)), body=BODIES, complete=st.booleans())
def test_any_json_is_answered_or_refused(path: str, body: Any, complete: bool) -> None:
    sent = {**VALID[path], **body} if complete and isinstance(body, dict) else body
    check(asyncio.run(post(path, json.dumps(sent).encode())))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(sorted(VALID)), raw=st.binary(max_size=60))
def test_any_bytes_are_refused(path: str, raw: bytes) -> None:
    check(asyncio.run(post(path, raw)))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1))
def test_any_text_is_answered(text: str) -> None:
    messages = [{"role": "user", "content": text}]
    response = asyncio.run(
        post("/v1/chat/completions", json.dumps({"model": "guildhall", "messages": messages}).encode())
    )
    check(response)
    assert response.status_code == 200 or not text.strip()

"""OpenAI's own client, unchanged, against the gateway."""

from typing import Any

import httpx
import openai
import pytest

from deployments.api_keys import digest_keys
from deployments.gateway import build_app
from tests.deployments.fakes import Script, ScriptedExperts, WordEncoder, down, start_service

KEY = "a-good-key-of-32-characters-0001"
MESSAGES: Any = [{"role": "user", "content": "How high is the interest?"}]


async def open_client(experts: ScriptedExperts, key: str = KEY) -> openai.AsyncOpenAI:
    app = build_app(await start_service(experts, keys=digest_keys([KEY])))
    http: Any = httpx.AsyncClient(transport=httpx.ASGITransport(app))
    return openai.AsyncOpenAI(api_key=key, base_url="http://localhost/v1", http_client=http, max_retries=0)


async def test_chat_and_its_extra_field() -> None:
    client = await open_client(ScriptedExperts())
    answer = await client.chat.completions.create(model="guildhall", messages=MESSAGES, temperature=0, seed=1)
    assert answer.choices[0].message.content == "An answer [1]."
    assert answer.usage is not None
    assert answer.usage.total_tokens == 13
    assert answer.model_extra is not None
    assert answer.model_extra["guildhall"]["sub_answers"][0]["domain"] == "finance"


async def test_streamed_chat_with_usage() -> None:
    client = await open_client(ScriptedExperts())
    stream = await client.chat.completions.create(
        model="guildhall", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "An answer [1]."
    assert chunks[-1].usage is not None
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"


async def test_completions_plain_and_streamed() -> None:
    client = await open_client(ScriptedExperts())
    whole = await client.completions.create(model="guildhall/finance", prompt="Once", max_tokens=5)
    assert whole.choices[0].text == "An answer [1]."
    stream = await client.completions.create(model="guildhall/finance", prompt="Once", stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == "An answer [1]."


async def test_embeddings_in_the_clients_default_encoding() -> None:
    client = await open_client(ScriptedExperts())
    answer = await client.embeddings.create(model="all-MiniLM-L6-v2", input=["one", "two"])
    expected = WordEncoder().embed_documents(["one", "two"]).tolist()
    assert [item.embedding for item in answer.data] == [pytest.approx(vector) for vector in expected]


async def test_models() -> None:
    client = await open_client(ScriptedExperts())
    ids = [model.id async for model in client.models.list()]
    assert "guildhall" in ids
    assert (await client.models.retrieve("guildhall/finance")).id == "guildhall/finance"


async def test_errors_are_the_clients_own_classes() -> None:
    client = await open_client(ScriptedExperts({"finance": Script((), failure=down("finance"))}))
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(model="gpt-4", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model="guildhall", messages=MESSAGES, n=2)
    assert refused.value.param == "n"
    for stream in (False, True):
        with pytest.raises(openai.InternalServerError) as failed:
            await client.chat.completions.create(model="guildhall/finance", messages=MESSAGES, stream=stream)
        assert failed.value.status_code == 503
    stranger = await open_client(ScriptedExperts(), key="another-key-of-32-characters-001")
    with pytest.raises(openai.AuthenticationError):
        await stranger.models.list()

"""Calls to a gateway over HTTP without a socket, and what is read from its responses."""

import json
from typing import Any

import httpx

from deployments.gateway import build_app
from deployments.gateway_service import GatewayService


def open_client(service: GatewayService, **settings: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(build_app(service, **settings))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


def chat(model: str = "guildhall/finance", text: str = "What is interest?", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


async def ask(
    service: GatewayService, body: Any, path: str = "/v1/chat/completions", **settings: Any
) -> httpx.Response:
    async with open_client(service) as client:
        return await client.post(path, json=body, **settings)


def read_chunks(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def read_error(response: httpx.Response) -> dict[str, Any]:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    error: dict[str, Any] = body["error"]
    return error

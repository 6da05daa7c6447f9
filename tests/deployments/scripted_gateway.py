"""A real HTTP server that answers as a gateway does, from a script."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from tests.conftest import find_free_port
from tests.deployments.cli_runs import KEY

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


@contextmanager
def run_scripted_gateway() -> Iterator[str]:
    """The server's URL while it runs."""
    port = find_free_port()
    server = uvicorn.Server(uvicorn.Config(build_scripted_gateway(), port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)

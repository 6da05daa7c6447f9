"""The gateway's edge: bad input, limits, deadlines, keys, request ids, logs, metrics, a client that goes away."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from deployments.api_keys import digest_keys
from deployments.expert_call import Failed
from deployments.gateway import build_app
from deployments.logs import JsonLines
from experts.errors import EncoderMismatch
from router.question import Failure
from tests.deployments.fakes import (
    PlannedService,
    Script,
    ScriptedExperts,
    WordEncoder,
    answering_states,
    build_fleet,
    down,
    start_service,
)
from tests.deployments.http_calls import ask, chat, open_client, read_error

KEY = "a-good-key-of-32-characters-0001"


async def test_a_domain_at_its_limit_is_429_with_the_limit_and_the_next_step() -> None:
    gate = asyncio.Event()
    service = await start_service(ScriptedExperts({"finance": Script(gate=gate)}))
    async with open_client(service) as client:
        asking = [asyncio.create_task(client.post("/v1/chat/completions", json=chat())) for _ in range(2)]
        while service.slots.domains["finance"].held < 2:  # noqa: ASYNC110 - the limit has no event to wait for
            await asyncio.sleep(0.005)
        refused = await client.post("/v1/chat/completions", json=chat())
        gate.set()
        assert [(await task).status_code for task in asking] == [200, 200]
        after = await client.post("/v1/chat/completions", json=chat())
    assert refused.status_code == 429
    assert "limit 2" in read_error(refused)["message"]
    assert refused.headers["retry-after"] == "1"
    assert after.status_code == 200


async def test_the_gateways_own_limit_is_429_and_probes_still_pass() -> None:
    gate = asyncio.Event()
    service = await start_service(
        ScriptedExperts({"finance": Script(gate=gate)}, answering_states()), build_fleet(max_in_flight=1)
    )
    async with open_client(service) as client:
        asking = asyncio.create_task(client.post("/v1/chat/completions", json=chat()))
        while service.slots.gateway.held < 1:  # noqa: ASYNC110 - the limit has no event to wait for
            await asyncio.sleep(0.005)
        refused = await client.post("/v1/chat/completions", json=chat("guildhall/coding"))
        ready = await client.get("/readyz")
        gate.set()
        assert (await asking).status_code == 200
    assert refused.status_code == 429
    assert "gateway.max_in_flight" in read_error(refused)["message"]
    assert ready.status_code == 200
    assert service.slots.gateway.held == 0


async def test_past_the_deadline_the_response_is_504() -> None:
    service = await start_service(ScriptedExperts({"finance": Script(before_s=30)}), build_fleet(answer_timeout_s=0.1))
    response = await ask(service, chat())
    assert response.status_code == 504
    assert read_error(response)["code"] == "deadline_exceeded"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_client_that_goes_away_stops_the_generation(path: str, stream: bool) -> None:
    experts = ScriptedExperts({"finance": Script(between_s=30) if stream else Script(before_s=30)})
    service = await start_service(experts)
    body = chat(stream=stream) if "chat" in path else {"model": "guildhall/finance", "prompt": "a", "stream": stream}
    left = asyncio.Event()

    async def receive() -> AsyncIterator[dict[str, Any]]:
        yield {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}
        await left.wait()
        yield {"type": "http.disconnect"}

    messages = receive()
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"content-type", b"application/json")],
        "server": ("localhost", 80),
        "client": ("127.0.0.1", 1),
    }
    serving = asyncio.create_task(build_app(service)(scope, lambda: anext(messages), send))
    while experts.open.total() == 0:  # noqa: ASYNC110 - the fake has no event for it
        await asyncio.sleep(0.005)
    left.set()
    await asyncio.wait_for(serving, 2)
    assert experts.open.total() == 0
    assert service.slots.domains["finance"].held == 0
    assert service.slots.gateway.held == 0
    assert b'status="499"' in service.metrics.render()


async def test_readiness_names_every_reason() -> None:
    experts = ScriptedExperts()
    service = await start_service(experts)
    async with open_client(service) as client:
        assert (await client.get("/healthz")).status_code == 200
        unready = await client.get("/readyz")
        experts.states = answering_states()
        assert (await client.get("/readyz")).json() == {"status": "ready", "reasons": []}
    assert unready.status_code == 503
    assert ["'small'" in reason or "'large'" in reason for reason in unready.json()["reasons"]] == [True, True]


async def test_before_the_encoder_is_loaded_nothing_is_served_and_everything_says_why() -> None:
    def refuse(name: str) -> WordEncoder:
        raise EncoderMismatch(f"encoder '{name}': wrong checksum")

    service = PlannedService(lambda _: ScriptedExperts(), refuse)
    async with open_client(service) as client:
        assert "no fleet yet" in (await client.get("/readyz")).json()["reasons"][0]
        service.apply_fleet(build_fleet())
        assert "is loading" in (await client.get("/readyz")).json()["reasons"][0]
        await service.wait_loaded()
        assert "wrong checksum" in (await client.get("/readyz")).json()["reasons"][0]
        response = await client.post("/v1/chat/completions", json=chat())
    assert response.status_code == 503
    assert read_error(response)["code"] == "unavailable"


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({"json": chat("gpt-4")}, 404, "model_not_found"),
        ({"json": chat("guildhall/law")}, 404, "model_not_found"),
        ({"json": chat("guildhall/finance/none")}, 404, "model_not_found"),
        ({"json": chat("guildhall/finance/")}, 404, "model_not_found"),
        ({"json": chat(n=2)}, 400, "unsupported_parameter"),
        ({"json": chat(unheard_of=2)}, 400, "invalid_request"),
        ({"json": chat(text="\x00")}, 400, "invalid_request"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "invalid_request"),
        ({"content": b"{}", "headers": {"content-type": "text/plain"}}, 415, "unsupported_media_type"),
        ({"content": b"{}"}, 415, "unsupported_media_type"),
        ({"json": chat(text="x" * 2048)}, 413, "body_too_large"),
    ],
)
async def test_bad_input_is_its_own_4xx(sent: dict[str, Any], status: int, code: str) -> None:
    service = await start_service(ScriptedExperts(), build_fleet(max_body_kib=1))
    async with open_client(service) as client:
        response = await client.post("/v1/chat/completions", **sent)
    assert (response.status_code, read_error(response)["code"]) == (status, code)


async def test_a_body_without_a_length_is_counted_as_it_comes() -> None:
    service = await start_service(ScriptedExperts(), build_fleet(max_body_kib=1))

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 512

    async with open_client(service) as client:
        response = await client.post(
            "/v1/chat/completions", content=pieces(), headers={"content-type": "application/json"}
        )
    assert response.status_code == 413


async def test_unknown_routes_and_methods_are_openai_shaped_too() -> None:
    async with open_client(await start_service(ScriptedExperts())) as client:
        missing = await client.get("/v1/threads")
        wrong = await client.get("/v1/chat/completions")
    assert (missing.status_code, read_error(missing)["code"]) == (404, "route_not_found")
    assert (wrong.status_code, read_error(wrong)["code"]) == (405, "method_not_allowed")
    assert "POST" in read_error(wrong)["message"]


async def test_with_keys_everything_but_probes_needs_one() -> None:
    service = await start_service(ScriptedExperts(states=answering_states()), keys=digest_keys([KEY]))
    async with open_client(service) as client:
        for path in ("/v1/models", "/v1/fleet", "/metrics", "/v1/threads"):
            refused = await client.get(path)
            assert (refused.status_code, read_error(refused)["code"]) == (401, "invalid_api_key")
        for path in ("/healthz", "/readyz"):
            assert (await client.get(path)).status_code == 200
        client.headers["authorization"] = f"Bearer {KEY}"
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.post("/v1/chat/completions", json=chat())).status_code == 200


async def test_neither_keys_nor_questions_ever_enter_a_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    experts = ScriptedExperts({"coding": Script(raises=RuntimeError("marmalade"))})
    service = await start_service(experts, keys=digest_keys([KEY]))
    wrong = KEY.replace("good", "bad-")
    async with open_client(service) as client:
        for key in (KEY, wrong):
            for model in ("guildhall/finance", "guildhall/coding", "guildhall/marmalade"):
                for stream in (False, True):
                    body = chat(model, "marmalade secrets", stream=stream)
                    await client.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})
    formatter = JsonLines()
    ours = [formatter.format(record) for record in caplog.records if record.name == "guildhall"]
    assert len(ours) >= 12
    lines = "\n".join([*ours, caplog.text])
    assert KEY not in lines
    assert wrong not in lines
    assert "marmalade" not in "\n".join(ours)


async def test_the_request_id_is_kept_when_it_is_sane_and_goes_everywhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    experts = ScriptedExperts()
    service = await start_service(experts)
    response = await ask(service, chat(), headers={"x-request-id": "trace-1.a_B"})
    assert response.headers["x-request-id"] == "trace-1.a_B"
    assert experts.requests[0].request_id.startswith("trace-1.a_B.")
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records if record.name == "guildhall"]
    line = next(line for line in lines if line["event"] == "request")
    assert line["request_id"] == "trace-1.a_B"
    assert (line["status"], line["model"], line["domains"]) == (200, "guildhall/finance", ["finance"])
    assert line["usage"]["completion_tokens"] == 3
    assert "first_token" in line["timings_s"]


@pytest.mark.parametrize("offered", ["a" * 129, "a b", "<script>", "é".encode().decode("latin-1")])
async def test_any_other_request_id_is_replaced(offered: str) -> None:
    headers = {"x-request-id": offered.encode("latin-1")}
    response = await ask(await start_service(ScriptedExperts()), chat(), headers=headers)
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])


async def test_behind_serves_proxy_the_request_id_is_not_sent_twice() -> None:
    async with open_client(await start_service(ScriptedExperts()), behind_proxy=True) as client:
        assert "x-request-id" not in (await client.get("/healthz", headers={"x-request-id": "one"})).headers
        assert "x-request-id" in (await client.get("/healthz", headers={"x-request-id": "not sane"})).headers


async def test_metrics_count_what_happened_with_bounded_labels() -> None:
    refused = Failed(Failure("invalid_request", "the prompt is too long", retryable=False), status=400)
    experts = ScriptedExperts({"coding": Script((), failure=down("coding")), "general": Script((), failure=refused)})
    service = await start_service(experts)
    async with open_client(service) as client:
        for model in ("guildhall/finance", "guildhall/coding", "guildhall/general", "guildhall/nobody"):
            await client.post("/v1/chat/completions", json=chat(model))
        await client.get("/made/up/path")
        text = (await client.get("/metrics")).text
    assert 'guildhall_sub_queries_total{domain="finance",outcome="answered",variant="full"} 1.0' in text
    assert 'guildhall_failures_total{code="expert_unavailable",domain="coding"} 1.0' in text
    assert 'guildhall_completion_tokens_total{domain="finance",variant="full"} 3.0' in text
    judged = [line for line in text.splitlines() if line.startswith("guildhall_slo_sub_queries_total{")]
    assert judged == [  # What a caller must change is no promise broken.
        'guildhall_slo_sub_queries_total{domain="finance",outcome="met"} 1.0',
        'guildhall_slo_sub_queries_total{domain="coding",outcome="failed"} 1.0',
    ]
    assert 'guildhall_time_per_output_token_seconds_count{domain="finance",variant="full"} 1.0' in text
    assert 'guildhall_requests_total{route="/v1/chat/completions",status="404"} 1.0' in text
    assert 'guildhall_requests_total{route="unmatched",status="404"} 1.0' in text
    assert "nobody" not in text
    assert "guildhall_routing_seconds_bucket" in text
    assert "guildhall_retrieval_seconds_bucket" in text
    assert 'guildhall_sub_queries_in_flight{domain="finance"} 0.0' in text


async def test_a_mistake_of_ours_is_an_openai_shaped_500_that_tells_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = await start_service(ScriptedExperts())

    async def break_down(*_: Any) -> Any:
        raise KeyError("inner detail")

    monkeypatch.setattr(service, "plan", break_down)
    response = await ask(service, chat(), headers={"x-request-id": "trace"})
    assert response.status_code == 500
    assert "trace" in read_error(response)["message"]
    assert "inner" not in response.text

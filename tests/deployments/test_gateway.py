"""The gateway over HTTP: answers, failures that lose nothing, and what it tells of itself."""

import json

import pytest

from deployments.expert_call import Failed
from router.question import Failure
from tests.deployments.fakes import (
    Script,
    ScriptedExperts,
    WordEncoder,
    answering_states,
    build_fleet,
    build_plan,
    build_sub_query,
    down,
    start_service,
)
from tests.deployments.http_calls import ask, chat, open_client, read_chunks, read_error

TWO_PARTS = build_plan(build_sub_query(1, "one", "finance"), build_sub_query(2, "two", "coding"))


async def test_one_expert_answers_with_citations_usage_and_timings() -> None:
    response = await ask(await start_service(ScriptedExperts()), chat())
    body = response.json()
    assert response.status_code == 200
    assert body["choices"][0]["message"]["content"] == "An answer [1]."
    assert body["usage"] == {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
    assert body["guildhall"]["plan"]["sub_queries"][0]["domain"] == "finance"
    assert body["guildhall"]["citations"][0]["title"] == "Title"
    assert body["guildhall"]["sub_answers"][0]["failure"] is None
    assert {"route", "first_token", "total"} <= body["guildhall"]["timings_s"].keys()


async def test_a_routed_question_is_planned_by_the_router() -> None:
    experts = ScriptedExperts()
    response = await ask(await start_service(experts), chat("guildhall", "What does the loan cost?"))
    assert response.status_code == 200
    assert [request.domain for request in experts.requests] == ["finance"]


async def test_a_named_variant_answers() -> None:
    experts = ScriptedExperts()
    await ask(await start_service(experts), chat("guildhall/finance/quick"))
    assert experts.requests[0].variant == "quick"


async def test_earlier_turns_reach_the_expert_as_its_domain_allows() -> None:
    experts = ScriptedExperts()
    roles = ["system", "user", "assistant", "user", "assistant", "user"]
    messages = [{"role": role, "content": f"{role} {at}"} for at, role in enumerate(roles)]
    await ask(await start_service(experts), {"model": "guildhall/finance", "messages": messages})
    assert [turn.text for turn in experts.requests[0].turns] == ["system 0", "user 3", "assistant 4"]


async def test_a_stream_has_the_plan_first_the_answer_last_and_ends_with_done() -> None:
    response = await ask(
        await start_service(ScriptedExperts()), chat(stream=True, stream_options={"include_usage": True})
    )
    chunks = read_chunks(response)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[0]["guildhall"].keys() == {"request_id", "plan"}
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1]) == "An answer [1]."
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-2]["guildhall"].keys() == {"citations", "sub_answers", "timings_s", "fusion", "contradictions"}
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 13


async def test_a_stream_and_a_body_say_the_same() -> None:
    service = await start_service(ScriptedExperts({"coding": Script(("Code", " [1]")), "finance": Script()}))
    service.planned = TWO_PARTS
    body = (await ask(service, chat("guildhall"))).json()
    chunks = read_chunks(await ask(service, chat("guildhall", stream=True)))
    streamed = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert streamed == body["choices"][0]["message"]["content"]
    assert chunks[-1]["guildhall"]["citations"] == body["guildhall"]["citations"]
    assert len(body["guildhall"]["citations"]) == 2
    assert body["usage"]["prompt_tokens"] == 20


async def test_a_part_cut_by_its_limit_shows_in_the_finish_reason() -> None:
    service = await start_service(ScriptedExperts({"coding": Script(finish_reason="length")}))
    service.planned = TWO_PARTS
    assert (await ask(service, chat("guildhall"))).json()["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("stream", [False, True])
async def test_when_one_expert_is_down_the_other_answers_and_the_failure_is_marked(stream: bool) -> None:
    service = await start_service(ScriptedExperts({"finance": Script((), failure=down("finance"))}))
    service.planned = TWO_PARTS
    response = await ask(service, chat("guildhall", stream=stream))
    assert response.status_code == 200
    if stream:
        chunks = read_chunks(response)
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        facts = chunks[-1]["guildhall"]
    else:
        text, facts = response.json()["choices"][0]["message"]["content"], response.json()["guildhall"]
    assert "its replica died" in text
    assert "An answer" in text
    assert [answer["failure"] is None for answer in facts["sub_answers"]] == [False, True]
    assert facts["sub_answers"][0]["failure"]["code"] == "expert_unavailable"


@pytest.mark.parametrize("stream", [False, True])
async def test_when_every_expert_is_down_the_response_is_503_with_retry_after(stream: bool) -> None:
    scripts = {name: Script((), failure=down(name)) for name in ("finance", "coding")}
    service = await start_service(ScriptedExperts(scripts))
    service.planned = TWO_PARTS
    response = await ask(service, chat("guildhall", stream=stream))
    assert response.status_code == 503
    assert read_error(response)["code"] == "expert_unavailable"
    assert int(response.headers["retry-after"]) > 0


async def test_an_expert_that_dies_mid_stream_is_marked_in_the_text_and_in_the_last_chunk() -> None:
    service = await start_service(ScriptedExperts({"finance": Script(("Half ",), failure=down("finance"))}))
    chunks = read_chunks(await ask(service, chat(stream=True)))
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text.startswith("Half")
    assert "its replica died" in text
    assert chunks[-1]["guildhall"]["sub_answers"][0]["failure"]["retryable"] is True
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_is_too_long_is_the_callers_mistake(stream: bool) -> None:
    failed = Failed(Failure("context_length_exceeded", "the prompt has 9 tokens, limit 8", False), 400, "messages")
    service = await start_service(ScriptedExperts({"finance": Script((), failure=failed)}))
    response = await ask(service, chat(stream=stream))
    assert response.status_code == 400
    assert read_error(response)["param"] == "messages"
    assert response.headers["x-should-retry"] == "false"


async def test_json_is_passed_on_untouched_and_in_one_part() -> None:
    experts = ScriptedExperts({"finance": Script(('{"values": ', "[7]}"))})
    body = chat(
        "guildhall", "How high is the interest? What does the loan cost?", response_format={"type": "json_object"}
    )
    response = await ask(await start_service(experts), body)
    assert json.loads(response.json()["choices"][0]["message"]["content"]) == {"values": [7]}
    assert len(experts.requests) == 1


async def test_completions_ask_one_expert_and_carry_our_names() -> None:
    experts = ScriptedExperts()
    service = await start_service(experts)
    body = {"model": "guildhall/finance", "prompt": "Once"}
    whole = (await ask(service, body, "/v1/completions")).json()
    assert whole["model"] == "guildhall/finance"
    assert whole["id"].startswith("cmpl-")
    assert whole["choices"][0]["text"] == "An answer [1]."
    assert experts.bodies[0]["max_tokens"] == 64
    plain = read_chunks(await ask(service, {**body, "stream": True}, "/v1/completions"))
    assert all(chunk["choices"] and "usage" not in chunk for chunk in plain)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    assert read_chunks(await ask(service, {**body, **options}, "/v1/completions"))[-1]["usage"]["total_tokens"] == 7


@pytest.mark.parametrize("stream", [False, True])
async def test_completions_pass_on_refusals_and_failures(stream: bool) -> None:
    experts = ScriptedExperts(refusal={"message": "too long", "code": 400, "param": None, "type": "BadRequestError"})
    service = await start_service(experts)
    body = {"model": "guildhall/finance", "prompt": "Once", "stream": stream}
    refused = await ask(service, body, "/v1/completions")
    assert (refused.status_code, read_error(refused)["message"]) == (400, "too long")
    experts.refusal = None
    experts.scripts["finance"] = Script(raises=RuntimeError("inside"))
    failed = await ask(service, body, "/v1/completions")
    assert failed.status_code == 503
    assert "inside" not in failed.text
    routed = await ask(service, {**body, "model": "guildhall"}, "/v1/completions")
    assert routed.status_code == 404


async def test_embeddings_are_the_encoders_in_both_encodings() -> None:
    service = await start_service(ScriptedExperts())
    texts = [f"text {number}" for number in range(40)]
    body = {"model": "all-MiniLM-L6-v2", "input": texts}
    response = await ask(service, body, "/v1/embeddings")
    vectors = [item["embedding"] for item in response.json()["data"]]
    assert vectors == WordEncoder().embed_documents(texts).tolist()
    assert (await ask(service, {**body, "model": "other"}, "/v1/embeddings")).status_code == 404


async def test_models_are_listed_and_found_by_ids_with_slashes() -> None:
    async with open_client(await start_service(ScriptedExperts())) as client:
        ids = [item["id"] for item in (await client.get("/v1/models")).json()["data"]]
        assert ids[:3] == ["guildhall", "guildhall/finance", "guildhall/finance/full"]
        for name in (*ids, "guildhall%2Ffinance"):
            assert (await client.get(f"/v1/models/{name}")).status_code == 200
        missing = await client.get("/v1/models/guildhall/law")
    assert missing.status_code == 404
    assert "guildhall/finance" in read_error(missing)["message"]


async def test_a_plan_is_made_without_asking_anybody() -> None:
    experts = ScriptedExperts()
    service = await start_service(experts)
    response = await ask(service, {"question": "How high is the interest?"}, "/v1/plan")
    assert response.json()["plan"]["sub_queries"][0]["domain"] == "finance"
    assert (await ask(service, chat(), "/v1/plan")).json()["model"] == "guildhall/finance"
    assert experts.requests == []


async def test_the_fleet_tells_what_its_replicas_report() -> None:
    service = await start_service(ScriptedExperts(states=answering_states()))
    async with open_client(service) as client:
        domains = (await client.get("/v1/fleet")).json()["domains"]
    finance = domains[0]
    assert (finance["domain"], finance["variant"], finance["engine"], finance["replicas"]) == (
        "finance",
        "full",
        "small",
        1,
    )
    assert (finance["requests"], finance["completion_tokens"], finance["tokens_per_s"]) == (3, 30, 3.0)
    assert (finance["index_version"], finance["nodes"]) == ("v1", ["node-1"])


async def test_a_new_fleet_is_served_in_place() -> None:
    service = await start_service(ScriptedExperts())
    changed = build_fleet().model_dump()
    changed["domains"]["law"] = changed["domains"].pop("coding")
    service.apply_fleet(type(build_fleet()).model_validate(changed))
    assert (await ask(service, chat("guildhall/coding"))).status_code == 200, (
        "the one before, until the new one is ready"
    )
    await service.wait_loaded()
    assert (await ask(service, chat("guildhall/law"))).status_code == 200
    assert (await ask(service, chat("guildhall/coding"))).status_code == 404

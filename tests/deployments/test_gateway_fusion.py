"""How several sub-answers become one over HTTP: contradictions told, synthesis and what happens when it fails."""

import asyncio
import json
import threading
from dataclasses import replace
from typing import Any

import pytest

from deployments.chat_answer import ChatAnswer
from deployments.chat_request import parse_chat_request
from deployments.gateway_service import Target
from deployments.request_edge import RequestRecord
from router import fuse
from router.consistency import Contradiction
from router.question import Plan
from tests.deployments.fakes import (
    Script,
    ScriptedExperts,
    build_fleet,
    build_plan,
    build_sub_query,
    down,
    start_service,
)
from tests.deployments.http_calls import ask, chat, read_chunks, read_error

QUESTION = "What was Acme's revenue in 2023?"
TWO_PARTS = build_plan(build_sub_query(1, QUESTION, "finance"), build_sub_query(2, QUESTION, "coding"))
MERGE: dict[str, Any] = {"guildhall": {"fusion": "synthesize"}}


def say(**texts: str | Script) -> ScriptedExperts:
    scripts = {name: said if isinstance(said, Script) else Script((said,)) for name, said in texts.items()}
    return ScriptedExperts(scripts)


async def answer(
    experts: ScriptedExperts, plan: Plan = TWO_PARTS, stream: bool = False, fleet: Any = None, **fields: Any
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The text, the facts and the body or last chunk with usage."""
    service = await start_service(experts, fleet)
    service.planned = plan
    if not stream:
        response = await ask(service, chat("guildhall", **fields))
        assert response.status_code == 200, response.text
        body = response.json()
        return body["choices"][0]["message"]["content"], body["guildhall"], body
    response = await ask(service, chat("guildhall", stream=True, stream_options={"include_usage": True}, **fields))
    assert response.status_code == 200, response.text
    chunks = read_chunks(response)
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1])
    return text, chunks[-2]["guildhall"], chunks[-1]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_contradiction_is_told_after_the_parts_and_in_the_facts(stream: bool) -> None:
    experts = say(finance="It was 412.5 million euros [1].", coding="It was 421.5 million euros.")
    text, facts, _ = await answer(experts, stream=stream)
    first, second, told = text.split("\n\n")
    assert (first, second) == ("finance: It was 412.5 million euros [1].", "coding: It was 421.5 million euros.")
    assert told.startswith("Contradiction: finance says 412.5 million euros [1], coding says 421.5 million euros")
    (found,) = facts["contradictions"]
    assert (found["kind"], found["settled"]) == ("figure", None)
    assert found["subject"] == ["Acme", "revenue", "2023"]
    assert [claim["citation"] for claim in found["claims"]] == [1, None]
    assert facts["fusion"] == {"mode": "join", "reason": "as asked"}


async def test_parts_that_agree_add_nothing() -> None:
    experts = say(finance="It was 412.5 million euros.", coding="It was €412,500,000.")
    text, facts, _ = await answer(experts)
    assert "Contradiction" not in text
    assert facts["contradictions"] == []


async def test_an_answer_in_a_prescribed_format_is_not_added_to() -> None:
    experts = say(finance='{"revenue": "412.5 million euros"}')
    service = await start_service(experts)
    body = chat("guildhall/finance", QUESTION, response_format={"type": "json_object"}, **MERGE)
    response = (await ask(service, body)).json()
    assert json.loads(response["choices"][0]["message"]["content"]) == {"revenue": "412.5 million euros"}
    assert len(experts.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_the_generalist_merges_the_answers_and_their_numbers_stay(stream: bool) -> None:
    experts = say(
        finance="It costs 4 percent [1].", coding="Sort it [1].", general="Both: 4 percent [1], sorted [2], not [7]."
    )
    text, facts, ended = await answer(experts, stream=stream, **MERGE)
    assert text == "Both: 4 percent [1], sorted [2], not."
    assert [(citation["number"], citation["domain"]) for citation in facts["citations"]] == [
        (1, "finance"),
        (2, "coding"),
    ]
    assert [part["text"] for part in facts["sub_answers"]] == ["It costs 4 percent [1].", "Sort it [2]."]
    assert facts["fusion"]["mode"] == "synthesize"
    assert facts["fusion"]["usage"]["prompt_tokens"] == 10
    assert ended["usage"]["prompt_tokens"] == 30, "two parts and the synthesis"
    asked = experts.requests[-1]
    assert (asked.domain, asked.vector) == ("general", None)
    assert "Sort it [2]." in asked.text
    assert asked.request_id not in {request.request_id for request in experts.requests[:-1]}


async def test_the_fleet_says_what_is_done_where_the_request_does_not() -> None:
    fleet = build_fleet()
    fleet = fleet.model_copy(update={"router": fleet.router.model_copy(update={"fusion": "synthesize"})})
    experts = say(finance="one", coding="two", general="merged")
    assert (await answer(experts, fleet=fleet))[0] == "merged"
    joined, facts, _ = await answer(experts, fleet=fleet, guildhall={"fusion": "join"})
    assert joined == "finance: one\n\ncoding: two"
    assert facts["fusion"]["reason"] == "as asked"


async def test_a_contradiction_is_told_beside_a_merged_answer() -> None:
    experts = say(finance="412.5 million euros", coding="421.5 million euros", general="About 415 million euros.")
    text, facts, _ = await answer(experts, **MERGE)
    merged, told = text.split("\n\n")
    assert merged == "About 415 million euros."
    assert told.startswith("Contradiction: ")
    assert len(facts["contradictions"]) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_part_that_failed_stands_below_the_merged_answer(stream: bool) -> None:
    plan = build_plan(
        build_sub_query(1, "one", "finance"),
        build_sub_query(2, "two", "coding"),
        build_sub_query(3, "three", "finance"),
    )
    experts = say(finance="one", coding=Script((), failure=down("coding")), general="merged")
    text, facts, _ = await answer(experts, plan, stream, **MERGE)
    merged, failed = text.split("\n\n")
    assert merged == "merged"
    assert failed.startswith("coding: could not answer this part")
    assert facts["sub_answers"][1]["failure"]["code"] == "expert_unavailable"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("why", ["down", "raises", "empty"])
async def test_when_synthesis_fails_the_answers_stand_one_after_another(why: str, stream: bool) -> None:
    scripts = {
        "down": Script((), failure=down("general")),
        "raises": Script(raises=RuntimeError("inside")),
        "empty": Script((" \n",)),
    }
    text, facts, _ = await answer(say(finance="one", coding="two", general=scripts[why]), stream=stream, **MERGE)
    assert text == "finance: one\n\ncoding: two"
    assert facts["fusion"]["mode"] == "join"
    assert facts["fusion"]["reason"].startswith("synthesis failed: ")
    assert "inside" not in facts["fusion"]["reason"]


async def test_when_synthesis_breaks_off_the_answers_follow_what_was_sent() -> None:
    experts = say(finance="one", coding="two", general=Script(("half of ",), failure=down("general")))
    text, facts, _ = await answer(experts, stream=True, **MERGE)
    assert text.startswith("half of")
    assert text.endswith("finance: one\n\ncoding: two")
    assert facts["fusion"]["mode"] == "join"


async def test_synthesis_that_takes_too_long_leaves_the_joined_answer() -> None:
    experts = say(finance="one", coding="two", general=Script(before_s=30))
    text, facts, _ = await answer(experts, fleet=build_fleet(answer_timeout_s=1), **MERGE)
    assert text == "finance: one\n\ncoding: two"
    assert "did not finish within 1 s" in facts["fusion"]["reason"]
    assert experts.open.total() == 0


async def test_one_part_is_not_merged_with_itself() -> None:
    experts = say(finance="one")
    text, facts, _ = await answer(experts, build_plan(build_sub_query(1, "one", "finance")), **MERGE)
    assert text == "one"
    assert facts["fusion"]["reason"] == "1 of 1 parts have an answer; synthesis needs two"


async def test_when_no_part_has_an_answer_nothing_is_merged() -> None:
    lost = {name: Script((), failure=down(name)) for name in ("finance", "coding")}
    experts = say(**lost)
    service = await start_service(experts)
    service.planned = TWO_PARTS
    for stream in (False, True):
        response = await ask(service, chat("guildhall", stream=stream, **MERGE))
        assert response.status_code == 503
        assert read_error(response)["code"] == "expert_unavailable"
    assert {request.domain for request in experts.requests} == {"finance", "coding"}


async def test_the_conversation_is_not_sent_again_and_what_the_caller_prescribes_is() -> None:
    experts = say(finance="one", coding="two", general="merged")
    service = await start_service(experts)
    service.planned = TWO_PARTS
    roles = ["system", "user", "assistant", "user"]
    messages = [{"role": role, "content": f"{role} {at}"} for at, role in enumerate(roles)]
    await ask(service, {"model": "guildhall", "messages": messages, **MERGE})
    assert [turn.text for turn in experts.requests[-1].turns] == ["system 0"]


async def test_a_refused_part_asks_nobody_and_stands_below_the_merged_answer() -> None:
    refused = replace(build_sub_query(3, "three", "general"), refusal="Nobody answers that.")
    plan = build_plan(*TWO_PARTS.sub_queries, refused)
    experts = say(finance="one", coding="two", general="merged")
    text, facts, _ = await answer(experts, plan, **MERGE)
    assert text == "merged\n\ngeneral: Nobody answers that."
    assert facts["sub_answers"][2]["failure"] is None
    assert [request.domain for request in experts.requests] == ["finance", "coding", "general"]


async def test_a_refusal_alone_is_an_answer() -> None:
    plan = build_plan(replace(build_sub_query(1, "three", "general"), refusal="Nobody answers that."))
    experts = say()
    for stream in (False, True):
        assert (await answer(experts, plan, stream))[0] == "Nobody answers that."
    assert experts.requests == []


async def test_an_unknown_fusion_is_refused() -> None:
    service = await start_service(say())
    response = await ask(service, chat(guildhall={"fusion": "blend"}))
    assert response.status_code == 400
    assert read_error(response)["param"] == "guildhall.fusion"


async def test_leaving_during_synthesis_stops_it() -> None:
    experts = say(finance="one", coding="two", general=Script(("a", "b"), between_s=30))
    service = await start_service(experts)
    service.planned = TWO_PARTS
    request = parse_chat_request(chat("guildhall", stream=True, **MERGE))
    frames = ChatAnswer(service, service.serving(), Target(), request, RequestRecord("id")).frames()
    assert await anext(frames)
    assert experts.open["general"] == 1
    await frames.aclose()  # type: ignore[attr-defined]
    assert experts.open.total() == 0
    assert [slot.held for slot in service.slots.domains.values()] == [0, 0, 0]


async def test_while_contradictions_are_sought_other_answers_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    began, go_on = threading.Event(), threading.Event()

    def seek(*_: object) -> tuple[Contradiction, ...]:
        began.set()
        assert go_on.wait(30), "nothing else went on"
        return ()

    monkeypatch.setattr(fuse, "find_contradictions", seek)
    asking = asyncio.create_task(answer(say(finance="one", coding="two")))
    await asyncio.to_thread(began.wait, 30)
    alone = build_plan(build_sub_query(1, QUESTION, "finance"))
    monkeypatch.undo()
    assert (await answer(say(finance="other"), alone))[0] == "other"
    assert not asking.done()
    go_on.set()
    assert (await asking)[0] == "finance: one\n\ncoding: two"

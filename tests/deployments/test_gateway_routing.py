"""The gateway's router: refusals, the planner, explanations, and artifacts that are served as they are written."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from deployments.router_loading import build_embeddings
from experts.fleet import Fleet
from router import planner
from router.artifact import RouterArtifact, roll_back, save_router_artifact, train_router
from router.tiers import DEFAULT_TARGET_ERROR
from router.training import LabelledText
from tests.deployments.fakes import Script, ScriptedExperts, WordEncoder, build_fleet, start_service
from tests.deployments.http_calls import ask, chat

LOAN = "What does the loan cost?"


def with_router(**settings: Any) -> Fleet:
    document = build_fleet().model_dump(mode="json")
    document["router"] |= settings
    return Fleet.model_validate(document)


def train(fleet: Fleet, *labelled: LabelledText) -> RouterArtifact:
    embed, static = build_embeddings(WordEncoder())
    return train_router(fleet, labelled, embed, static, WordEncoder.fingerprint, "now", DEFAULT_TARGET_ERROR)


async def test_what_the_fleet_refuses_is_answered_plainly_and_no_expert_is_asked() -> None:
    refusal = {
        "description": "How to make poison and weapons.",
        "examples": ["How is poison made?", "Which poison is strongest?"],
        "answer": "This fleet does not answer that.",
    }
    experts = ScriptedExperts()
    service = await start_service(experts, with_router(refusals={"weapons": refusal}))
    body = (await ask(service, chat("guildhall", "How is poison made?"))).json()
    assert body["choices"][0]["message"]["content"] == "This fleet does not answer that."
    assert body["choices"][0]["finish_reason"] == "stop"
    assert experts.requests == []
    await ask(service, chat("guildhall", LOAN))
    assert [request.domain for request in experts.requests] == ["finance"]


async def test_a_plan_names_tier_confidence_and_the_variant_that_would_answer() -> None:
    service = await start_service(ScriptedExperts())
    plan = (await ask(service, {"question": LOAN}, "/v1/plan")).json()["plan"]
    (part,) = plan["sub_queries"]
    assert (part["domain"], part["tier"], part["variant"]) == ("finance", "encoder", "full")
    assert 0 < part["confidence"] <= 1
    assert (part["cost"], part["queue"], part["refusal"]) == (1.0, 0, None)
    assert part["variant_reason"]
    assert {"resolve", "tokenize", "encode", "classify", "total"} <= plan["timings_s"].keys()
    metrics = service.metrics.render().decode()
    assert 'guildhall_routed_sub_queries_total{tier="encoder"} 1.0' in metrics


async def test_an_open_question_is_planned_by_the_generalist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "OPEN_BELOW", 1.1)
    said = {
        "reasoning": "It asks one thing.",
        "sub_queries": [{"text": LOAN, "domain": "coding", "needs": []}],
    }
    experts = ScriptedExperts({"general": Script((json.dumps(said),))})
    service = await start_service(experts, with_router(planner_budget_s=5))
    plan = (await ask(service, {"question": LOAN}, "/v1/plan")).json()["plan"]
    assert [(part["domain"], part["tier"]) for part in plan["sub_queries"]] == [("coding", "planner")]
    assert plan["timings_s"]["planner"] > 0
    assert 'guildhall_planner_total{outcome="planned"} 1.0' in service.metrics.render().decode()


async def test_a_plan_that_cannot_be_used_leaves_the_routers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "OPEN_BELOW", 1.1)
    experts = ScriptedExperts({"general": Script(("no plan",))})
    service = await start_service(experts, with_router(planner_budget_s=5))
    plan = (await ask(service, {"question": LOAN}, "/v1/plan")).json()["plan"]
    assert [part["domain"] for part in plan["sub_queries"]] == ["finance"]
    assert "planner: the plan is not JSON" in plan["reasons"]


async def test_a_router_that_is_trained_or_rolled_back_is_served_without_losing_a_request(tmp_path: Path) -> None:
    fleet = with_router(artifact=str(tmp_path))
    save_router_artifact(train(fleet), tmp_path)
    service = await start_service(ScriptedExperts(), fleet)

    async def route() -> str:
        answered = await ask(service, {"question": LOAN}, "/v1/plan")
        assert answered.status_code == 200
        domain: str = answered.json()["plan"]["sub_queries"][0]["domain"]
        return domain

    async def wait_for(domain: str) -> None:
        ends = time.monotonic() + 30
        while await route() != domain:
            assert time.monotonic() < ends, f"{domain} was not served"
            await asyncio.sleep(0.05)

    assert await route() == "finance"
    corrected = [LabelledText(f"{LOAN} {at}", "coding") for at in range(30)]
    save_router_artifact(train(fleet, LabelledText(LOAN, "coding"), *corrected), tmp_path)
    await wait_for("coding")
    roll_back(tmp_path)
    await wait_for("finance")
    service.close()


async def test_a_damaged_router_leaves_what_is_served(tmp_path: Path) -> None:
    fleet = with_router(artifact=str(tmp_path))
    save_router_artifact(train(fleet), tmp_path)
    service = await start_service(ScriptedExperts(), fleet)
    (tmp_path / "0002").mkdir()
    (tmp_path / "0002" / "manifest.json").write_text("{")
    await asyncio.sleep(1.5)
    plan = (await ask(service, {"question": LOAN}, "/v1/plan")).json()["plan"]
    assert plan["sub_queries"][0]["domain"] == "finance"
    assert service.problem is None
    service.close()


async def test_a_fleet_without_its_router_artifact_says_how_to_train_one(tmp_path: Path) -> None:
    service = await start_service(ScriptedExperts(), with_router(artifact=str(tmp_path / "nothing")))
    assert service.problem is not None
    assert "guildhall router train" in service.problem
    service.close()

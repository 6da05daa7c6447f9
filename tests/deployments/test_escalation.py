"""Choosing variants and asking again: what is held back, who is asked, and what the user reads."""

import asyncio
from contextlib import ExitStack
from typing import Any

import pytest

from deployments import variant_call
from deployments.chat_request import SamplingRequest
from deployments.fan_out import FanOut, FanOutRequest, PartEnded, PartEvent, PartStarted, PartText
from deployments.gateway_metrics import GatewayMetrics
from deployments.in_flight import Slots
from deployments.variant_loads import VariantLoads, Variants
from experts.fleet import Fleet
from experts.prompt import REFUSAL
from router.question import Plan, SubAnswer, Vector
from tests.deployments.fakes import Script, ScriptedExperts, WordEncoder, build_fleet, build_plan, build_sub_query, down

GOOD = Script(("The loan costs ", "five percent [1]."), passage="The loan costs five percent.", logprobs=(-0.05, -0.3))
BAD = Script((REFUSAL,), logprobs=(-1.5, -5.0))
PLAN = build_plan(build_sub_query(1, "what does the loan cost", "finance"))


def build_fleet_of_two(escalation: dict[str, float] | None = None, **router: Any) -> Fleet:
    """`finance` has a cheap first variant `quick` and a dear, better `full`."""
    document = build_fleet().model_dump(mode="json")
    document["domains"]["finance"]["variants"] = {
        "quick": {"engine": "small", "cost": 1, "accuracy": 0.7},
        "full": {"engine": "large", "cost": 10, "accuracy": 0.75},
    }
    document["domains"]["general"]["variants"]["full"]["accuracy"] = 0.8
    document["router"] |= {"escalation": escalation, **router}
    return Fleet.model_validate(document)


class Gateway:
    """What outlives a question: the fleet's loads, slots and metrics."""

    def __init__(self, fleet: Fleet, experts: ScriptedExperts) -> None:
        self.fleet = fleet
        self.experts = experts
        self.loads = VariantLoads()
        self.metrics = GatewayMetrics()
        self.slots = Slots()
        self.slots.apply_limits(fleet)

    def start(self, plan: Plan = PLAN, timeout_s: float = 5, **settings: Any) -> FanOut:
        deadline = asyncio.get_running_loop().time() + timeout_s
        request = FanOutRequest("request", SamplingRequest(), (), deadline, timeout_s, **settings)

        async def encode(text: str) -> Vector:
            vector: Vector = WordEncoder().embed_documents([text])[0]
            return vector

        variants = Variants(self.fleet, None, self.loads)
        domains, slots = self.fleet.domains, self.slots.domains
        return FanOut(plan, request, self.experts, domains, slots, encode, self.metrics, variants)

    async def ask(self, plan: Plan = PLAN, **settings: Any) -> tuple[list[PartEvent], SubAnswer]:
        events = [event async for event in self.start(plan, **settings).events()]
        last = events[-1]
        assert isinstance(last, PartEnded)
        assert self.experts.open.total() == 0
        assert [slot.held for slot in self.slots.domains.values()] == [0, 0, 0]
        assert [self.loads.queue(engine) for engine in self.fleet.engines] == [0, 0]
        return events, last.answer

    def asked(self) -> list[str]:
        return [f"{request.domain}/{request.variant}" for request in self.experts.requests]

    def count(self, name: str) -> dict[str, float]:
        """The values of a counter by its labels' values."""
        return {
            "/".join(sample.labels.values()): sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name == f"guildhall_{name}_total" and sample.value
        }


@pytest.mark.parametrize(("quality", "variant"), [("fast", "quick"), ("best", "full"), (None, "quick")])
async def test_the_request_says_which_variant_answers_else_the_fleet_does(quality: Any, variant: str) -> None:
    gateway = Gateway(build_fleet_of_two(quality="balanced"), ScriptedExperts())
    _, answer = await gateway.ask(quality=quality)
    assert gateway.asked() == [f"finance/{variant}"]
    assert answer.choice is not None
    assert (answer.choice.variant, answer.escalation) == (variant, None)


async def test_a_variant_that_the_request_names_answers_and_is_not_scored() -> None:
    gateway = Gateway(build_fleet_of_two({"below": 1}, quality="best"), ScriptedExperts({"finance": BAD}))
    _, answer = await gateway.ask(variant="quick")
    assert gateway.asked() == ["finance/quick"]
    assert answer.escalation is None
    assert answer.choice is not None
    assert answer.choice.reason == "the request names this variant"


async def test_a_full_queue_sends_the_next_sub_query_to_the_other_variant() -> None:
    gateway = Gateway(build_fleet_of_two(), ScriptedExperts())
    gateway.loads.note_answer("small", 60.0)
    with ExitStack() as held:
        for _ in range(gateway.fleet.engines["small"].max_num_seqs):
            held.enter_context(gateway.loads.hold("small"))
        _, answer = await _collect(gateway.start(quality="fast"))
    assert gateway.asked() == ["finance/full"]
    assert answer.choice is not None
    assert "quick would wait" in answer.choice.reason


async def _collect(fan_out: FanOut) -> tuple[list[PartEvent], SubAnswer]:
    events = [event async for event in fan_out.events()]
    last = events[-1]
    assert isinstance(last, PartEnded)
    return events, last.answer


async def test_without_escalation_text_is_shown_as_it_comes_and_no_score_is_asked() -> None:
    experts = ScriptedExperts({"finance": Script(("now ", "then"), between_s=0.05)})
    gateway = Gateway(build_fleet_of_two(), experts)
    events = gateway.start().events()
    seen = [await anext(events), await anext(events)]
    assert isinstance(seen[1], PartText)
    assert seen[1].text == "now "
    assert not experts.requests[0].score
    await events.aclose()  # type: ignore[attr-defined]


async def test_a_good_answer_is_held_until_it_is_scored_and_then_shown() -> None:
    gateway = Gateway(build_fleet_of_two({"below": 0.5}), ScriptedExperts({"finance": GOOD}))
    events, answer = await gateway.ask()
    assert [type(event) for event in events] == [PartStarted, PartText, PartEnded]
    assert gateway.asked() == ["finance/quick"]
    assert gateway.experts.requests[0].score
    assert answer.escalation is not None
    assert (answer.escalation.code, answer.escalation.second) == ("likely_right", None)
    assert answer.escalation.score > 0.7
    assert gateway.count("answers_scored") == {"finance/likely_right": 1}


async def test_a_bad_answer_is_asked_for_again_and_the_user_reads_one() -> None:
    gateway = Gateway(build_fleet_of_two({"below": 0.5}), ScriptedExperts({"finance/quick": BAD, "finance/full": GOOD}))
    events, answer = await gateway.ask()
    assert "".join(event.text for event in events if isinstance(event, PartText)) == answer.text
    assert answer.text == "The loan costs five percent [1]."
    assert answer.variant == "full"
    assert gateway.asked() == ["finance/quick", "finance/full"]
    record = answer.escalation
    assert record is not None
    assert (record.first, record.second, record.kept, record.code) == (
        "finance/quick",
        "finance/full",
        "second",
        "refused",
    )
    assert record.second_score is not None
    assert record.second_score > record.score
    assert answer.usage.prompt_tokens == 20, "both calls are paid for"
    assert {"escalate", "total"} <= answer.timings_s.keys()
    assert gateway.count("escalations") == {"finance/refused/second": 1}
    assert gateway.count("sub_queries") == {"finance/quick/replaced": 1, "finance/full/answered": 1}


async def test_when_no_variant_is_stronger_the_generalist_answers() -> None:
    fleet = build_fleet_of_two({"below": 0.5}, quality="best")
    gateway = Gateway(fleet, ScriptedExperts({"finance": BAD, "general": GOOD}))
    _, answer = await gateway.ask()
    assert gateway.asked() == ["finance/full", "general/full"]
    assert (answer.domain, answer.variant) == ("general", "full")
    assert answer.citations[0].domain == "general"
    assert answer.text == "The loan costs five percent [1]."


async def test_the_generalist_escalates_to_nobody() -> None:
    gateway = Gateway(build_fleet_of_two({"below": 0.5}), ScriptedExperts({"general": BAD}))
    _, answer = await gateway.ask(build_plan(build_sub_query(1, "hello", "general")))
    assert answer.escalation is not None
    assert answer.escalation.code == "no_stronger"
    assert answer.text == REFUSAL


@pytest.mark.parametrize(
    "second",
    [
        Script(("half an ",), failure=down("finance")),
        Script(raises=RuntimeError("secret")),
        Script(("never",), before_s=30),
        Script((), logprobs=(0, 0)),
    ],
    ids=["dies mid-answer", "raises", "past the deadline", "empty"],
)
async def test_when_the_second_answer_fails_the_first_stays(second: Script) -> None:
    first = Script(("Perhaps four percent [1].",), passage="Nothing of the kind.", logprobs=(-2.0, -6.0))
    gateway = Gateway(
        build_fleet_of_two({"below": 0.6}), ScriptedExperts({"finance/quick": first, "finance/full": second})
    )
    _, answer = await gateway.ask(timeout_s=0.3)
    assert answer.failure is None
    assert answer.text == "Perhaps four percent [1]."
    assert answer.escalation is not None
    assert (answer.escalation.second, answer.escalation.kept) == ("finance/full", "first")


async def test_when_the_second_domain_is_full_the_first_answer_stays() -> None:
    gateway = Gateway(build_fleet_of_two({"below": 0.5}, quality="best"), ScriptedExperts({"finance": BAD}))
    gateway.slots.domains["general"].limit = 0
    _, answer = await gateway.ask()
    assert answer.failure is None
    assert gateway.asked() == ["finance/full"]
    assert gateway.count("failures") == {"general/overloaded": 1}


async def test_a_worse_second_answer_does_not_replace_the_first() -> None:
    unsure = Script(("The loan costs nine percent [1].",), passage="The loan costs five.", logprobs=(-1.2, -4.0))
    gateway = Gateway(
        build_fleet_of_two({"below": 0.6}), ScriptedExperts({"finance/quick": unsure, "finance/full": BAD})
    )
    _, answer = await gateway.ask()
    assert answer.text == "The loan costs nine percent [1]."
    assert gateway.count("escalations") == {"finance/likely_wrong/first": 1}


async def test_the_share_bounds_the_escalations_of_a_domain() -> None:
    experts = ScriptedExperts({"finance/quick": BAD, "finance/full": GOOD})
    gateway = Gateway(build_fleet_of_two({"below": 0.5, "share": 0.2}), experts)
    codes = []
    for _ in range(20):
        _, answer = await gateway.ask()
        assert answer.escalation is not None
        codes.append(answer.escalation.code)
    assert codes.count("refused") == 5, "a fifth of twenty, and the one in hand"
    assert codes.count("over_share") == 15


async def test_who_wants_it_fast_gets_the_text_as_it_comes() -> None:
    gateway = Gateway(build_fleet_of_two({"below": 1}), ScriptedExperts({"finance": BAD}))
    _, answer = await gateway.ask(quality="fast")
    assert gateway.asked() == ["finance/quick"]
    assert answer.escalation is None


async def test_a_first_answer_that_fails_is_a_failure_and_keeps_its_text() -> None:
    experts = ScriptedExperts({"finance": Script(("half an ",), failure=down("finance"))})
    gateway = Gateway(build_fleet_of_two({"below": 0.5}), experts)
    events, answer = await gateway.ask()
    assert answer.failure is not None
    assert [event.text for event in events if isinstance(event, PartText)] == ["half an "]
    assert len(experts.requests) == 1


async def test_an_answer_too_long_to_hold_is_shown_instead_of_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variant_call, "MAX_HELD_CHARS", 10)
    gateway = Gateway(build_fleet_of_two({"below": 1}), ScriptedExperts({"finance": Script(("12345678",) * 4)}))
    events, answer = await gateway.ask()
    assert "".join(event.text for event in events if isinstance(event, PartText)) == "12345678" * 4 == answer.text
    assert sum(isinstance(event, PartStarted) for event in events) == 1
    assert answer.escalation is None


async def test_leaving_during_an_escalation_gives_every_slot_back() -> None:
    experts = ScriptedExperts({"finance/quick": BAD, "finance/full": Script(before_s=30)})
    gateway = Gateway(build_fleet_of_two({"below": 0.5}), experts)
    reader = asyncio.create_task(_collect(gateway.start()))
    await asyncio.sleep(0.05)
    assert gateway.asked() == ["finance/quick", "finance/full"]
    reader.cancel()
    await asyncio.wait({reader})
    assert experts.open.total() == 0
    assert gateway.slots.domains["finance"].held == 0
    assert gateway.loads.queue("large") == 0


async def test_what_the_fleet_refuses_is_answered_without_an_expert() -> None:
    part = build_sub_query(1, "something forbidden", "general")
    refused = type(part)(part.id, part.text, part.domain, part.vector, (), "refused", refusal="We do not answer this.")
    gateway = Gateway(build_fleet_of_two(), ScriptedExperts())
    events, answer = await gateway.ask(build_plan(refused))
    assert gateway.asked() == []
    assert answer.text == "We do not answer this."
    assert [type(event) for event in events] == [PartStarted, PartText, PartEnded]

"""Running a plan: concurrency, order, dependencies, failures, deadlines, limits and cancellation."""

import asyncio

from deployments import fan_out as fan_out_module
from deployments.chat_request import SamplingRequest
from deployments.expert_call import ExpertRequest, Failed, Sampling
from deployments.fan_out import FanOut, FanOutRequest, PartEnded, PartEvent, PartText
from deployments.gateway_metrics import GatewayMetrics
from deployments.in_flight import Slots
from deployments.variant_call import choose_turns
from experts.prompt import REFUSAL
from router.question import Failure, Plan, Turn, Vector
from tests.deployments.experts_contract import (
    check_cancel_gives_back,
    check_failure_is_data,
    check_order_of_events,
    check_scores_are_given_where_asked,
)
from tests.deployments.fakes import Script, ScriptedExperts, WordEncoder, build_fleet, build_plan, build_sub_query, down


def start(
    plan: Plan, experts: ScriptedExperts, timeout_s: float = 5, turns: tuple[Turn, ...] = ()
) -> tuple[FanOut, Slots]:
    fleet = build_fleet()
    slots = Slots()
    slots.apply_limits(fleet)
    deadline = asyncio.get_running_loop().time() + timeout_s
    request = FanOutRequest("request", SamplingRequest(), turns, deadline, timeout_s)

    async def encode(text: str) -> Vector:
        vector: Vector = WordEncoder().embed_documents([text])[0]
        return vector

    return FanOut(plan, request, experts, fleet.domains, slots.domains, encode, GatewayMetrics()), slots


async def collect(fan_out: FanOut) -> tuple[list[PartEvent], list[PartEnded]]:
    events = [event async for event in fan_out.events()]
    return events, [event for event in events if isinstance(event, PartEnded)]


async def test_the_fake_experts_keep_the_contract() -> None:
    experts = ScriptedExperts({"coding": Script(failure=down("coding")), "general": Script(between_s=0.05)})

    def ask(domain: str) -> ExpertRequest:
        return ExpertRequest("id", domain, "full", "what?", None, Sampling(max_tokens=8))

    async def count_running() -> int:
        return experts.open.total()

    await check_order_of_events(experts, ask("finance"))
    await check_scores_are_given_where_asked(experts, ask("finance"))
    await check_failure_is_data(experts, ask("coding"))
    await check_cancel_gives_back(experts, ask("general"), count_running)


async def test_independent_parts_run_at_the_same_time() -> None:
    plan = build_plan(build_sub_query(0, "one", "finance"), build_sub_query(1, "two", "coding"))
    experts = ScriptedExperts({"finance": Script(before_s=0.05), "coding": Script(before_s=0.05)})
    await collect(start(plan, experts)[0])
    assert experts.most_open == 2


async def test_text_comes_in_plan_order_even_when_a_later_part_is_first() -> None:
    plan = build_plan(build_sub_query(0, "one", "finance"), build_sub_query(1, "two", "coding"))
    experts = ScriptedExperts({"finance": Script(before_s=0.05), "coding": Script(("fast",))})
    events, _ = await collect(start(plan, experts)[0])
    assert [event.sub_query.id for event in events if isinstance(event, PartText)][-1] == 1
    ids = [event.answer.sub_query if isinstance(event, PartEnded) else event.sub_query.id for event in events]
    assert ids == sorted(ids)


async def test_a_part_that_needs_another_gets_its_answer_and_a_new_vector() -> None:
    first = build_sub_query(0, "capital of France", "general")
    second = build_sub_query(1, "people in that city", "finance", (("that city", 0),))
    experts = ScriptedExperts({"general": Script(("Paris",), before_s=0.03)})
    _, ended = await collect(start(build_plan(first, second), experts)[0])
    asked = experts.requests[1]
    assert [part.answer.failure for part in ended] == [None, None]
    assert "Paris" in asked.text
    assert "that city" not in asked.text
    assert asked.vector is not None
    assert (asked.vector == WordEncoder().embed_documents([asked.text])[0]).all()


async def test_when_a_need_fails_the_part_says_so_and_its_siblings_lose_nothing() -> None:
    plan = build_plan(
        build_sub_query(0, "capital of France", "general"),
        build_sub_query(1, "people in that city", "finance", (("that city", 0),)),
        build_sub_query(2, "sort a list", "coding"),
    )
    experts = ScriptedExperts({"general": Script((), failure=down("general"))})
    _, ended = await collect(start(plan, experts)[0])
    assert [part.answer.failure is None for part in ended] == [False, False, True]
    assert ended[1].answer.failure is not None
    assert "capital of France" in ended[1].answer.failure.message
    assert [request.domain for request in experts.requests] == ["general", "coding"]


async def test_when_a_need_is_refused_the_part_is_not_asked() -> None:
    first = build_sub_query(0, "capital of France", "general")
    second = build_sub_query(1, "people in that city", "finance", (("that city", 0),))
    experts = ScriptedExperts({"general": Script((REFUSAL,))})
    _, ended = await collect(start(build_plan(first, second), experts)[0])
    assert ended[0].answer.failure is None
    assert ended[1].answer.failure is not None
    assert len(experts.requests) == 1


async def test_an_expert_that_dies_mid_stream_keeps_its_text_and_costs_no_sibling() -> None:
    plan = build_plan(build_sub_query(0, "one", "finance"), build_sub_query(1, "two", "coding"))
    experts = ScriptedExperts({"finance": Script(("half an ",), failure=down("finance"))})
    _, ended = await collect(start(plan, experts)[0])
    assert ended[0].answer.text == "half an "
    assert ended[0].failed is not None
    assert ended[0].failed.status == 503
    assert ended[1].answer.text == "An answer [1]."


async def test_an_adapter_that_raises_costs_one_part() -> None:
    plan = build_plan(build_sub_query(0, "one", "finance"), build_sub_query(1, "two", "coding"))
    experts = ScriptedExperts({"finance": Script(raises=RuntimeError("secret detail"))})
    _, ended = await collect(start(plan, experts)[0])
    assert ended[0].answer.failure is not None
    assert "secret" not in ended[0].answer.failure.message
    assert ended[1].answer.failure is None


async def test_the_callers_mistake_keeps_its_status() -> None:
    failure = Failed(Failure("context_length_exceeded", "prompt too long", retryable=False), status=400)
    experts = ScriptedExperts({"finance": Script((), failure=failure)})
    _, ended = await collect(start(build_plan(build_sub_query(0, "one", "finance")), experts)[0])
    assert ended[0].failed is not None
    assert (ended[0].failed.status, ended[0].failed.param) == (400, "messages")


async def test_a_part_past_the_deadline_fails_and_the_others_arrive() -> None:
    plan = build_plan(build_sub_query(0, "one", "finance"), build_sub_query(1, "two", "coding"))
    experts = ScriptedExperts({"finance": Script(before_s=30)})
    fan_out, slots = start(plan, experts, timeout_s=0.1)
    _, ended = await collect(fan_out)
    assert ended[0].answer.failure is not None
    assert ended[0].answer.failure.code == "deadline_exceeded"
    assert ended[1].answer.failure is None
    assert slots.domains["finance"].held == 0
    assert experts.open.total() == 0


async def test_a_domain_at_its_limit_refuses_the_part_that_is_too_many() -> None:
    plan = build_plan(*(build_sub_query(position, f"part {position}", "finance") for position in range(3)))
    experts = ScriptedExperts({"finance": Script(before_s=0.02)})
    fan_out, slots = start(plan, experts)
    _, ended = await collect(fan_out)
    assert [part.failed.status if part.failed else 200 for part in ended] == [200, 200, 429]
    assert ended[2].answer.failure is not None
    assert "domain 'finance' has 2 requests in flight, limit 2" in ended[2].answer.failure.message
    assert slots.domains["finance"].held == 0


async def test_leaving_half_way_cancels_every_part_and_gives_its_slot_back() -> None:
    plan = build_plan(build_sub_query(0, "one", "finance"), build_sub_query(1, "two", "coding"))
    experts = ScriptedExperts({"finance": Script(between_s=30), "coding": Script(before_s=30)})
    fan_out, slots = start(plan, experts)
    events = fan_out.events()
    await anext(events)
    assert experts.open.total() == 2
    await events.aclose()  # type: ignore[attr-defined]
    assert experts.open.total() == 0
    assert [slot.held for slot in slots.domains.values()] == [0, 0, 0]


async def test_cancelling_the_reader_cancels_every_part() -> None:
    plan = build_plan(build_sub_query(0, "one", "finance"), build_sub_query(1, "two", "coding"))
    experts = ScriptedExperts({"finance": Script(between_s=30), "coding": Script(before_s=30)})
    fan_out, slots = start(plan, experts)
    reader = asyncio.create_task(collect(fan_out))
    await asyncio.sleep(0.02)
    assert experts.open.total() == 2
    reader.cancel()
    await asyncio.wait({reader})
    assert reader.cancelled()
    assert experts.open.total() == 0
    assert [slot.held for slot in slots.domains.values()] == [0, 0, 0]


async def test_a_later_part_waits_when_its_buffer_is_full() -> None:
    before = fan_out_module.MAX_BUFFERED_CHARS
    fan_out_module.MAX_BUFFERED_CHARS = 10
    try:
        gate = asyncio.Event()
        plan = build_plan(build_sub_query(0, "one", "finance"), build_sub_query(1, "two", "coding"))
        experts = ScriptedExperts({"finance": Script(gate=gate), "coding": Script(tuple(["12345678"] * 20))})
        fan_out, _ = start(plan, experts)
        collecting = asyncio.create_task(collect(fan_out))
        await asyncio.sleep(0.05)
        assert experts.open["coding"] == 1, "the expert waits instead of filling memory"
        gate.set()
        _, ended = await collecting
        assert ended[1].answer.text == "12345678" * 20
    finally:
        fan_out_module.MAX_BUFFERED_CHARS = before


async def test_limits_and_variants_come_from_the_domain() -> None:
    plan = build_plan(build_sub_query(0, "one", "finance"), build_sub_query(1, "two", "coding"))
    experts = ScriptedExperts()
    await collect(start(plan, experts)[0])
    assert {(ask.domain, ask.variant, ask.sampling.max_tokens) for ask in experts.requests} == {
        ("finance", "full", 64),
        ("coding", "full", 32),
    }
    assert [ask.vector is None for ask in experts.requests] == [False, True], "coding has no index"
    assert len({ask.request_id for ask in experts.requests}) == 2
    assert all(ask.request_id.startswith("request.") for ask in experts.requests)


def test_system_messages_always_go_along_and_the_last_turns_of_the_others() -> None:
    turns = (Turn("user", "a"), Turn("system", "s"), Turn("assistant", "b"), Turn("user", "c"), Turn("assistant", "d"))
    assert [turn.text for turn in choose_turns(turns, 2)] == ["s", "c", "d"]
    assert [turn.text for turn in choose_turns(turns, 0)] == ["s"]
    assert choose_turns(turns, 9) == turns

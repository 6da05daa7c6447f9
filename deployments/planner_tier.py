"""Tier 3: asks the generalist for a plan where the router is unsure of its own, within a budget of time.

The router's own plan is there already, so nothing here fails a question: an answer that is late, cut, refused or not
the user's words costs its time, and the outcome says which it was.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from deployments.expert_call import ExpertRequest, Experts, Failed, Finished, Sampling, TextDelta
from deployments.fan_out import closing_iterator
from deployments.in_flight import InFlight
from deployments.logs import log_event, logger
from experts.errors import ExpertUnavailable, GuildhallError, Overloaded
from experts.fleet import Fleet
from router.planned import (
    MAX_PLANNED_CHARS,
    PlannedPart,
    Rejected,
    count_plan_tokens,
    count_text_chars,
    parse_planned,
    plan_schema,
    planner_prompt,
)
from router.question import Plan, Question, Turn

PLANNED_DOMAINS = 16
"""Domains that the planner chooses from; of a larger fleet those that the router found nearest, so that the prompt
stays short."""

Outcome = Literal["planned", "rejected", "cut", "late", "overloaded", "failed", "too_long"]
"""What came of asking: the label of the metric. Only `planned` has parts."""


@dataclass(frozen=True, slots=True)
class PlannerAnswer:
    """What the planner said; `reason` is for the plan's reasons, `seconds` the time that it took of the budget."""

    outcome: Outcome
    reason: str
    seconds: float
    parts: tuple[PlannedPart, ...] = ()


class _Unplanned(Exception):
    """Asking came to nothing."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(outcome, reason)
        self.outcome = outcome
        self.reason = reason


async def plan_with_generalist(
    experts: Experts,
    fleet: Fleet,
    slots: Mapping[str, InFlight],
    question: Question,
    plan: Plan,
    *,
    request_id: str,
    deadline: float,
    observe: Callable[[int], object] | None = None,
) -> PlannerAnswer:
    """Ask the generalist's first variant to plan a question that `plan` leaves open; raises nothing but cancellation.

    `deadline` is the request's, in the event loop's time; `router.planner_budget_s` bounds it further. One slot of the
    generalist's domain is held meanwhile, and `observe` is given the number held.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    budget_s = fleet.router.planner_budget_s
    ends = deadline if budget_s is None else min(deadline, started + budget_s)
    timeout = asyncio.timeout_at(ends)
    try:
        async with timeout:
            with slots[fleet.generalist].hold(observe):
                parts = await _ask(experts, fleet, question, plan, request_id)
    except _Unplanned as unplanned:
        return PlannerAnswer(unplanned.outcome, f"planner: {unplanned.reason}", loop.time() - started)
    except Overloaded as error:
        return PlannerAnswer("overloaded", f"planner: {error}", loop.time() - started)
    except GuildhallError as error:
        return PlannerAnswer("failed", f"planner: {error}", loop.time() - started)
    except Exception as error:  # noqa: BLE001 - an adapter's mistake costs the planner's plan, never the question
        if isinstance(error, TimeoutError) and timeout.expired():
            return PlannerAnswer("late", f"planner: no plan within {ends - started:.2g} s", loop.time() - started)
        log_event("planner_error", logging.ERROR, domain=fleet.generalist, error=type(error).__name__)
        logger.debug("planner error", exc_info=error)
        return PlannerAnswer("failed", "planner: the generalist could not be asked", loop.time() - started)
    said = f"planned by {fleet.generalist}: {len(parts)} sub-quer{'y' if len(parts) == 1 else 'ies'}"
    return PlannerAnswer("planned", said, loop.time() - started, parts)


async def _ask(
    experts: Experts, fleet: Fleet, question: Question, plan: Plan, request_id: str
) -> tuple[PlannedPart, ...]:
    if len(question.text) > MAX_PLANNED_CHARS:
        raise _Unplanned("too_long", f"the question has {len(question.text)} characters, over {MAX_PLANNED_CHARS}")
    descriptions = {name: fleet.domains[name].description for name in choose_planned_domains(fleet, plan)}
    limit = fleet.router.max_sub_queries
    raw = await _generate(experts, _build_request(fleet, question, descriptions, request_id))
    parsed = parse_planned(raw, question, descriptions, limit)
    if isinstance(parsed, Rejected):
        raise _Unplanned("rejected", parsed.reason)
    return parsed


def choose_planned_domains(fleet: Fleet, plan: Plan) -> tuple[str, ...]:
    """The domains that a planner may name, in fleet order: all, or the nearest PLANNED_DOMAINS and the generalist."""
    if len(fleet.domains) <= PLANNED_DOMAINS:
        return tuple(fleet.domains)
    best: dict[str, float] = {}
    for sub_query in plan.sub_queries:
        for candidate in sub_query.candidates:
            best[candidate.domain] = max(candidate.score, best.get(candidate.domain, candidate.score))
    chosen = {fleet.generalist, *(sub_query.domain for sub_query in plan.sub_queries)}
    for name in sorted(best, key=lambda name: -best[name]):
        if len(chosen) >= PLANNED_DOMAINS:
            break
        chosen.add(name)
    return tuple(name for name in fleet.domains if name in chosen)


def _build_request(fleet: Fleet, question: Question, domains: Mapping[str, str], request_id: str) -> ExpertRequest:
    limit = fleet.router.max_sub_queries
    prompt = planner_prompt(question, domains, limit)
    schema = plan_schema(tuple(domains), limit, count_text_chars(question))
    variant, settings = next(iter(fleet.domains[fleet.generalist].variants.items()))
    # Half of the context at most, because the prompt needs the other half: vLLM refuses what does not fit together.
    room = fleet.engines[settings.engine].max_model_len // 2
    return ExpertRequest(
        # Unique, since an engine refuses an id that it is already serving.
        request_id=f"{request_id}.plan.{secrets.token_hex(4)}",
        domain=fleet.generalist,
        variant=variant,
        text=prompt.data,
        vector=None,
        sampling=Sampling(
            max_tokens=min(count_plan_tokens(question, limit), room),
            temperature=0,
            response_format={"type": "json_schema", "json_schema": {"name": "plan", "schema": schema, "strict": True}},
        ),
        turns=(Turn("system", prompt.instructions),),
    )


async def _generate(experts: Experts, request: ExpertRequest) -> str:
    """The whole text of an answer; raises _Unplanned where it did not come to its end."""
    texts: list[str] = []
    async with closing_iterator(experts.answer(request)) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                texts.append(event.text)
            elif isinstance(event, Failed):
                overloaded = event.failure.code == "overloaded"
                raise _Unplanned("overloaded" if overloaded else "failed", event.failure.message)
            elif isinstance(event, Finished):
                if event.finish_reason == "length":
                    raise _Unplanned("cut", f"the plan was not complete after {request.sampling.max_tokens} tokens")
                return "".join(texts)
    raise ExpertUnavailable(f"expert '{request.domain}' stopped before the end of its plan")

"""Runs a plan: sends every sub-query to its expert as soon as it can go, and yields what comes in plan order."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

from opentelemetry.trace import Span

from deployments.escalate import Escalations
from deployments.expert_call import Experts
from deployments.gateway_metrics import GatewayMetrics
from deployments.http_errors import FailedPart
from deployments.in_flight import InFlight
from deployments.traces import mark_failed, open_span
from deployments.variant_call import (
    FanOutRequest,
    VariantCall,
    VariantCaller,
    closing_iterator,
    fail_unexpected,
    show_call,
)
from deployments.variant_loads import Variants
from experts.errors import ExpertUnavailable
from experts.fleet import Domain
from router.quality import UNKNOWN_ACCURACY
from router.question import Citation, EscalationRecord, Plan, SubAnswer, SubQuery, SubQueryId, Usage, Vector
from router.reference import complete_sub_query, missing_needs
from router.variant import VariantChoice

__all__ = [
    "FanOut",
    "FanOutRequest",
    "PartEnded",
    "PartEvent",
    "PartStarted",
    "PartText",
    "closing_iterator",
]

# Text of a later part waits here while an earlier one is sent. An answer of 256 tokens has about 1,000 characters, so
# only a very long answer ever makes its expert wait.
MAX_BUFFERED_CHARS = 262_144


@dataclass(frozen=True, slots=True)
class PartStarted:
    """A sub-query's expert has read its index."""

    sub_query: SubQuery
    citations: tuple[Citation, ...]


@dataclass(frozen=True, slots=True)
class PartText:
    """Text of the part that is being sent."""

    sub_query: SubQuery
    text: str


@dataclass(frozen=True, slots=True)
class PartEnded:
    """A part is complete; `failed` says how it looks over HTTP when it has no answer."""

    answer: SubAnswer
    failed: FailedPart | None


PartEvent = PartStarted | PartText | PartEnded


@dataclass(slots=True)
class _Part:
    """One sub-query under way: what it has produced and nobody has taken yet."""

    sub_query: SubQuery
    events: deque[PartEvent] = field(default_factory=deque)
    buffered_chars: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    room: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    answer: SubAnswer | None = None

    def start(self, citations: tuple[Citation, ...]) -> None:
        self.put(PartStarted(self.sub_query, citations))

    def put(self, event: PartEvent) -> None:
        self.events.append(event)
        self.changed.set()

    async def put_text(self, text: str) -> None:
        last = self.events[-1] if self.events else None
        if isinstance(last, PartText):
            self.events[-1] = PartText(self.sub_query, last.text + text)
        else:
            self.events.append(PartText(self.sub_query, text))
        self.buffered_chars += len(text)
        self.changed.set()
        while self.buffered_chars > MAX_BUFFERED_CHARS:
            self.room.clear()
            await self.room.wait()

    async def take(self) -> PartEvent:
        while not self.events:
            self.changed.clear()
            await self.changed.wait()
        event = self.events.popleft()
        if isinstance(event, PartText):
            self.buffered_chars -= len(event.text)
            self.room.set()
        return event


class FanOut:
    """One plan under way over the experts.

    Without `variants` each domain's first one answers, and no answer is asked for again.
    """

    def __init__(
        self,
        plan: Plan,
        request: FanOutRequest,
        experts: Experts,
        domains: Mapping[str, Domain],
        slots: Mapping[str, InFlight],
        encode: Callable[[str], Awaitable[Vector]],
        metrics: GatewayMetrics,
        variants: Variants | None = None,
    ) -> None:
        self._request = request
        self._domains = domains
        self._encode = encode
        self._variants = variants
        loads = variants.loads if variants is not None else None
        self._caller = VariantCaller(request, experts, domains, slots, metrics, loads)
        self._escalations = self._plan_escalations(metrics)
        self._parts = {sub_query.id: _Part(sub_query) for sub_query in plan.sub_queries}

    def _plan_escalations(self, metrics: GatewayMetrics) -> Escalations | None:
        """Answers are held back and scored only where the fleet asks for it, and the request leaves the choice to us.

        Who wants `fast` waits for no second answer; who names a variant wants that one's.
        """
        if self._variants is None or self._request.variant is not None:
            return None
        settings = self._variants.fleet.router
        if settings.escalation is None or (self._request.quality or settings.quality) == "fast":
            return None
        return Escalations(settings.escalation, self._variants, self._caller, metrics)

    async def events(self) -> AsyncIterator[PartEvent]:
        """Events in plan order, each part ending with one PartEnded; a failed part loses nothing of the others.

        Closing the iterator, or cancelling the task that reads it, stops every sub-query and gives its slot back.
        """
        tasks = [asyncio.create_task(self._run(part)) for part in self._parts.values()]
        try:
            for part in self._parts.values():
                event: PartEvent | None = None
                while not isinstance(event, PartEnded):
                    event = await part.take()
                    yield event
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                # Not gather: when this wait is itself cancelled, the sub-queries still clean up undisturbed.
                await asyncio.wait(tasks)

    async def _run(self, part: _Part) -> None:
        """Run one sub-query to its end; every failure becomes data here."""
        with open_span("sub_query") as span:
            await self._run_traced(part, span)

    async def _run_traced(self, part: _Part, span: Span) -> None:
        started = time.perf_counter()
        failed: FailedPart | None = None
        try:
            if part.sub_query.refusal is not None:
                answer = await _refuse(part, part.sub_query.refusal)
            else:
                answer, failed = await self._answer(part)
        except Exception as error:  # noqa: BLE001 - a mistake in choosing or scoring costs one part, never the answer
            failed = fail_unexpected(part.sub_query.domain, error)
            answer = SubAnswer(part.sub_query.id, part.sub_query.domain, "", failure=failed.failure)
        timings_s = {**answer.timings_s, "total": time.perf_counter() - started}
        part.answer = replace(answer, timings_s=timings_s)
        _describe_span(span, part.answer)
        part.put(PartEnded(part.answer, failed))
        part.ended.set()

    async def _answer(self, part: _Part) -> tuple[SubAnswer, FailedPart | None]:
        sub_query = part.sub_query
        completed = await self._caller.guard(sub_query.domain, self._complete(sub_query))
        if isinstance(completed, FailedPart):
            choice = self._choose(sub_query.domain, sub_query.text, sub_query.vector)
            call = VariantCall(sub_query.domain, choice.variant, failed=completed)
            self._caller.record(call)
            return _conclude(sub_query, call, None, choice, None), completed
        text, vector = completed
        choice = self._choose(sub_query.domain, text, vector)
        call = VariantCall(sub_query.domain, choice.variant, held=self._escalations is not None)
        await self._caller.ask(call, sub_query.id, text, vector, part)
        other: VariantCall | None = None
        record: EscalationRecord | None = None
        if self._escalations is not None:
            call, other, record = await self._escalations.settle(sub_query, call, choice, text, vector, part)
            await show_call(call, part)
        self._caller.record(call)
        if other is not None:
            self._caller.record(other, replaced=True)
        return _conclude(sub_query, call, other, choice, record), call.failed

    async def _complete(self, sub_query: SubQuery) -> tuple[str, Vector]:
        """The text to ask and its vector, once every answer that it needs is there."""
        if not sub_query.needs:
            return sub_query.text, sub_query.vector
        answers: dict[SubQueryId, SubAnswer] = {}
        for need in sub_query.needs:
            part = self._parts[need]
            await part.ended.wait()
            if part.answer is not None and part.sub_query.refusal is None:
                answers[need] = part.answer
        missing = missing_needs(sub_query, answers)
        if missing:
            parts = " and ".join(f"'{self._parts[need].sub_query.text}'" for need in missing)
            raise ExpertUnavailable(f"this part needs the answer to {parts}, which did not come")
        text = complete_sub_query(sub_query, answers)
        return text, await self._encode(text)

    def _choose(self, domain: str, text: str, vector: Vector) -> VariantChoice:
        if self._variants is not None:
            return self._variants.choose(domain, text, vector, self._request.quality, self._request.variant)
        name, variant = next(iter(self._domains[domain].variants.items()))
        accuracy = variant.accuracy if variant.accuracy is not None else UNKNOWN_ACCURACY
        return VariantChoice(self._request.variant or name, accuracy, variant.cost, 0, "the domain's first")


def _describe_span(span: Span, answer: SubAnswer) -> None:
    span.set_attributes(
        {
            "guildhall.sub_query": answer.sub_query,
            "guildhall.domain": answer.domain,
            "guildhall.variant": answer.variant or "",
            "guildhall.escalated": answer.escalation is not None and answer.escalation.second is not None,
        }
    )
    if answer.failure is not None:
        mark_failed(span, answer.failure.code)


async def _refuse(part: _Part, text: str) -> SubAnswer:
    """What the fleet file answers where no expert is to be asked."""
    part.start(())
    await part.put_text(text)
    return SubAnswer(part.sub_query.id, part.sub_query.domain, text, finish_reason="stop")


def _conclude(
    sub_query: SubQuery,
    call: VariantCall,
    other: VariantCall | None,
    choice: VariantChoice,
    record: EscalationRecord | None,
) -> SubAnswer:
    finished = call.finished
    usages = [call.usage, other.usage if other is not None else Usage()]
    return SubAnswer(
        sub_query=sub_query.id,
        domain=call.domain,
        text=call.text,
        citations=call.cited(),
        failure=call.failed.failure if call.failed is not None else None,
        finish_reason=finished.finish_reason if finished is not None else None,
        usage=Usage(sum(used.prompt_tokens for used in usages), sum(used.completion_tokens for used in usages)),
        timings_s={**(finished.timings_s if finished is not None else {}), **call.timings_s},
        variant=call.variant,
        choice=choice,
        escalation=record,
    )

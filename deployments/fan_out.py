"""Runs a plan: sends every sub-query to its expert as soon as it can go, and yields what comes in plan order."""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from deployments.chat_request import SamplingRequest
from deployments.expert_call import (
    ExpertEvent,
    ExpertRequest,
    Experts,
    Failed,
    Finished,
    Retrieved,
    TextDelta,
)
from deployments.gateway_metrics import GatewayMetrics
from deployments.http_errors import FailedPart, fail_part
from deployments.in_flight import InFlight
from deployments.logs import log_event, logger
from experts.errors import DeadlineExceeded, ExpertUnavailable, GuildhallError
from experts.fleet import Domain
from router.question import Citation, Failure, Plan, SubAnswer, SubQuery, SubQueryId, Turn, Usage, Vector
from router.reference import complete_sub_query, missing_needs

# Text of a later part waits here while an earlier one is sent. An answer of 256 tokens has about 1,000 characters, so
# only a very long answer ever makes its expert wait.
MAX_BUFFERED_CHARS = 262_144

Item = TypeVar("Item")


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


@dataclass(frozen=True, slots=True)
class FanOutRequest:
    """What all sub-queries of one question share; `deadline` is the event loop's time, `timeout_s` what it was set by.

    `variant` None takes each domain's first one.
    """

    request_id: str
    sampling: SamplingRequest
    turns: tuple[Turn, ...]
    deadline: float
    timeout_s: float
    variant: str | None = None


@dataclass(slots=True)
class _Part:
    """One sub-query under way: what it has produced and nobody has taken yet."""

    sub_query: SubQuery
    events: deque[PartEvent] = field(default_factory=deque)
    buffered_chars: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    room: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    citations: tuple[Citation, ...] = ()
    texts: list[str] = field(default_factory=list)
    timings_s: dict[str, float] = field(default_factory=dict)
    answer: SubAnswer | None = None

    def put(self, event: PartEvent) -> None:
        self.events.append(event)
        self.changed.set()

    async def put_text(self, text: str) -> None:
        self.texts.append(text)
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
    """One plan under way over the experts."""

    def __init__(
        self,
        plan: Plan,
        request: FanOutRequest,
        experts: Experts,
        domains: Mapping[str, Domain],
        slots: Mapping[str, InFlight],
        encode: Callable[[str], Awaitable[Vector]],
        metrics: GatewayMetrics,
    ) -> None:
        self._request = request
        self._experts = experts
        self._domains = domains
        self._slots = slots
        self._encode = encode
        self._metrics = metrics
        self._parts = {sub_query.id: _Part(sub_query) for sub_query in plan.sub_queries}

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
        started = time.perf_counter()
        domain = part.sub_query.domain
        variant = self._variant(domain)
        finished: Finished | None = None
        failed: FailedPart | None = None
        timeout = asyncio.timeout_at(self._request.deadline)
        try:
            async with timeout:
                last = await self._answer(part, variant)
            if isinstance(last, Finished):
                finished = last
            else:
                failed = FailedPart(
                    last.failure, last.status, last.param or ("messages" if last.status == 400 else None)
                )
        except GuildhallError as error:
            failed = fail_part(error)
        except Exception as error:  # noqa: BLE001 - an adapter's mistake costs one part, never the whole answer
            if isinstance(error, TimeoutError) and timeout.expired():
                failed = fail_part(
                    DeadlineExceeded(
                        f"domain '{domain}' did not finish within {self._request.timeout_s:g} s; "
                        "ask for less or raise gateway.answer_timeout_s"
                    )
                )
            else:
                log_event("sub_query_error", logging.ERROR, domain=domain, error=type(error).__name__)
                logger.debug("sub-query error", exc_info=error)
                message = f"expert '{domain}' could not be asked; the request may be retried"
                failed = fail_part(ExpertUnavailable(message))
        total_s = time.perf_counter() - started
        part.timings_s["total"] = total_s
        part.answer = _conclude(part, finished, failed)
        self._record(part.answer, variant, total_s)
        part.put(PartEnded(part.answer, failed))
        part.ended.set()

    async def _answer(self, part: _Part, variant: str) -> Finished | Failed:
        sub_query = part.sub_query
        text, vector = await self._complete(sub_query)
        domain = self._domains[sub_query.domain]
        request = ExpertRequest(
            # Unique per sub-query, since an engine refuses an id that it is already serving.
            request_id=f"{self._request.request_id}.{sub_query.id}.{secrets.token_hex(4)}",
            domain=sub_query.domain,
            variant=variant,
            text=text,
            vector=vector if domain.index is not None else None,
            sampling=self._request.sampling.with_limit(domain.max_tokens),
            turns=choose_turns(self._request.turns, domain.history_turns),
        )
        gauge = self._metrics.sub_queries_in_flight.labels(sub_query.domain)
        with self._slots[sub_query.domain].hold(gauge.set):
            sent = time.perf_counter()
            async with closing_iterator(self._experts.answer(request)) as events:
                async for event in events:
                    last = await self._take(part, event, variant, sent)
                    if last is not None:
                        return last
        raise ExpertUnavailable(
            f"expert '{sub_query.domain}' stopped before the end of its answer; the request may be retried"
        )

    async def _take(self, part: _Part, event: ExpertEvent, variant: str, sent: float) -> Finished | Failed | None:
        if isinstance(event, Retrieved):
            part.citations = event.citations
            part.timings_s["retrieve"] = event.seconds
            self._metrics.retrieval_seconds.labels(part.sub_query.domain).observe(event.seconds)
            part.put(PartStarted(part.sub_query, event.citations))
        elif isinstance(event, TextDelta):
            if event.text:
                if "first_token" not in part.timings_s:
                    ttft_s = time.perf_counter() - sent
                    part.timings_s["first_token"] = ttft_s
                    self._metrics.ttft_seconds.labels(part.sub_query.domain, variant).observe(ttft_s)
                await part.put_text(event.text)
        else:
            return event
        return None

    async def _complete(self, sub_query: SubQuery) -> tuple[str, Vector]:
        """The text to ask and its vector, once every answer that it needs is there."""
        if not sub_query.needs:
            return sub_query.text, sub_query.vector
        answers: dict[SubQueryId, SubAnswer] = {}
        for need in sub_query.needs:
            part = self._parts[need]
            await part.ended.wait()
            if part.answer is not None:
                answers[need] = part.answer
        missing = missing_needs(sub_query, answers)
        if missing:
            parts = " and ".join(f"'{self._parts[need].sub_query.text}'" for need in missing)
            raise ExpertUnavailable(f"this part needs the answer to {parts}, which did not come")
        text = complete_sub_query(sub_query, answers)
        return text, await self._encode(text)

    def _variant(self, domain: str) -> str:
        return self._request.variant or next(iter(self._domains[domain].variants))

    def _record(self, answer: SubAnswer, variant: str, total_s: float) -> None:
        labels = (answer.domain, variant)
        outcome = "failed" if answer.failure is not None else "answered"
        self._metrics.sub_queries.labels(*labels, outcome).inc()
        self._metrics.sub_query_seconds.labels(*labels).observe(total_s)
        self._metrics.prompt_tokens.labels(*labels).inc(answer.usage.prompt_tokens)
        self._metrics.completion_tokens.labels(*labels).inc(answer.usage.completion_tokens)
        if answer.failure is not None:
            self._metrics.failures.labels(answer.domain, answer.failure.code).inc()


def _conclude(part: _Part, finished: Finished | None, failed: FailedPart | None) -> SubAnswer:
    failure: Failure | None = failed.failure if failed is not None else None
    cited = {citation.number: citation for citation in finished.cited} if finished is not None else {}
    return SubAnswer(
        sub_query=part.sub_query.id,
        domain=part.sub_query.domain,
        text="".join(part.texts),
        citations=tuple(cited.get(citation.number, citation) for citation in part.citations),
        failure=failure,
        finish_reason=finished.finish_reason if finished is not None else None,
        usage=finished.usage if finished is not None else Usage(),
        timings_s={**(finished.timings_s if finished is not None else {}), **part.timings_s},
    )


def choose_turns(turns: tuple[Turn, ...], history_turns: int) -> tuple[Turn, ...]:
    """The caller's system messages always, and the last `history_turns` of the others, in their order."""
    spoken = [position for position, turn in enumerate(turns) if turn.role != "system"]
    kept = set(spoken[-history_turns:] if history_turns else ())
    return tuple(turn for position, turn in enumerate(turns) if turn.role == "system" or position in kept)


@asynccontextmanager
async def closing_iterator(iterator: AsyncIterator[Item]) -> AsyncIterator[AsyncIterator[Item]]:
    """Close an asynchronous iterator at the end, where it can be closed: a generator can, a plain iterator cannot."""
    try:
        yield iterator
    finally:
        close: Callable[[], Awaitable[Any]] | None = getattr(iterator, "aclose", None)
        if close is not None:
            await close()

"""Answers one chat request: plans it, fans it out, fuses what comes, as one body or as a stream."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any

from deployments.chat_request import ChatRequest
from deployments.chat_response import (
    DONE,
    ChatBodies,
    choose_finish_reason,
    describe_answer,
    describe_fusion,
    describe_usage,
    encode_event,
    sum_usage,
)
from deployments.fan_out import FanOutRequest, PartEnded, PartEvent, PartStarted, PartText, closing_iterator
from deployments.gateway_service import GatewayService, Serving, Target
from deployments.http_errors import ErrorReply, FailedPart, reply_to_failures
from deployments.request_edge import RequestRecord
from experts.errors import DeadlineExceeded
from router.explain import explain_plan
from router.fuse import FusionStream, MarkStream
from router.question import Citation, Failure, Plan, SubAnswer, SubQueryId, Usage
from router.synthesis import FusionChoice, choose_fusion, choose_material, plan_synthesis

_WROTE_NOTHING = Failure("empty_answer", "the generalist wrote nothing", True)


class ChatAnswer:
    """One chat request on its way through plan, experts and fusion.

    `remember` is given the plan as soon as the answer is sure to have text: what feedback may come for.
    """

    def __init__(
        self,
        service: GatewayService,
        serving: Serving,
        target: Target,
        request: ChatRequest,
        record: RequestRecord,
        remember: Callable[[Plan], object] = lambda plan: None,
    ) -> None:
        self._service = service
        self._serving = serving
        self._target = target
        self._request = request
        self._record = record
        self._remember = remember
        self._answers: list[SubAnswer] = []
        self._failed: list[FailedPart] = []
        self._timings_s: dict[str, float] = {}
        self._shown: dict[SubQueryId, str] = {}
        self._synthesis: SubAnswer | None = None
        # An answer in a prescribed format is one part, passed on untouched: in JSON, [1] is a value and not a citation.
        self._is_formatted = request.sampling.response_format is not None
        self._bodies = ChatBodies(f"chatcmpl-{uuid.uuid4().hex}", request.model, int(time.time()))

    async def body(self) -> ErrorReply | Mapping[str, Any]:
        """The whole answer as one body, or the error when no part has one."""
        async with closing_iterator(self._run()) as run:
            texts = [text async for text in run]
        if not self._has_answer():
            return reply_to_failures(self._failed)
        guildhall = {**self._introduce(), **self._describe()}
        return self._bodies.completion("".join(texts), self._choose_finish_reason(), self._sum_usage(), guildhall)

    async def frames(self) -> AsyncIterator[ErrorReply | bytes]:
        """The answer as server-sent events; one ErrorReply instead when no part has an answer.

        Nothing is sent before the first text, so that a failure before it is an HTTP error and not a broken stream.
        """
        started = False
        async with closing_iterator(self._run()) as run:
            async for text in run:
                if not started:
                    started = True
                    yield self._open()
                yield encode_event(self._bodies.chunk({"content": text}))
        if not self._has_answer() and not started:
            yield reply_to_failures(self._failed)
            return
        if not started:
            yield self._open()
        yield encode_event(self._bodies.chunk({}, self._choose_finish_reason(), self._describe()))
        if self._request.include_usage:
            yield encode_event(self._bodies.usage_chunk(self._sum_usage()))
        yield DONE

    def _open(self) -> bytes:
        delta = {"role": "assistant", "content": ""}
        return encode_event(self._bodies.chunk(delta, guildhall=self._introduce()))

    def _introduce(self) -> dict[str, Any]:
        return {"request_id": self._record.request_id, "plan": explain_plan(self._plan)}

    async def _run(self) -> AsyncIterator[str]:
        """The fused text, piece by piece; the first piece holds or follows an expert's own text."""
        loop = asyncio.get_running_loop()
        timeout_s = self._serving.fleet.gateway.answer_timeout_s
        deadline = loop.time() + timeout_s
        self._plan = await self._make_plan(deadline, timeout_s)
        self._mark("route")
        self._record.fields |= {
            "model": self._request.model,
            "domains": [sub_query.domain for sub_query in self._plan.sub_queries],
            "stream": self._request.stream,
        }
        asked = FanOutRequest(
            request_id=self._record.request_id,
            sampling=self._request.sampling,
            turns=self._request.question.turns,
            deadline=deadline,
            timeout_s=timeout_s,
            variant=self._target.variant,
            quality=self._request.extension.quality,
        )
        self._fusion = FusionStream(self._plan)
        self._open_part: SubQueryId | None = None
        wanted = self._request.extension.fusion or self._serving.fleet.router.fusion
        joins = wanted == "join" or self._is_formatted or len(self._plan.sub_queries) == 1
        held: list[str] = []
        answering = False
        try:
            fan_out = self._service.fan_out(self._serving, self._plan, asked)
            async with closing_iterator(fan_out.events()) as events:
                async for event in events:
                    if not answering and _answers(event):
                        answering = True
                        self._remember(self._plan)
                    held.append(self._fuse(event))
                    if joins and answering and any(held):
                        self._mark("first_token", once=True)
                        yield "".join(held)
                        held.clear()
            if not answering:
                return
            told = await self._conclude()
            parts = self._fusion.answer().sub_answers
            self._choice = choose_fusion(wanted, self._plan, parts, is_formatted=self._is_formatted)
            if self._choice.fusion == "synthesize":
                async with closing_iterator(self._synthesize(asked, "".join(held))) as pieces:
                    async for text in pieces:
                        self._mark("first_token", once=True)
                        yield text
                held.clear()
            held.append(told)
            if any(held):
                yield "".join(held)
        finally:
            self._mark("total")
            self._log()

    async def _conclude(self) -> str:
        """The lines about contradictions."""
        if self._is_formatted:
            return ""
        if len(self._plan.sub_queries) == 1:
            return self._fusion.conclude()
        # Not on the loop: four parts of 4,000 characters that are all claims take 100 ms, and other answers go on.
        return await asyncio.to_thread(self._fusion.conclude)

    async def _synthesize(self, asked: FanOutRequest, joined: str) -> AsyncIterator[str]:
        """The generalist's text with the parts that it was not given; the joined answer when it fails."""
        answer = self._fusion.answer()
        plan = plan_synthesis(self._plan, answer.sub_answers, self._serving.fleet.generalist)
        known = {citation.number for citation in answer.citations}
        marks = MarkStream(lambda number: number if number in known else None)
        # The conversation is in the sub-queries already; what the caller says of the form of answers is not.
        turns = tuple(turn for turn in asked.turns if turn.role == "system")
        # A named variant is not escalated: a second answer would come after the first one was read.
        variant = next(iter(self._serving.fleet.domains[self._serving.fleet.generalist].variants))
        request = replace(asked, request_id=f"{asked.request_id}.synthesis", turns=turns, variant=variant)
        started = False
        async with closing_iterator(self._service.fan_out(self._serving, plan, request).events()) as events:
            async for event in events:
                if isinstance(event, PartEnded):
                    self._synthesis = event.answer
                shown = marks.feed(event.text) if isinstance(event, PartText) else ""
                shown = shown if started else shown.lstrip()
                if shown:
                    started = True
                    yield shown
        failure = self._synthesis.failure if self._synthesis is not None else None
        failure = failure or (None if started else _WROTE_NOTHING)
        if failure is not None:
            reason = f"synthesis failed: {failure.message}; the answers stand one after another"
            self._choice = FusionChoice("join", reason)
            yield f"\n\n{joined}" if started else joined
            return
        merged = {sub_query.id for sub_query, _ in choose_material(self._plan, answer.sub_answers)}
        left = [text.strip() for sub_query, text in self._shown.items() if sub_query not in merged and text.strip()]
        yield "".join([marks.end().rstrip(), *(f"\n\n{text}" for text in left)])

    async def _make_plan(self, deadline: float, timeout_s: float) -> Plan:
        try:
            async with asyncio.timeout_at(deadline):
                return await self._service.plan(
                    self._serving,
                    self._request.question,
                    self._target,
                    self._is_formatted,
                    request_id=self._record.request_id,
                    deadline=deadline,
                )
        except TimeoutError:
            raise DeadlineExceeded(
                f"the question waited for routing longer than {timeout_s:g} s; "
                "retry later, add gateway.replicas or raise gateway.answer_timeout_s"
            ) from None

    def _fuse(self, event: PartEvent) -> str:
        """What an event adds to the joined text."""
        if isinstance(event, PartEnded):
            part = event.answer.sub_query
            self._answers.append(event.answer)
            if event.failed is not None:
                self._failed.append(event.failed)
            self._start_part(part, ())
            shown = self._fusion.end(event.answer)
            self._open_part = None
            own = ""
        else:
            part = event.sub_query.id
            self._start_part(part, event.citations if isinstance(event, PartStarted) else ())
            own = event.text if isinstance(event, PartText) else ""
            shown = self._fusion.feed(own)
        text = own if self._is_formatted else shown
        self._shown[part] = self._shown.get(part, "") + text
        return text

    def _start_part(self, sub_query: SubQueryId, citations: tuple[Citation, ...]) -> None:
        """Open a part once, also one that ends before its expert has read its index."""
        if self._open_part is None:
            self._fusion.start(sub_query, citations)
            self._open_part = sub_query

    def _has_answer(self) -> bool:
        return len(self._failed) < len(self._answers)

    def _describe(self) -> dict[str, Any]:
        fused = self._fusion.answer()
        if self._is_formatted:
            cited = tuple(citation for answer in self._answers for citation in answer.citations if citation.text)
            described = describe_answer(cited, self._answers, self._timings_s)
        else:
            described = describe_answer(fused.citations, fused.sub_answers, self._timings_s)
        return described | describe_fusion(self._choice, self._synthesis, self._fusion.contradictions)

    def _sum_usage(self) -> Usage:
        return sum_usage([*self._answers, *([self._synthesis] if self._synthesis is not None else [])])

    def _choose_finish_reason(self) -> str:
        is_merged = self._synthesis is not None and self._choice.fusion == "synthesize"
        return choose_finish_reason([self._synthesis] if is_merged and self._synthesis is not None else self._answers)

    def _mark(self, name: str, once: bool = False) -> None:
        if not (once and name in self._timings_s):
            self._timings_s[name] = time.perf_counter() - self._record.started

    def _log(self) -> None:
        self._record.fields |= {
            "failures": [answer.failure.code for answer in self._answers if answer.failure is not None],
            "timings_s": {name: round(seconds, 6) for name, seconds in self._timings_s.items()},
            "usage": describe_usage(self._sum_usage()),
        }


def _answers(event: PartEvent) -> bool:
    """Whether an event shows that the response will be an answer and not an error."""
    return isinstance(event, PartText) or (isinstance(event, PartEnded) and event.failed is None)

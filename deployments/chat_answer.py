"""Answers one chat request: plans it, fans it out, fuses what comes, as one body or as a stream."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from deployments.chat_request import ChatRequest
from deployments.chat_response import (
    DONE,
    ChatBodies,
    choose_finish_reason,
    describe_answer,
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
from router.fuse import FusionStream
from router.question import Citation, Plan, SubAnswer, SubQueryId


class ChatAnswer:
    """One chat request on its way through plan, experts and fusion."""

    def __init__(
        self, service: GatewayService, serving: Serving, target: Target, request: ChatRequest, record: RequestRecord
    ) -> None:
        self._service = service
        self._serving = serving
        self._target = target
        self._request = request
        self._record = record
        self._answers: list[SubAnswer] = []
        self._failed: list[FailedPart] = []
        self._timings_s: dict[str, float] = {}
        # An answer in a prescribed format is one part, passed on untouched: in JSON, [1] is a value and not a citation.
        self._is_formatted = request.sampling.response_format is not None
        self._bodies = ChatBodies(f"chatcmpl-{uuid.uuid4().hex}", request.model, int(time.time()))

    async def body(self) -> ErrorReply | Mapping[str, Any]:
        """The whole answer as one body, or the error when no part has one."""
        async with closing_iterator(self._run()) as run:
            texts = [text async for text in run]
        if not self._has_answer():
            return reply_to_failures(self._failed)
        usage = sum_usage(self._answers)
        guildhall = {"plan": explain_plan(self._plan), **self._describe()}
        return self._bodies.completion("".join(texts), choose_finish_reason(self._answers), usage, guildhall)

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
        yield encode_event(self._bodies.chunk({}, choose_finish_reason(self._answers), self._describe()))
        if self._request.include_usage:
            yield encode_event(self._bodies.usage_chunk(sum_usage(self._answers)))
        yield DONE

    def _open(self) -> bytes:
        delta = {"role": "assistant", "content": ""}
        return encode_event(self._bodies.chunk(delta, guildhall={"plan": explain_plan(self._plan)}))

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
        fan_out = self._service.fan_out(
            self._serving,
            self._plan,
            FanOutRequest(
                request_id=self._record.request_id,
                sampling=self._request.sampling,
                turns=self._request.question.turns,
                deadline=deadline,
                timeout_s=timeout_s,
                variant=self._target.variant,
            ),
        )
        self._fusion = FusionStream(self._plan)
        self._open_part: SubQueryId | None = None
        held: list[str] = []
        answering = False
        try:
            async with closing_iterator(fan_out.events()) as events:
                async for event in events:
                    answering = answering or _answers(event)
                    text = self._fuse(event)
                    if not text:
                        continue
                    held.append(text)
                    if answering:
                        self._mark("first_token", once=True)
                        yield "".join(held)
                        held.clear()
        finally:
            self._mark("total")
            self._log()
        if answering and held:
            yield "".join(held)

    async def _make_plan(self, deadline: float, timeout_s: float) -> Plan:
        try:
            async with asyncio.timeout_at(deadline):
                return await self._service.plan(self._serving, self._request.question, self._target, self._is_formatted)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the question waited for routing longer than {timeout_s:g} s; "
                "retry later, add gateway.replicas or raise gateway.answer_timeout_s"
            ) from None

    def _fuse(self, event: PartEvent) -> str:
        if isinstance(event, PartStarted):
            self._start_part(event.sub_query.id, event.citations)
            return ""
        if isinstance(event, PartText):
            self._start_part(event.sub_query.id, ())
            shown = self._fusion.feed(event.text)
            return event.text if self._is_formatted else shown
        self._answers.append(event.answer)
        if event.failed is not None:
            self._failed.append(event.failed)
        self._start_part(event.answer.sub_query, ())
        shown = self._fusion.end(event.answer)
        self._open_part = None
        return "" if self._is_formatted else shown

    def _start_part(self, sub_query: SubQueryId, citations: tuple[Citation, ...]) -> None:
        """Open a part once, also one that ends before its expert has read its index."""
        if self._open_part is None:
            self._fusion.start(sub_query, citations)
            self._open_part = sub_query

    def _has_answer(self) -> bool:
        return len(self._failed) < len(self._answers)

    def _describe(self) -> dict[str, Any]:
        if self._is_formatted:
            cited = [citation for answer in self._answers for citation in answer.citations if citation.text]
            citations = tuple(cited)
        else:
            citations = self._fusion.answer().citations
        return describe_answer(citations, self._answers, self._timings_s)

    def _mark(self, name: str, once: bool = False) -> None:
        if not (once and name in self._timings_s):
            self._timings_s[name] = time.perf_counter() - self._record.started

    def _log(self) -> None:
        self._record.fields |= {
            "failures": [answer.failure.code for answer in self._answers if answer.failure is not None],
            "timings_s": {name: round(seconds, 6) for name, seconds in self._timings_s.items()},
            "usage": describe_usage(sum_usage(self._answers)),
        }


def _answers(event: PartEvent) -> bool:
    """Whether an event shows that the response will be an answer and not an error."""
    return isinstance(event, PartText) or (isinstance(event, PartEnded) and event.failed is None)

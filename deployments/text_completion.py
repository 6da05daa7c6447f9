"""Answers one text completion: one expert continues a prompt, without routing, template or passages."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from deployments.chat_response import DONE, encode_event
from deployments.fan_out import closing_iterator
from deployments.gateway_service import GatewayService, Serving, Target, describe_variant
from deployments.http_errors import ErrorReply, FailedPart, reply_to_error, reply_to_failures
from deployments.logs import log_event
from deployments.openai_api import CompletionRequest
from deployments.request_edge import RequestRecord
from experts.errors import DeadlineExceeded, ExpertUnavailable, GuildhallError
from router.question import Failure


class TextCompletion:
    """One completion request on its way to one expert."""

    def __init__(
        self,
        service: GatewayService,
        serving: Serving,
        target: Target,
        request: CompletionRequest,
        record: RequestRecord,
    ) -> None:
        self._service = service
        self._serving = serving
        self._request = request
        self._record = record
        self._domain, self._variant = describe_variant(target, serving.fleet)
        self._id = f"cmpl-{uuid.uuid4().hex}"
        record.fields |= {"model": request.model, "domains": [self._domain], "stream": request.stream}

    async def body(self) -> ErrorReply | Mapping[str, Any]:
        """The completion as one body, or the engine's refusal."""
        async with closing_iterator(self._items()) as items:
            async for item in items:
                return item
        return reply_to_error(self._stopped())

    async def frames(self) -> AsyncIterator[ErrorReply | bytes]:
        """The completion as server-sent events; one ErrorReply instead when nothing was sent yet."""
        started = False
        try:
            async with closing_iterator(self._items()) as items:
                async for item in items:
                    if isinstance(item, ErrorReply):
                        if not started:
                            yield item
                            return
                        yield encode_event(item.body)
                        break
                    started = True
                    frame = self._frame(item)
                    if frame is not None:
                        yield frame
        except GuildhallError as error:
            if not started:
                raise
            yield encode_event(reply_to_error(error).body)
        if not started:
            yield reply_to_error(self._stopped())
            return
        yield DONE

    def _frame(self, item: Mapping[str, Any]) -> bytes | None:
        if self._request.include_usage:
            return encode_event(item)
        if not item.get("choices"):
            return None
        return encode_event({key: value for key, value in item.items() if key != "usage"})

    async def _items(self) -> AsyncIterator[ErrorReply | Mapping[str, Any]]:
        """The engine's bodies under our id and model name; its refusal ends them."""
        timeout_s = self._serving.fleet.gateway.answer_timeout_s
        deadline = asyncio.get_running_loop().time() + timeout_s
        domain = self._serving.fleet.domains[self._domain]
        body = self._request.engine_body(domain.max_tokens)
        metrics = self._service.metrics
        labels = (self._domain, self._variant)
        outcome = "failed"
        gauge = metrics.sub_queries_in_flight.labels(self._domain)
        try:
            with self._service.slots.domains[self._domain].hold(gauge.set):
                completing = self._serving.experts.complete(*labels, body, self._record.request_id)
                async with closing_iterator(completing) as items:
                    while True:
                        try:
                            async with asyncio.timeout_at(deadline):
                                item = await anext(items)
                        except StopAsyncIteration:
                            break
                        except TimeoutError:
                            raise DeadlineExceeded(
                                f"domain '{self._domain}' did not finish within {timeout_s:g} s; "
                                "ask for less or raise gateway.answer_timeout_s"
                            ) from None
                        if "error" in item:
                            yield _read_refusal(item["error"])
                            return
                        self._count(item.get("usage"))
                        yield {**item, "id": self._id, "model": self._request.model}
            outcome = "answered"
        except GuildhallError:
            raise
        except Exception as error:
            log_event("completion_error", logging.ERROR, domain=self._domain, error=type(error).__name__)
            raise self._stopped() from error
        finally:
            metrics.sub_queries.labels(*labels, outcome).inc()

    def _count(self, usage: Mapping[str, Any] | None) -> None:
        if usage:
            labels = (self._domain, self._variant)
            self._service.metrics.prompt_tokens.labels(*labels).inc(usage.get("prompt_tokens") or 0)
            self._service.metrics.completion_tokens.labels(*labels).inc(usage.get("completion_tokens") or 0)
            self._record.fields["usage"] = dict(usage)

    def _stopped(self) -> ExpertUnavailable:
        return ExpertUnavailable(f"expert '{self._domain}' could not complete; the request may be retried")


def _read_refusal(error: Mapping[str, Any]) -> ErrorReply:
    code = str(error.get("code"))
    message = str(error.get("message") or "the engine refused the request")
    if code.isdecimal() and 400 <= int(code) < 500:
        param = error.get("param")
        failure = Failure("invalid_request", message, retryable=False)
        return reply_to_failures([FailedPart(failure, int(code), str(param) if param else "prompt")])
    return reply_to_failures([FailedPart(Failure("engine_error", message, retryable=True), 503)])

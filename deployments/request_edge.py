"""The gateway's outermost layer: request id, API key, limit on requests in flight, log line, metrics, last resort."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi.responses import Response
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.fan_out import closing_iterator
from deployments.gateway_service import GatewayService
from deployments.http_errors import ErrorReply, reply_to_error, reply_to_internal_error
from deployments.logs import bind_request_id, choose_request_id, log_event, logger
from deployments.request_fields import parse_json_object
from deployments.traces import mark_failed, open_span, read_parent
from experts.errors import BadRequest, BodyTooLarge, GuildhallError

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""What load balancers and Kubernetes ask without a key."""

# A client that sends a body of the largest size over a slow line needs seconds; one that trickles holds a slot.
BODY_TIMEOUT_S = 30
CLIENT_GONE = 499
JSON = "application/json"

Result = TypeVar("Result")


@dataclass(slots=True)
class RequestRecord:
    """What the log line of one request will say beside its status; handlers add to `fields`."""

    request_id: str
    started: float = field(default_factory=time.perf_counter)
    fields: dict[str, Any] = field(default_factory=dict)


def read_record(request: Request) -> RequestRecord:
    """The record that the edge made for a request."""
    record: RequestRecord = request.state.record
    return record


class RequestEdge:
    """ASGI middleware around everything else.

    `behind_proxy`: Ray Serve's proxy adds x-request-id to responses itself, so that ours is added only when the
    caller's was not usable.
    """

    def __init__(self, app: ASGIApp, service: GatewayService, behind_proxy: bool) -> None:
        self._app = app
        self._service = service
        self._behind_proxy = behind_proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        offered = _read_header(scope, b"x-request-id")
        request_id = choose_request_id(offered)
        record = RequestRecord(request_id)
        scope.setdefault("state", {})["record"] = record
        sends_id = not self._behind_proxy or request_id != offered
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if sends_id:
                    message = {**message, "headers": [*message["headers"], (b"x-request-id", request_id.encode())]}
            await send(message)

        with bind_request_id(request_id), _trace(scope, request_id) as span:
            self._service.metrics.in_flight.inc()
            try:
                await self._serve(scope, receive, send_with_id)
            except GuildhallError as error:
                await build_error(reply_to_error(error))(scope, receive, send_with_id)
            except ClientDisconnect:
                status = CLIENT_GONE
            except asyncio.CancelledError:
                status = CLIENT_GONE
                raise
            except Exception as error:
                log_event("internal_error", logging.ERROR, error=type(error).__name__)
                logger.error("internal_error", exc_info=error, extra={"fields": {"request_id": request_id}})
                if status:
                    raise
                await build_error(reply_to_internal_error(request_id))(scope, receive, send_with_id)
            finally:
                self._service.metrics.in_flight.dec()
                self._conclude(scope, record, status, span)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        with ExitStack() as stack:
            if scope["path"] not in OPEN_PATHS:
                self._service.keys.check(_read_header(scope, b"authorization"))
                if scope["method"] in {"POST", "DELETE"}:
                    stack.enter_context(self._service.slots.gateway.hold())
            await self._app(scope, receive, send)

    def _conclude(self, scope: Scope, record: RequestRecord, status: int, span: Span) -> None:
        seconds = time.perf_counter() - record.started
        # The route's template, never the path asked for: labels and logs stay bounded.
        route = str(getattr(scope.get("route"), "path", "unmatched"))
        self._service.metrics.requests.labels(route, str(status)).inc()
        self._service.metrics.request_seconds.labels(route).observe(seconds)
        _conclude_span(span, scope, route, status)
        if route not in OPEN_PATHS:
            log_event(
                "request",
                method=scope["method"] if scope["method"].isalpha() else "?",
                route=route,
                status=status,
                seconds=round(seconds, 6),
                **record.fields,
            )


@contextmanager
def _trace(scope: Scope, request_id: str) -> Iterator[Span]:
    """The span of a request, a child of the caller's where a header names one; probes have none."""
    if scope["path"] in OPEN_PATHS:
        yield INVALID_SPAN
        return
    parent = read_parent(_read_header(scope, b"traceparent"), _read_header(scope, b"tracestate"))
    with open_span("request", SpanKind.SERVER, parent) as span:
        span.set_attribute("guildhall.request_id", request_id)
        yield span


def _conclude_span(span: Span, scope: Scope, route: str, status: int) -> None:
    if not span.is_recording():
        return
    span.update_name(f"{scope['method']} {route}" if scope["method"].isalpha() else route)
    span.set_attributes({"http.route": route, "http.response.status_code": status})
    if status >= 500:
        mark_failed(span, str(status))


def _read_header(scope: Scope, name: bytes) -> str | None:
    for key, value in scope["headers"]:
        if key.lower() == name:
            text: str = value.decode("latin-1")
            return text
    return None


def build_json(body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response."""
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(content, status, dict(headers or {}), media_type="application/json")


def build_error(reply: ErrorReply) -> Response:
    """An error as a response."""
    return build_json(reply.body, reply.status, reply.headers)


class EventStream(Response):
    """Server-sent events; when the first frame is an ErrorReply, that error is the whole response.

    `frames` is closed however the response ends, so that a client that goes away stops the generation.
    """

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncIterator[ErrorReply | bytes]) -> None:
        super().__init__()
        self._frames = frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await finish_or_leave(receive, self._send_frames(scope, receive, send))

    async def _send_frames(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with closing_iterator(self._frames) as frames:
            started = False
            async for frame in frames:
                if isinstance(frame, ErrorReply):
                    await build_error(frame)(scope, receive, send)
                    return
                if not started:
                    await send({"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS})
                    started = True
                await send({"type": "http.response.body", "body": frame, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # Proxies such as nginx would else hold the stream back until their buffer is full.
    (b"x-accel-buffering", b"no"),
]


async def finish_or_leave(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of work; when the client goes away first, the work is cancelled and ClientDisconnect raised."""
    worker = asyncio.create_task(work)
    watcher = asyncio.create_task(_watch_disconnect(receive))
    try:
        await asyncio.wait({worker, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if worker.done():
            return worker.result()
        raise ClientDisconnect
    finally:
        worker.cancel()
        watcher.cancel()
        await asyncio.wait({worker, watcher})
        for task in (worker, watcher):
            if not task.cancelled():
                task.exception()


async def _watch_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def check_media_type(request: Request, *allowed: str) -> str:
    """The media type of a request; raises HTTPException (415) unless it is one of those allowed."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in allowed:
        observed = f"'{media_type[:60]}'" if media_type else "missing"
        wanted = " or ".join(f"'Content-Type: {name}'" for name in allowed)
        raise HTTPException(415, f"the content type is {observed}; send the header {wanted}")
    return media_type


async def read_json(request: Request, limit_kib: int) -> dict[str, Any]:
    """The JSON object of a request's body."""
    check_media_type(request, JSON)
    return parse_json_object(await read_body(request, limit_kib))


async def read_body(request: Request, limit_kib: int) -> bytes:
    """The body of a request; raises BodyTooLarge as soon as the limit is passed, whatever Content-Length said."""
    limit = limit_kib * 1024
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and len(declared) < 20 and int(declared) > limit:
        raise _too_large(declared, limit_kib)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for piece in request.stream():
                body += piece
                if len(body) > limit:
                    raise _too_large(f"more than {limit}", limit_kib)
    except TimeoutError:
        raise BadRequest(
            f"the body had {len(body)} bytes after {BODY_TIMEOUT_S} s and was not complete; send it faster"
        ) from None
    return bytes(body)


def _too_large(observed: str, limit_kib: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"the body has {observed} bytes, limit {limit_kib * 1024}; send less or raise gateway.max_body_kib"
    )

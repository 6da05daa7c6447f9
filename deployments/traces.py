"""Traces: one for each question, from the gateway through router, index and engine, with a span for each sub-query.

They are sent by OTLP over HTTP where OpenTelemetry's own variables name an endpoint; without one every span here is
empty. Attributes are names, counts and durations: never the text of a question or an answer.
"""

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from deployments.environment import read_environment
from deployments.expert_call import ExpertEvent, ExpertRequest, Failed, Finished, Retrieved, TextDelta

Attribute = str | int | float | bool

_TRACER = trace.get_tracer("guildhall")
# Where nothing is traced, OpenTelemetry's own empty span costs 27 µs on two busy cores, this one 4.
_NO_SPAN = nullcontext(trace.INVALID_SPAN)
_W3C = TraceContextTextMapPropagator()
_TRACEPARENT = "traceparent"


def configure_traces(service: str) -> None:
    """Send this process's spans where the environment says, under a service's name; without an endpoint do nothing.

    OpenTelemetry reads headers, time limits, sampler and service name from its own variables.
    """
    if read_environment().otlp_endpoint is None:
        return
    # 0.2 s of imports that only traces need.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = Resource({"service.name": service}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=named)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def open_span(
    name: str, kind: SpanKind = SpanKind.INTERNAL, parent: Context | None = None
) -> AbstractContextManager[Span]:
    """A span around a block of a coroutine; spans of tasks that it starts are its children.

    Not for generators, whose blocks run in whatever context asks for the next item. An exception is not recorded: its
    message may quote a question.
    """
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return _NO_SPAN
    return _TRACER.start_as_current_span(name, parent, kind, record_exception=False, set_status_on_exception=False)


def read_parent(traceparent: str | None, tracestate: str | None = None) -> Context | None:
    """The caller's span by the headers of W3C Trace Context; None where there is none or it is malformed."""
    if traceparent is None:
        return None
    carrier = {_TRACEPARENT: traceparent} | ({"tracestate": tracestate} if tracestate is not None else {})
    found = _W3C.extract(carrier)
    return found if trace.get_current_span(found).get_span_context().is_valid else None


def read_traceparent() -> str | None:
    """The current span, for the next process; None where nothing is traced."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier.get(_TRACEPARENT)


def mark_failed(span: Span, code: str) -> None:
    """Show a span as failed; `code` is from a fixed set."""
    span.set_attribute("error.type", code)
    span.set_status(Status(StatusCode.ERROR))


class AnswerSpans:
    """The spans of one answer in an expert's replica, told from its events as they pass."""

    def __init__(self, request: ExpertRequest) -> None:
        self._span: Span | None = None
        parent = read_parent(request.traceparent)
        if parent is None:
            return
        self._span = _TRACER.start_span(
            "expert.answer", parent, SpanKind.SERVER,
            {"guildhall.domain": request.domain, "guildhall.variant": request.variant},
        )  # fmt: skip
        self._began = time.time_ns()
        self._first_token: int | None = None

    def note(self, event: ExpertEvent) -> None:
        """Take an event into account, at the time at which it comes."""
        if self._span is None:
            return
        now = time.time_ns()
        if isinstance(event, Retrieved):
            version = event.citations[0].version if event.citations else ""
            found: dict[str, Attribute] = {
                "guildhall.passages": len(event.citations),
                "guildhall.index_version": version,
            }
            self._add("index.search", now - int(event.seconds * 1e9), now, found)
            self._began = now
        elif isinstance(event, TextDelta):
            self._first_token = self._first_token or now
        elif isinstance(event, Finished):
            generated: dict[str, Attribute] = {
                "gen_ai.usage.input_tokens": event.usage.prompt_tokens,
                "gen_ai.usage.output_tokens": event.usage.completion_tokens,
                "guildhall.finish_reason": event.finish_reason,
                "guildhall.time_to_first_token_s": ((self._first_token or now) - self._began) / 1e9,
            }
            self._add("engine.generate", self._began, now, generated)
        elif isinstance(event, Failed):
            mark_failed(self._span, event.failure.code)

    def close(self) -> None:
        """End the answer's span, however it ended."""
        if self._span is not None:
            self._span.end()

    def _add(self, name: str, began: int, ended: int, attributes: Mapping[str, Attribute]) -> None:
        assert self._span is not None
        child = _TRACER.start_span(name, trace.set_span_in_context(self._span), attributes=attributes, start_time=began)
        child.end(ended)

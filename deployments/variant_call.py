"""One variant asked once: within its domain's limit and the request's deadline, every failure as data."""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from deployments.chat_request import SamplingRequest
from deployments.expert_call import ExpertEvent, ExpertRequest, Experts, Failed, Finished, Retrieved, TextDelta
from deployments.gateway_metrics import GatewayMetrics, judge_slo
from deployments.http_errors import FailedPart, fail_part
from deployments.in_flight import InFlight
from deployments.logs import log_event, logger
from deployments.traces import read_traceparent
from deployments.variant_loads import VariantLoads
from experts.errors import DeadlineExceeded, ExpertUnavailable, GuildhallError
from experts.fleet import Domain
from router.question import Citation, SubQueryId, Turn, Usage, Vector
from router.variant import Budget, Quality

# A held answer over this is shown instead of scored: what waits in memory stays bounded. An answer of 256 tokens has
# about 1,000 characters.
MAX_HELD_CHARS = 65_536

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class FanOutRequest:
    """What all sub-queries of one question share; `deadline` is the event loop's time, `timeout_s` what it was set by.

    `variant` is the one that the request names; else each sub-query's is chosen for `quality`, None being the fleet's.
    """

    request_id: str
    sampling: SamplingRequest
    turns: tuple[Turn, ...]
    deadline: float
    timeout_s: float
    variant: str | None = None
    quality: Quality | Budget | None = None


class Reader(Protocol):
    """Who is shown an answer as it comes; `put_text` may wait until there is room."""

    def start(self, citations: tuple[Citation, ...]) -> None: ...

    async def put_text(self, text: str) -> None: ...


@dataclass(slots=True)
class VariantCall:
    """What has come of asking one variant: in the end `finished` or `failed` is set. A held call is shown to nobody."""

    domain: str
    variant: str
    held: bool = False
    citations: tuple[Citation, ...] = ()
    texts: list[str] = field(default_factory=list)
    chars: int = 0
    timings_s: dict[str, float] = field(default_factory=dict)
    finished: Finished | None = None
    failed: FailedPart | None = None

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def usage(self) -> Usage:
        return self.finished.usage if self.finished is not None else Usage()

    @property
    def name(self) -> str:
        return f"{self.domain}/{self.variant}"

    def time_per_output_token_s(self) -> float | None:
        """The mean over the tokens after the first; None where there are none."""
        later = self.usage.completion_tokens - 1
        if self.finished is None or later < 1 or "first_token" not in self.timings_s:
            return None
        return (self.timings_s["answer"] - self.timings_s["first_token"]) / later

    def cited(self) -> tuple[Citation, ...]:
        """The passages of the prompt by number; those that the answer cites have their text."""
        texts = {citation.number: citation for citation in self.finished.cited} if self.finished is not None else {}
        return tuple(texts.get(citation.number, citation) for citation in self.citations)


class VariantCaller:
    """Asks variants for one request."""

    def __init__(
        self,
        request: FanOutRequest,
        experts: Experts,
        domains: Mapping[str, Domain],
        slots: Mapping[str, InFlight],
        metrics: GatewayMetrics,
        loads: VariantLoads | None,
    ) -> None:
        self._request = request
        self._experts = experts
        self._domains = domains
        self._slots = slots
        self._metrics = metrics
        self._loads = loads

    async def ask(self, call: VariantCall, sub_query: SubQueryId, text: str, vector: Vector, reader: Reader) -> None:
        """Ask the call's variant to its end; what comes goes to `reader` at once unless the call is held."""
        started = time.perf_counter()
        result = await self.guard(call.domain, self._ask(call, sub_query, text, vector, reader))
        if isinstance(result, FailedPart):
            call.failed = result
        elif isinstance(result, Failed):
            param = result.param or ("messages" if result.status == 400 else None)
            call.failed = FailedPart(result.failure, result.status, param)
        else:
            call.finished = result
        call.timings_s["answer"] = time.perf_counter() - started
        if call.finished is not None and self._loads is not None:
            self._loads.note_answer(self._engine(call), call.timings_s["answer"])

    async def guard(self, domain: str, work: Awaitable[Item]) -> Item | FailedPart:
        """What `work` gives before the request's deadline, or its failure as data."""
        timeout = asyncio.timeout_at(self._request.deadline)
        try:
            async with timeout:
                return await work
        except GuildhallError as error:
            return fail_part(error)
        except Exception as error:  # noqa: BLE001 - an adapter's mistake costs one part, never the whole answer
            if isinstance(error, TimeoutError) and timeout.expired():
                return fail_part(
                    DeadlineExceeded(
                        f"domain '{domain}' did not finish within {self._request.timeout_s:g} s; "
                        "ask for less or raise gateway.answer_timeout_s"
                    )
                )
            return fail_unexpected(domain, error)

    async def _ask(
        self, call: VariantCall, sub_query: SubQueryId, text: str, vector: Vector, reader: Reader
    ) -> Finished | Failed:
        domain = self._domains[call.domain]
        request = ExpertRequest(
            # Unique per call, since an engine refuses an id that it is already serving.
            request_id=f"{self._request.request_id}.{sub_query}.{secrets.token_hex(4)}",
            domain=call.domain,
            variant=call.variant,
            text=text,
            vector=vector if domain.index is not None and vector.size else None,
            sampling=self._request.sampling.with_limit(domain.max_tokens),
            turns=choose_turns(self._request.turns, domain.history_turns),
            score=call.held,
            traceparent=read_traceparent(),
        )
        gauge = self._metrics.sub_queries_in_flight.labels(call.domain)
        with ExitStack() as held:
            held.enter_context(self._slots[call.domain].hold(gauge.set))
            if self._loads is not None:
                held.enter_context(self._loads.hold(self._engine(call)))
            sent = time.perf_counter()
            async with closing_iterator(self._experts.answer(request)) as events:
                async for event in events:
                    last = await self._take(call, event, sent, reader)
                    if last is not None:
                        return last
        raise ExpertUnavailable(
            f"expert '{call.domain}' stopped before the end of its answer; the request may be retried"
        )

    async def _take(
        self, call: VariantCall, event: ExpertEvent, sent: float, reader: Reader
    ) -> Finished | Failed | None:
        if isinstance(event, Retrieved):
            call.citations = event.citations
            call.timings_s["retrieve"] = event.seconds
            self._metrics.retrieval_seconds.labels(call.domain).observe(event.seconds)
            if not call.held:
                reader.start(event.citations)
        elif isinstance(event, TextDelta):
            if event.text:
                if "first_token" not in call.timings_s:
                    ttft_s = time.perf_counter() - sent
                    call.timings_s["first_token"] = ttft_s
                    self._metrics.ttft_seconds.labels(call.domain, call.variant).observe(ttft_s)
                call.texts.append(event.text)
                call.chars += len(event.text)
                if not call.held:
                    await reader.put_text(event.text)
                elif call.chars > MAX_HELD_CHARS:
                    await show_call(call, reader)
        else:
            return event
        return None

    def _engine(self, call: VariantCall) -> str:
        return self._domains[call.domain].variants[call.variant].engine

    def record(self, call: VariantCall, replaced: bool = False) -> None:
        """Count a call that has ended; `replaced` where the user reads another answer."""
        labels = (call.domain, call.variant)
        outcome = "failed" if call.failed is not None else "replaced" if replaced else "answered"
        self._metrics.sub_queries.labels(*labels, outcome).inc()
        self._metrics.sub_query_seconds.labels(*labels).observe(call.timings_s.get("answer", 0.0))
        self._metrics.prompt_tokens.labels(*labels).inc(call.usage.prompt_tokens)
        self._metrics.completion_tokens.labels(*labels).inc(call.usage.completion_tokens)
        tpot_s = call.time_per_output_token_s()
        if tpot_s is not None:
            self._metrics.tpot_seconds.labels(*labels).observe(tpot_s)
        # What the caller must change is no promise broken.
        if not replaced and not (call.failed is not None and call.failed.status == 400):
            slo = self._domains[call.domain].slo
            judged = judge_slo(slo, call.timings_s.get("first_token"), tpot_s, call.failed is not None)
            self._metrics.slo.labels(call.domain, judged).inc()
        log_event(
            "sub_query",
            domain=call.domain,
            variant=call.variant,
            outcome=outcome,
            code=call.failed.failure.code if call.failed is not None else None,
            timings_s={name: round(seconds, 6) for name, seconds in call.timings_s.items()},
            completion_tokens=call.usage.completion_tokens,
        )
        if call.failed is not None:
            self._metrics.failures.labels(call.domain, call.failed.failure.code).inc()


def fail_unexpected(domain: str, error: Exception) -> FailedPart:
    """A mistake of ours or of an adapter as a part's failure; the log names it, the user reads no inside."""
    log_event("sub_query_error", logging.ERROR, domain=domain, error=type(error).__name__)
    logger.debug("sub-query error", exc_info=error)
    return fail_part(ExpertUnavailable(f"expert '{domain}' could not be asked; the request may be retried"))


async def show_call(call: VariantCall, reader: Reader) -> None:
    """Show what a held call has; what comes after is shown as it comes."""
    if call.held:
        call.held = False
        if call.citations or call.texts:
            reader.start(call.citations)
        if call.texts:
            await reader.put_text(call.text)


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

"""What any `Experts` must do; run against the scripted fake here and against Ray Serve where that runs."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from deployments.expert_call import ExpertRequest, Experts, Failed, Finished, Retrieved, TextDelta


async def check_order_of_events(experts: Experts, request: ExpertRequest) -> None:
    """Retrieved first, then text, then Finished, and nothing after it."""
    events = [event async for event in experts.answer(request)]
    assert isinstance(events[0], Retrieved), events
    assert isinstance(events[-1], Finished), events
    assert events[1:-1], "an answer has text"
    assert all(isinstance(event, TextDelta) for event in events[1:-1]), events
    assert [citation.number for citation in events[0].citations] == list(range(1, len(events[0].citations) + 1))
    assert events[-1].usage.completion_tokens > 0
    assert events[-1].usage.completion_tokens <= request.sampling.max_tokens


async def check_scores_are_given_where_asked(experts: Experts, request: ExpertRequest) -> None:
    """Log-probabilities of the answer's tokens come where the request asks for a score, and only there."""
    for asked in (True, False):
        events = [event async for event in experts.answer(replace(request, score=asked))]
        last = events[-1]
        assert isinstance(last, Finished), events
        assert (last.logprob_mean is not None, last.logprob_min is not None) == (asked, asked), last
        if last.logprob_mean is not None and last.logprob_min is not None:
            assert last.logprob_min <= last.logprob_mean <= 0, last


async def check_failure_is_data(experts: Experts, request: ExpertRequest) -> None:
    """An expert that cannot answer ends its events with Failed and raises nothing."""
    events = [event async for event in experts.answer(request)]
    assert isinstance(events[-1], Failed), events
    assert events[-1].failure.message
    assert 400 <= events[-1].status < 600
    assert not any(isinstance(event, Finished | Failed) for event in events[:-1]), events


async def check_cancel_gives_back(
    experts: Experts, request: ExpertRequest, count_running: Callable[[], Awaitable[int]], timeout_s: float = 10
) -> None:
    """Leaving an answer half way, by closing it or by cancelling its reader, ends the generation."""
    answer = experts.answer(request)
    await anext(answer)
    close: Callable[[], Awaitable[None]] | None = getattr(answer, "aclose", None)
    assert close is not None, "answer() must give an iterator that can be closed"
    await close()
    await _wait_until_idle(count_running, timeout_s)

    async def read() -> None:
        async for _ in experts.answer(request):
            reading.set()

    reading = asyncio.Event()
    reader = asyncio.create_task(read())
    await asyncio.wait_for(reading.wait(), timeout_s)
    reader.cancel()
    await asyncio.wait({reader})
    await _wait_until_idle(count_running, timeout_s)


async def _wait_until_idle(count_running: Callable[[], Awaitable[int]], timeout_s: float) -> None:
    async with asyncio.timeout(timeout_s):
        while await count_running():  # noqa: ASYNC110 - a replica elsewhere has no event to wait for
            await asyncio.sleep(0.02)

"""Gathers the events of an answer into items worth sending."""

import asyncio
from collections.abc import AsyncGenerator, Callable

from deployments.expert_call import ExpertEvent, Retrieved, TextDelta

# A streamed item pays Serve's way (about 2 ms of processor time from replica to client), so text is gathered between
# items; Ray's own default is 50 ms. With many streams the interval grows, so that sending takes a third of a core at
# most, up to what a reader still sees as flowing. The first item goes out at once.
GATHER_S = 0.05
GATHER_PER_STREAM_S = 0.006
GATHER_MAX_S = 0.2


def choose_interval_s(streams: int) -> float:
    """Seconds between the items of one answer, when a replica sends as many."""
    return min(max(GATHER_S, GATHER_PER_STREAM_S * streams), GATHER_MAX_S)


async def gather_events(
    events: AsyncGenerator[ExpertEvent, None], choose_interval: Callable[[], float]
) -> AsyncGenerator[list[ExpertEvent], None]:
    """Items of all events that came within an interval; the first text goes out at once, so does the end.

    Closing this iterator closes `events` too, which ends the generation.
    """
    buffer: list[ExpertEvent] = []
    ready = asyncio.Event()

    async def read() -> None:
        async for event in events:
            buffer.append(event)
            ready.set()

    reading = asyncio.ensure_future(read())
    reading.add_done_callback(lambda _: ready.set())
    try:
        while True:
            await ready.wait()
            ready.clear()
            if not reading.done() and all(isinstance(event, Retrieved) for event in buffer):
                continue  # It goes with the first text: an item of its own would cost every answer 2 % of its time.
            batch = _merge_text(buffer)
            buffer.clear()
            if batch:
                yield batch
            if reading.done() and not buffer:
                reading.result()
                return
            if any(isinstance(event, TextDelta) for event in batch):
                await asyncio.wait((reading,), timeout=choose_interval())
    finally:
        if not reading.done():
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        await events.aclose()


def _merge_text(events: list[ExpertEvent]) -> list[ExpertEvent]:
    merged: list[ExpertEvent] = []
    for event in events:
        if isinstance(event, TextDelta) and merged and isinstance(merged[-1], TextDelta):
            merged[-1] = TextDelta(merged[-1].text + event.text)
        else:
            merged.append(event)
    return merged

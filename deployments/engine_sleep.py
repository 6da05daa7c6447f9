"""An engine that sleeps in place: it gives its GPU's memory back and takes it again with its next request."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any, Protocol

from deployments.engine_turn import EngineTurn
from deployments.logs import log_event
from experts.sleep_settings import Sleep


class SleepingEngine(Protocol):
    """What Ray's vLLM engine offers for it."""

    async def sleep(self, *, level: int) -> None: ...

    async def wakeup(self, *, tags: list[str] | None = None) -> None: ...

    async def collective_rpc(self, method: str) -> list[Any]: ...


class EngineSleep:
    """Whether one replica's engine sleeps; all on one event loop.

    Without `settings` it never does, which costs a request two additions.
    """

    def __init__(self, engine: SleepingEngine, settings: Sleep | None, turn: EngineTurn) -> None:
        self.asleep = False
        self.wakes = 0
        self.last_wake_s = 0.0
        """How long the last wake took, its turn waited for included."""
        self._engine = engine
        self._settings = settings
        self._turn = turn
        self._users = 0
        self._idle_since = time.monotonic()
        self._changing = asyncio.Lock()
        self._waking: asyncio.Task[None] | None = None
        self._watching = asyncio.create_task(self._watch(settings)) if settings is not None else None

    @asynccontextmanager
    async def awake(self) -> AsyncIterator[None]:
        """Keep the engine awake for the body of the `with`, waking it first.

        Raises Unavailable where its turn or its memory does not come; it then sleeps on.
        """
        self._users += 1
        try:
            if self.asleep:
                await self.wake()
            yield
        finally:
            self._users -= 1
            self._idle_since = time.monotonic()

    async def wake(self) -> None:
        """Wake the engine; all who ask at the same time wait for one wake, which outlives whoever is cancelled."""
        if self._waking is None or self._waking.done():
            self._waking = asyncio.create_task(self._wake())
        await asyncio.shield(self._waking)

    async def fall_asleep(self) -> bool:
        """Sleep now; False where it may not, or a request is under way."""
        async with self._changing:
            if self._settings is None or self._users:
                return False
            if not self.asleep:
                # First: a request that comes meanwhile waits for the wake, which waits for the end of this.
                self.asleep = True
                await self._engine.sleep(level=self._settings.level)
                log_event("engine_asleep", engine=self._turn.engine, level=self._settings.level)
            return True

    def close(self) -> None:
        """Stop looking whether the engine is idle."""
        if self._watching is not None:
            self._watching.cancel()

    async def _wake(self) -> None:
        async with self._changing:
            if not self.asleep or self._settings is None:
                return
            began = time.monotonic()
            with ExitStack() as stack:
                await asyncio.to_thread(stack.enter_context, self._turn.hold("wake"))
                if self._settings.level == 1:
                    await self._engine.wakeup()
                else:
                    # The weights' room first, then what belongs there, then the KV cache: vLLM's order for level 2.
                    await self._engine.wakeup(tags=["weights"])
                    await self._engine.collective_rpc("reload_weights")
                    await self._engine.wakeup(tags=["kv_cache"])
            self.asleep = False
            self._idle_since = time.monotonic()
            self.wakes += 1
            self.last_wake_s = time.monotonic() - began
            log_event("engine_awake", engine=self._turn.engine, seconds=round(self.last_wake_s, 3))

    async def _watch(self, settings: Sleep) -> None:
        while True:
            idle_s = 0.0 if self._users or self.asleep else time.monotonic() - self._idle_since
            if idle_s < settings.idle_sleep_s:
                await asyncio.sleep(settings.idle_sleep_s - idle_s)
                continue
            try:
                await self.fall_asleep()
            except Exception as error:  # noqa: BLE001 - the task's edge: the next request wakes whatever has happened
                log_event("engine_sleep_failed", logging.ERROR, engine=self._turn.engine, error=str(error))

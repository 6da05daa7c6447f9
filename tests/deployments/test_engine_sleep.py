"""An engine that sleeps in place is woken once for all who ask, in its turn, and never under a request."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.admission import GIB, StartNeed
from deployments import engine_turn
from deployments.engine_sleep import EngineSleep
from deployments.engine_turn import EngineTurn
from deployments.start_queue import StartQueue
from experts.errors import Unavailable
from experts.sleep_settings import Sleep


class FakeEngine:
    """Notes what it is told; each takes a moment, as the real one's does."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def sleep(self, level: int) -> None:
        await asyncio.sleep(0.01)
        self.told.append(f"sleep {level}")

    async def wakeup(self, tags: list[str] | None = None) -> None:
        await asyncio.sleep(0.01)
        self.told.append(f"wake {','.join(tags or ['all'])}")

    async def collective_rpc(self, method: str) -> list[Any]:
        self.told.append(method)
        return []


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_turn, "leave_note", lambda *_, **__: None)
    monkeypatch.setattr(engine_turn, "remove_note", lambda *_, **__: None)


def make_sleep(
    folder: Path, idle_sleep_s: float = 600.0, level: int = 1, free_gib: float = 10.0
) -> tuple[FakeEngine, EngineSleep]:
    engine = FakeEngine()
    turn = EngineTurn(
        "coder", StartQueue(folder), StartNeed("coder", "gpu", 8 * GIB), lambda _: [int(free_gib * GIB)], 0.0
    )
    return engine, EngineSleep(engine, Sleep.model_validate({"idle_sleep_s": idle_sleep_s, "level": level}), turn)


async def use(sleep: EngineSleep, seconds: float = 0.0) -> None:
    async with sleep.awake():
        assert not sleep.asleep
        await asyncio.sleep(seconds)


async def test_requests_that_come_together_wake_the_engine_once_and_all_are_answered(tmp_path: Path) -> None:
    engine, sleep = make_sleep(tmp_path)
    assert await sleep.fall_asleep()
    await asyncio.gather(*(use(sleep) for _ in range(8)))
    assert engine.told == ["sleep 1", "wake all"]
    assert (sleep.asleep, sleep.wakes) == (False, 1)
    assert sleep.last_wake_s > 0


async def test_engine_under_a_request_does_not_sleep(tmp_path: Path) -> None:
    engine, sleep = make_sleep(tmp_path)
    running = asyncio.create_task(use(sleep, 0.05))
    await asyncio.sleep(0.01)
    assert not await sleep.fall_asleep()
    await running
    assert await sleep.fall_asleep()
    assert engine.told == ["sleep 1"]


async def test_request_that_comes_while_the_engine_falls_asleep_wakes_it_after(tmp_path: Path) -> None:
    engine, sleep = make_sleep(tmp_path)
    falling = asyncio.create_task(sleep.fall_asleep())
    await asyncio.sleep(0.002)
    await use(sleep)
    assert await falling
    assert engine.told == ["sleep 1", "wake all"]


async def test_idle_engine_falls_asleep_by_itself_and_again_after_its_next_request(tmp_path: Path) -> None:
    engine, sleep = make_sleep(tmp_path, idle_sleep_s=0.03)
    ends = time.monotonic() + 10
    while engine.told != ["sleep 1"]:
        assert time.monotonic() < ends
        await asyncio.sleep(0.005)
    await use(sleep, 0.06)
    while engine.told != ["sleep 1", "wake all", "sleep 1"]:
        assert time.monotonic() < ends
        await asyncio.sleep(0.005)
    sleep.close()


async def test_level_two_loads_the_weights_before_the_cache_is_taken(tmp_path: Path) -> None:
    engine, sleep = make_sleep(tmp_path, level=2)
    await sleep.fall_asleep()
    await use(sleep)
    assert engine.told == ["sleep 2", "wake weights", "reload_weights", "wake kv_cache"]


async def test_wake_waits_for_its_turn_on_the_node(tmp_path: Path) -> None:
    engine, sleep = make_sleep(tmp_path)
    await sleep.fall_asleep()
    with StartQueue(tmp_path).hold("other", "start", time.monotonic() + 30):
        asking = asyncio.create_task(use(sleep))
        await asyncio.sleep(0.15)
        assert [ticket.engine for ticket in StartQueue(tmp_path).observe()] == ["other", "coder"]
        assert engine.told == ["sleep 1"]
    await asking
    assert engine.told == ["sleep 1", "wake all"]


async def test_caller_who_leaves_during_the_wake_leaves_it_to_the_others(tmp_path: Path) -> None:
    engine, sleep = make_sleep(tmp_path)
    await sleep.fall_asleep()
    leaving, staying = asyncio.create_task(use(sleep)), asyncio.create_task(use(sleep))
    await asyncio.sleep(0.002)
    leaving.cancel()
    await staying
    assert engine.told == ["sleep 1", "wake all"]
    assert await sleep.fall_asleep()


async def test_wake_without_room_says_what_is_needed_and_free_and_leaves_the_engine_asleep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_turn, "MEMORY_POLL_S", 0.01)
    engine, sleep = make_sleep(tmp_path, free_gib=2.0)
    await sleep.fall_asleep()
    with pytest.raises(Unavailable, match=r"'coder' cannot wake: it needs 8.00 GiB .* free GiB by GPU: 2.00.* lower"):
        await use(sleep)
    assert sleep.asleep
    assert engine.told == ["sleep 1"]
    assert StartQueue(tmp_path).observe() == ()

"""Engines of a node start one at a time, in order, and a dead one holds up nobody."""

import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from deployments.start_queue import StartQueue, Ticket
from experts.errors import Unavailable

ENOUGH_S = 30.0
HOLDER = """
import sys, time
from pathlib import Path
from deployments.start_queue import StartQueue
with StartQueue(Path(sys.argv[1])).hold(sys.argv[2], "start", time.monotonic() + 30):
    print("in", time.monotonic_ns(), flush=True)
    time.sleep(float(sys.argv[3]))
    print("out", time.monotonic_ns(), flush=True)
"""


def begin(folder: Path, engine: str, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), engine, str(seconds)], stdout=subprocess.PIPE, text=True
    )


def read_times(process: subprocess.Popen[str]) -> tuple[int, int]:
    output, _ = process.communicate(timeout=ENOUGH_S)
    entered, left = (int(line.split()[1]) for line in output.splitlines())
    return entered, left


def wait_for(queue: StartQueue, waiting: int) -> tuple[Ticket, ...]:
    ends = time.monotonic() + ENOUGH_S
    while len(queue.observe()) != waiting:
        assert time.monotonic() < ends, f"{queue.observe()} instead of {waiting}"
        time.sleep(0.005)
    return queue.observe()


def test_of_ten_processes_at_once_never_two_have_the_turn(tmp_path: Path) -> None:
    spans = sorted(read_times(process) for process in [begin(tmp_path, f"e{at}", 0.02) for at in range(10)])
    assert len(spans) == 10
    assert all(left <= entered for (_, left), (entered, _) in pairwise(spans))
    assert StartQueue(tmp_path).observe() == ()
    assert [path.name for path in tmp_path.iterdir() if "ticket" in path.name] == []


def test_turns_come_in_the_order_of_coming_and_each_is_told_who_is_ahead(tmp_path: Path) -> None:
    queue, entered = StartQueue(tmp_path), []
    told: dict[str, list[tuple[str, ...]]] = {}

    def wait(engine: str) -> None:
        seen = told.setdefault(engine, [])
        with queue.hold(
            engine, "wake", time.monotonic() + ENOUGH_S, lambda ahead: seen.append(tuple(t.engine for t in ahead))
        ):
            entered.append(engine)

    threads = [threading.Thread(target=wait, args=(f"e{at}",)) for at in range(6)]
    with queue.hold("first", "start", time.monotonic() + ENOUGH_S):
        for count, thread in enumerate(threads, start=2):
            thread.start()
            wait_for(queue, count)
        assert [ticket.engine for ticket in queue.observe()] == ["first", *(f"e{at}" for at in range(6))]
    for thread in threads:
        thread.join(ENOUGH_S)
    assert entered == [f"e{at}" for at in range(6)]
    assert told["e2"][0] == ("first", "e0", "e1")
    assert told["e2"][-1] == ()


def test_holder_killed_gives_its_turn_to_the_next_at_once(tmp_path: Path) -> None:
    holder = begin(tmp_path, "stuck", 600)
    assert holder.stdout is not None
    assert holder.stdout.readline().startswith("in")
    holder.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    with StartQueue(tmp_path).hold("next", "start", time.monotonic() + ENOUGH_S):
        assert time.monotonic() - killed < 2
        assert [ticket.engine for ticket in StartQueue(tmp_path).observe()] == ["next"]
    holder.wait(ENOUGH_S)


def test_waiting_one_killed_holds_up_nobody_behind_it(tmp_path: Path) -> None:
    queue = StartQueue(tmp_path)
    with queue.hold("first", "start", time.monotonic() + ENOUGH_S):
        second = begin(tmp_path, "second", 600)
        wait_for(queue, 2)
        third = begin(tmp_path, "third", 0)
        wait_for(queue, 3)
        second.send_signal(signal.SIGKILL)
        second.wait(ENOUGH_S)
        assert [ticket.engine for ticket in wait_for(queue, 2)] == ["first", "third"]
    assert len(read_times(third)) == 2


def test_turn_that_never_comes_is_an_error_that_names_who_has_it(tmp_path: Path) -> None:
    queue = StartQueue(tmp_path)
    with queue.hold("slow", "start", time.monotonic() + ENOUGH_S):
        with (
            pytest.raises(Unavailable, match=r"'late' waited for its turn to wake .* engine 'slow' \(process"),
            queue.hold("late", "wake", time.monotonic()),
        ):
            raise AssertionError("two have the turn")
        assert [ticket.engine for ticket in queue.observe()] == ["slow"]


def test_start_that_fails_frees_the_turn(tmp_path: Path) -> None:
    queue = StartQueue(tmp_path)
    with (
        pytest.raises(ValueError, match="No available memory"),
        queue.hold("broken", "start", time.monotonic() + ENOUGH_S),
    ):
        raise ValueError("No available memory for the cache blocks")
    with queue.hold("next", "start", time.monotonic()):
        assert len(queue.observe()) == 1

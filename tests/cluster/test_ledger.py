"""The ledger: whole values whatever happens to a writer, dead rows out within a second, one process per core."""

import multiprocessing
import os
import signal
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from cluster.core_slots import SLOTS_PER_CORE, CoreSlots
from cluster.ledger import STALE_S, Ledger
from cluster.ledger_layout import COPY_BYTES, HEADER, LAYOUT, ROWS, Entry, copy_offset, pack_entry, unpack_entry
from cluster.quotas import find_shortage
from experts.errors import ConfigurationError
from tests.cluster.engine_loads import MIB, make_load

FORK = multiprocessing.get_context("fork")


def make_entry(engine: str = "e", kv_mib: int | None = 64, **changes: Any) -> Entry:
    return Entry(make_load(engine=engine, **changes), kv_mib * MIB if kv_mib is not None else None, 2)


@contextmanager
def run_process(work: Callable[[], None]) -> Iterator[BaseProcess]:
    process = FORK.Process(target=work, daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def await_true(condition: Callable[[], object], timeout_s: float = 5.0) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s
        time.sleep(0.002)
    return time.monotonic() - began


def hold_row(path: Path, engine: str) -> Callable[[], None]:
    def work() -> None:
        row = Ledger.open(path).claim(make_entry(engine))
        while True:
            row.beat()
            time.sleep(0.02)

    return work


def test_what_is_written_is_read_by_everybody_in_the_order_of_claims(tmp_path: Path) -> None:
    writer, reader = Ledger.open(tmp_path / "l"), Ledger.open(tmp_path / "l")
    first = writer.claim(make_entry("first", oldest_at=1.5))
    writer.claim(make_entry("second", device="gpu0", quota_bytes=7))
    first.write(make_entry("first", claim=first.claim, running=3, ttft_s=0.125))
    cpu = reader.read("cpu")
    assert cpu.engines == (make_load(engine="first", claim=1, running=3, ttft_s=0.125),)
    assert (cpu.kv_bytes, cpu.cores) == (64 * MIB, 2)
    assert [(d.device, d.engines[0].engine, d.engines[0].claim) for d in reader.read_devices()] == [
        ("cpu", "first", 1),
        ("gpu0", "second", 2),
    ]


def test_a_copy_with_any_byte_changed_is_no_value() -> None:
    copy = pack_entry(3, make_entry("engine", claim=9, oldest_at=None))
    assert unpack_entry(copy.ljust(COPY_BYTES, b"\0")) == make_entry("engine", claim=9, oldest_at=None)
    for at in range(len(copy)):
        torn = bytearray(copy)
        torn[at] ^= 0x40
        assert unpack_entry(bytes(torn)) is None
    assert unpack_entry(bytes(COPY_BYTES)) is None


def test_a_writer_killed_in_the_middle_of_a_store_leaves_the_value_before(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "l")
    row = ledger.claim(make_entry("e", running=1))
    row.write(make_entry("e", claim=row.claim, running=2))
    with (tmp_path / "l").open("r+b") as file:
        file.seek(copy_offset(row.row, 3))
        file.write(pack_entry(3, make_entry("e", claim=row.claim, running=99))[:60])
    for reader in (ledger, Ledger.open(tmp_path / "l")):
        assert [engine.running for engine in reader.read("cpu").engines] == [2]


def test_readers_beside_a_busy_writer_see_only_values_that_were_written(tmp_path: Path) -> None:
    path = tmp_path / "l"

    def write() -> None:
        row = Ledger.open(path).claim(make_entry("w", running=0, waiting=0))
        number = 0
        while True:
            number += 1
            row.write(make_entry("w", claim=row.claim, running=number, waiting=number, used_bytes=number))
            row.beat()

    reader = Ledger.open(path)
    with run_process(write):
        await_true(lambda: reader.read("cpu").engines)
        last, seen = -1, set()
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            (load,) = reader.read("cpu").engines
            assert load.running == load.waiting == load.used_bytes
            assert load.running >= last
            last = load.running
            seen.add(last)
    assert len(seen) > 100


def test_a_killed_engine_is_out_within_a_second_and_its_row_is_claimed_anew(tmp_path: Path) -> None:
    path = tmp_path / "l"
    reader = Ledger.open(path)
    with run_process(hold_row(path, "dies")) as process:
        await_true(lambda: reader.read("cpu").engines)
        process.kill()
        assert await_true(lambda: not reader.read("cpu").engines) < 1.0
    again = reader.claim(make_entry("again"))
    assert (again.row, again.claim) == (0, 2)


def test_a_stopped_engine_keeps_its_row_because_it_keeps_its_memory(tmp_path: Path) -> None:
    path = tmp_path / "l"
    reader = Ledger.open(path)
    with run_process(hold_row(path, "stops")) as process:
        await_true(lambda: reader.read("cpu").engines)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(2 * STALE_S)
        assert [engine.engine for engine in reader.read("cpu").engines] == ["stops"]
        process.kill()
        await_true(lambda: not reader.read("cpu").engines)


def test_another_layout_is_refused_while_engines_use_it_and_replaced_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with run_process(hold_row(path, "old")):
        await_true(lambda: path.exists() and Ledger.open(path).read("cpu").engines)
        with path.open("r+b") as file:
            file.seek(8)
            file.write(struct.pack("=I", LAYOUT + 1))
        with pytest.raises(ConfigurationError, match=r"another layout than this Guildhall's .* stop them"):
            Ledger.open(path)
    ledger = Ledger.open(path)
    assert ledger.read_devices() == ()
    assert HEADER.unpack(path.read_bytes()[: HEADER.size])[1] == LAYOUT


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\0" * 100_000])
def test_a_file_that_is_no_ledger_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "l").write_bytes(content)
    Ledger.open(tmp_path / "l").claim(make_entry())


def test_a_full_table_says_so(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "l")
    rows = [ledger.claim(make_entry(f"e{at}")) for at in range(ROWS)]
    with pytest.raises(ConfigurationError, match=f"{ROWS} rows and {ROWS} living engines"):
        ledger.claim(make_entry("more"))
    ledger.release(rows[5])
    assert ledger.claim(make_entry("more")).row == 5


def test_the_strictest_settings_hold_for_a_device(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "l")
    ledger.claim(make_entry("a", kv_mib=None))
    assert ledger.read("cpu").kv_bytes is None
    ledger.claim(make_entry("b", kv_mib=64))
    ledger.claim(replace(make_entry("c", kv_mib=32), cores=1))
    assert (ledger.read("cpu").kv_bytes, ledger.read("cpu").cores) == (32 * MIB, 1)
    assert find_shortage(ledger.read("cpu")) == 0


def test_a_slot_has_one_holder_and_a_killed_holder_has_none(tmp_path: Path) -> None:
    path = tmp_path / "l"

    def hold_slot() -> None:
        slots = CoreSlots(Ledger.open(path).locks, 2)
        while not slots.take(1):
            time.sleep(0.001)
        time.sleep(60)

    slots = CoreSlots(Ledger.open(path).locks, 2)

    def is_taken() -> bool:
        taken = slots.take(2 * SLOTS_PER_CORE) < 2 * SLOTS_PER_CORE
        slots.give_back()
        return taken

    with run_process(hold_slot) as process:
        await_true(is_taken)
        assert slots.take(1) == 1
        slots.give_back()
        process.kill()
        assert await_true(lambda: not is_taken()) < 1.0


def test_two_that_look_at_a_dead_row_at_the_same_time_do_not_take_each_other_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "l"
    reader = Ledger.open(path)
    with run_process(hold_row(path, "dies")) as process:
        await_true(lambda: reader.read("cpu").engines)
        process.kill()
        process.join()

    def look() -> None:
        other = Ledger.open(path)
        while True:
            other.read("cpu")

    with run_process(look), run_process(look):
        await_true(lambda: not reader.read("cpu").engines)
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            assert reader.read("cpu").engines == ()

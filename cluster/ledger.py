"""The shared-memory table of a node: one row per engine and device, one writer per row, readers that never wait."""

import mmap
import os
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cluster.ledger_layout import (
    COPY_BYTES,
    HEAD,
    HEADER,
    HEARTBEAT,
    LAYOUT,
    LEDGER_BYTES,
    MAGIC,
    NUMBER,
    NUMBER_OFFSET,
    ROW_BYTES,
    ROWS,
    Entry,
    copy_offset,
    pack_entry,
    row_offset,
    unpack_entry,
)
from cluster.ledger_locks import LedgerLocks
from cluster.node_load import DeviceLoad
from experts.errors import ConfigurationError

# A heart that has not beaten for six beats belongs to an engine that is dead or stopped; its lock tells which.
STALE_S = 0.3
BEAT_S = 0.05
# Between two reads of a row whose writer overtook the reader: as long as a store takes.
_RETRIES = 100

Clock = Callable[[], float]


class Ledger:
    """The ledger of one node, as one process sees it.

    A row lives while its heart beats, or while the process that claimed it lives: a stopped engine keeps what it
    holds, a killed one is out `STALE_S` after its last beat. `clock` is monotonic and the same for all processes.
    """

    def __init__(self, path: Path, memory: mmap.mmap, locks: LedgerLocks, clock: Clock) -> None:
        self.path = path
        self.locks = locks
        self._memory = memory
        self._clock = clock
        self._own: set[int] = set()
        self._seen: dict[int, tuple[int, int, Entry]] = {}

    @classmethod
    def open(cls, path: Path, clock: Clock = time.monotonic) -> "Ledger":
        """The ledger at a path, made where there is none.

        Raises ConfigurationError where living engines use it with another layout.
        """
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        locks = LedgerLocks(_lock_file(path))
        with locks.hold_table():
            if not _fits(path):
                if not all(locks.is_row_free(row) for row in range(ROWS)):
                    raise ConfigurationError(
                        f"the ledger {path} has another layout than this Guildhall's ({LAYOUT}) and engines that use "
                        "it are running; stop them, then start this one"
                    )
                _make(path)
            memory = _map(path)
        return cls(path, memory, locks, clock)

    @staticmethod
    def remove(path: Path) -> bool:
        """Remove a ledger of which no living process has a row; False where one has.

        For a process that has opened none. The file of the locks stays: who waits for one and who comes later must
        have the same.
        """
        locks = LedgerLocks(_lock_file(path))
        with locks.hold_table():
            if not all(locks.is_row_free(row) for row in range(ROWS)):
                return False
            path.unlink(missing_ok=True)
        return True

    def claim(self, entry: Entry) -> "Row":
        """A fresh row with a claim of its own, which `entry` needs not have.

        Raises ConfigurationError where every row belongs to a living engine.
        """
        with self.locks.hold_table():
            row = next((row for row in range(ROWS) if not self._lives(row, self._clock()) and self._take(row)), None)
            if row is None:
                raise ConfigurationError(
                    f"the ledger {self.path} has {ROWS} rows and {ROWS} living engines; stop one or use another node"
                )
            *head, used, last = HEADER.unpack_from(self._memory)
            # Never `pack_into`: it clears the bytes first, and readers take no lock.
            self._memory[: HEADER.size] = HEADER.pack(*head, max(used, row + 1), last + 1)
            begin = row_offset(row)
            self._memory[begin : begin + ROW_BYTES] = bytes(ROW_BYTES)
            claimed = Row(self._memory, row, last + 1, self._clock)
            claimed.write(replace(entry, load=replace(entry.load, claim=last + 1)))
            self._memory[begin : begin + HEAD.size] = HEAD.pack(self._clock(), last + 1)
            return claimed

    def release(self, row: "Row") -> None:
        """Take a row out of the table: its engine ends."""
        with self.locks.hold_table():
            begin = row_offset(row.row)
            self._memory[begin : begin + ROW_BYTES] = bytes(ROW_BYTES)
            self._own.discard(row.row)
            self.locks.release_row(row.row)

    def read(self, device: str) -> DeviceLoad:
        """The living engines of one device; the strictest settings among them hold for all."""
        entries = sorted(
            (entry for entry in self._read_rows() if entry.load.device == device), key=lambda entry: entry.load.claim
        )
        limits = [entry.kv_bytes for entry in entries if entry.kv_bytes is not None]
        return DeviceLoad(
            device,
            min(limits) if limits else None,
            min((entry.cores for entry in entries), default=1),
            tuple(entry.load for entry in entries),
        )

    def read_settled(self, device: str) -> DeviceLoad:
        """The same while no quota is raised: rows are read one after another, and only then do their quotas add up.

        A quota that is lowered between two of the reads makes the sum too large otherwise, never too small.
        """
        with self.locks.hold_table():
            return self.read(device)

    def read_devices(self) -> tuple[DeviceLoad, ...]:
        """All devices that have living engines, by name."""
        return tuple(self.read(device) for device in sorted({entry.load.device for entry in self._read_rows()}))

    def _read_rows(self) -> Sequence[Entry]:
        now = self._clock()
        used = HEADER.unpack_from(self._memory)[4]
        return [entry for row in range(used) if self._lives(row, now) and (entry := self._read_row(row)) is not None]

    def _lives(self, row: int, now: float) -> bool:
        heartbeat, claim = HEAD.unpack_from(self._memory, row_offset(row))
        if not claim:
            return False
        return now - heartbeat <= STALE_S or row in self._own or not self.locks.is_row_free(row)

    def _read_row(self, row: int) -> Entry | None:
        """The latest whole value of a row; None where its engine ended meanwhile."""
        memory = self._memory
        for _ in range(_RETRIES):
            claim = HEAD.unpack_from(memory, row_offset(row))[1]
            numbers = [NUMBER.unpack_from(memory, copy_offset(row, parity) + NUMBER_OFFSET)[0] for parity in (0, 1)]
            for number in sorted(numbers, reverse=True):
                seen = self._seen.get(row)
                if seen is not None and seen[:2] == (claim, number):
                    return seen[2]
                begin = copy_offset(row, number)
                entry = unpack_entry(memory[begin : begin + COPY_BYTES])
                if entry is not None and entry.load.claim == claim:
                    self._seen[row] = (claim, number, entry)
                    return entry
            if not claim:
                return None
        raise RuntimeError(f"row {row} of the ledger {self.path} is damaged; restart the engine that holds it")

    def _take(self, row: int) -> bool:
        if not self.locks.try_row(row):
            return False
        self._own.add(row)
        return True


class Row:
    """One row, and the right to write it."""

    def __init__(self, memory: mmap.mmap, row: int, claim: int, clock: Clock) -> None:
        self.row = row
        self.claim = claim
        self._memory = memory
        self._clock = clock
        self._number = 0

    def write(self, entry: Entry) -> None:
        """Put a load into the row; one thread at a time."""
        self._number += 1
        copy = pack_entry(self._number, entry)
        begin = copy_offset(self.row, self._number)
        self._memory[begin : begin + len(copy)] = copy

    def beat(self) -> None:
        """Say that the engine lives."""
        begin = row_offset(self.row)
        self._memory[begin : begin + HEARTBEAT.size] = HEARTBEAT.pack(self._clock())


def _lock_file(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _fits(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            magic, layout, rows, row_bytes, *_ = HEADER.unpack(file.read(HEADER.size))
    except (OSError, struct.error):
        return False
    return (magic, layout, rows, row_bytes) == (MAGIC, LAYOUT, ROWS, ROW_BYTES) and path.stat().st_size == LEDGER_BYTES


def _make(path: Path) -> None:
    """A new file in the place of what was there, whole or not at all."""
    made = path.with_name(path.name + ".new")
    made.write_bytes(HEADER.pack(MAGIC, LAYOUT, ROWS, ROW_BYTES, 0, 0).ljust(LEDGER_BYTES, b"\0"))
    made.replace(path)


def _map(path: Path) -> mmap.mmap:
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return mmap.mmap(file, LEDGER_BYTES)
    finally:
        os.close(file)

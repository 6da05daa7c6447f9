"""The locks beside a ledger, which the kernel gives back when their holder dies: of the table, rows and core slots.

They are bytes of one file, held as POSIX record locks: no child inherits them. A process opens the file once, since
closing any of its descriptors gives back all of its locks.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from cluster.ledger_layout import ROWS

_TABLE = 0
_FIRST_ROW = 1
_FIRST_SLOT = 1 + ROWS


class LedgerLocks:
    """The locks of one ledger, as this process holds them."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Record locks are the process's: its threads need one of their own.
        self._threads = Lock()

    @contextmanager
    def hold_table(self) -> Iterator[None]:
        """The right to claim rows and to raise quotas; waits for it."""
        with self._threads:
            fcntl.lockf(self._file, fcntl.LOCK_EX, 1, _TABLE)
            try:
                yield
            finally:
                self._release(_TABLE)

    def try_table(self) -> bool:
        """Take the same right if it is free; `release_table` gives it back."""
        if not self._threads.acquire(blocking=False):
            return False
        if self._try(_TABLE):
            return True
        self._threads.release()
        return False

    def release_table(self) -> None:
        """Give back what `try_table` took."""
        self._release(_TABLE)
        self._threads.release()

    def try_row(self, row: int) -> bool:
        """Take a row for as long as this process lives; False where another living process has it."""
        return self._try(_FIRST_ROW + row)

    def is_row_free(self, row: int) -> bool:
        """Whether no living process has a row; not for a row of this process, which would lose it."""
        # Shared: two that ask at the same time must not take each other for the owner.
        if not self._try(_FIRST_ROW + row, fcntl.LOCK_SH):
            return False
        self._release(_FIRST_ROW + row)
        return True

    def release_row(self, row: int) -> None:
        """Give back a row."""
        self._release(_FIRST_ROW + row)

    def try_slot(self, slot: int) -> bool:
        """Take a slot for a step; False where another process has it."""
        return self._try(_FIRST_SLOT + slot)

    def release_slot(self, slot: int) -> None:
        """Give back a slot."""
        self._release(_FIRST_SLOT + slot)

    def _try(self, byte: int, kind: int = fcntl.LOCK_EX) -> bool:
        try:
            fcntl.lockf(self._file, kind | fcntl.LOCK_NB, 1, byte)
        except OSError:
            return False
        return True

    def _release(self, byte: int) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)

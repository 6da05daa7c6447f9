"""A log of lines in files that are only appended to, by several processes and nodes at once, bounded in bytes."""

import errno
import os
import platform
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MAX_LINE_BYTES = 65_536
_SEGMENT = re.compile(r"(?P<node>.+)-(?P<number>\d{6})\.jsonl")


@dataclass(slots=True)
class SegmentLog:
    """Segments NODE-NUMBER.jsonl in one folder, which only this user may enter.

    A line is one write to a file opened for appending, so that lines of several processes never mix; each node has
    files of its own, because network file systems do not promise that. A full segment is followed by the next number,
    and the oldest segments of all nodes go when together they pass `max_bytes`. With `is_durable` a line is on the
    disk when `append` returns. Safe to use from several threads.
    """

    folder: Path
    segment_bytes: int
    max_bytes: int
    is_durable: bool
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _file: int | None = None

    def append(self, line: bytes) -> None:
        """Write one line; raises OSError, after which the log is as readable as before, and ValueError over 64 KiB."""
        if len(line) > MAX_LINE_BYTES or b"\n" in line:
            raise ValueError(f"the line has {len(line)} bytes, limit {MAX_LINE_BYTES}, and may not contain a new line")
        with self._lock:
            file = self._open()
            written = os.write(file, line + b"\n")
            if written <= len(line):
                self._close()  # The next one to open the segment ends the torn line.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self.is_durable:
                os.fsync(file)

    def segments(self) -> list[Path]:
        """The segments of all nodes, the one written last first."""
        try:
            with os.scandir(self.folder) as entries:
                found = [(entry.stat().st_mtime_ns, entry.name) for entry in entries]
        except FileNotFoundError:
            return []
        return [self.folder / name for _, name in sorted(found, reverse=True) if _SEGMENT.fullmatch(name)]

    def find_last(self, needle: bytes) -> Iterator[bytes]:
        """The lines that contain `needle`, newest first within each segment."""
        for path in self.segments():
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue
            end = len(data)
            while (at := data.rfind(needle, 0, end)) >= 0:
                end = data.rfind(b"\n", 0, at) + 1
                stop = data.find(b"\n", at)
                yield data[end : stop if stop >= 0 else len(data)]

    def close(self) -> None:
        """Give the open file back; the log may be used again."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> int:
        """The segment to append to: the one that is open while it has room and nobody has removed it."""
        if self._file is not None:
            state = os.fstat(self._file)
            if state.st_size < self.segment_bytes and state.st_nlink:
                return self._file
            self._close()
        make_private_folder(self.folder)
        node = re.sub(r"[^A-Za-z0-9.]+", "_", platform.node()) or "node"
        own = [path for path in self.segments() if path.name.startswith(f"{node}-")]
        number = max((int(path.stem.rpartition("-")[2]) for path in own), default=0)
        path = self.folder / f"{node}-{number:06d}.jsonl"
        if number == 0 or path.stat().st_size >= self.segment_bytes:
            path = self.folder / f"{node}-{number + 1:06d}.jsonl"
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            os.write(self._file, b"\n")
        if self.is_durable:
            _sync_folder(self.folder)
        self._drop_oldest(path)
        return self._file

    def _drop_oldest(self, current: Path) -> None:
        kept = self.segment_bytes
        for path in self.segments():
            if path == current:
                continue
            try:
                kept += path.stat().st_size
                if kept > self.max_bytes:
                    path.unlink()
            except FileNotFoundError:
                continue


def make_private_folder(folder: Path) -> None:
    """A folder that only this user may enter; raises OSError where another user has made it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = folder.lstat()
    if folder.is_symlink() or state.st_uid != os.getuid():
        raise PermissionError(errno.EACCES, "the folder belongs to another user", str(folder))
    if state.st_mode & 0o077:
        folder.chmod(0o700)


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)

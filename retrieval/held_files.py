"""Files and folders of this machine: made durable, held by living processes, swept after dead ones.

Whoever writes or reads a folder holds it by `flock`, which the kernel gives back when the process dies.
"""

import errno
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from experts.errors import IndexUnavailable

# What the machine or a mount is short of now: it says nothing about a file.
_PASSING = {
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EAGAIN,
    errno.EINTR,
    errno.ETIMEDOUT,
    errno.ESTALE,
    errno.EHOSTDOWN,
}

# A file is aside for milliseconds, a folder until its owner lets go: both are given this long before they are swept.
_STALE_S = 60.0


class Aside:
    """A folder nobody else sees, held until it is closed; gone after that unless it was published."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self._held: int | None = os.open(path, os.O_RDONLY)
        fcntl.flock(self._held, fcntl.LOCK_EX)

    def close(self) -> None:
        """Let go. A version that was published and is not named by a commit may be removed from now on."""
        if self._held is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._held)
            self._held = None

    def __enter__(self) -> "Aside":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def raise_if_passing(path: object, error: OSError) -> None:
    """Raise IndexUnavailable for an error of reading a file that may be gone the next time."""
    if error.errno in _PASSING:
        raise IndexUnavailable(f"index file {path} cannot be read now: {error.strerror}; try again") from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # Some network file systems cannot sync a folder; the files in it are synced.
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file; its name is durable once its folder is synced."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def make_durable_folder(folder: Path) -> None:
    """Make a folder and its name durable."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        for parent in (folder.parent, folder.parent.parent):
            sync_folder(parent)


def sync_files(folder: Path) -> None:
    """Make everything in a folder durable."""
    for path in sorted(folder.rglob("*"), reverse=True):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    sync_folder(folder)


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Keep others from removing a folder; does not wait for whoever is writing it, and none need be there."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def remove_folder(folder: Path, aside: Path, is_unwanted: Callable[[], bool]) -> bool:
    """Remove a folder that nobody holds and that is unwanted still when nobody can come to hold it; whether it was."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not is_unwanted():
            return False
        aside.mkdir(parents=True, exist_ok=True)
        discarded = aside / uuid.uuid4().hex
        folder.rename(discarded)  # In one step: nobody sees it without some of its files.
        shutil.rmtree(discarded, ignore_errors=True)
    except OSError:  # Somebody holds it, or was faster.
        return False
    finally:
        os.close(descriptor)
    return True


def sweep_aside(aside: Path) -> None:
    """Remove what is old and held by nobody."""
    for path in list(aside.iterdir()) if aside.exists() else []:
        with suppress(OSError):  # Gone, or held.
            if time.time() - path.stat().st_mtime < _STALE_S:
                continue
            if path.is_dir():
                remove_folder(path, aside, lambda: True)
            else:
                path.unlink()


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Whether the lock was free; held until the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True

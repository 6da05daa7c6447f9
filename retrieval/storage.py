"""Where an index lies: a local folder, or any URL that fsspec knows with a cache folder on this node.

    <location>/log/         small immutable files, each created once and by one writer only
    <location>/versions/    folders of immutable files, each appearing whole
    <location>/aside/       what is being written (local folders; a remote index is written in the node's cache)

A process that dies leaves at most unreferenced files in `aside` and `versions`; `sweep` and `remove_version` take them
away once nobody holds them.
"""

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from experts.errors import ConfigurationError
from retrieval.held_files import (
    Aside,
    hold_folder,
    make_durable_folder,
    remove_folder,
    sweep_aside,
    sync_files,
    sync_folder,
    try_lock,
    write_durably,
)

LOG = "log"
VERSIONS = "versions"
ASIDE = "aside"


class Storage(Protocol):
    """What the log and the versions of one index need of the place where they lie.

    Names are relative, with `/`. Everything raises IndexUnavailable when the place does not answer.
    """

    location: str

    def create(self, name: str, data: bytes) -> bool:
        """Write a file durably and whole; False, and nothing written, when there is one of this name."""
        ...

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError."""
        ...

    def read_many(self, names: Sequence[str]) -> list[bytes]:
        """Raises FileNotFoundError when one is missing."""
        ...

    def exists(self, name: str) -> bool: ...

    def list(self, folder: str) -> list[str]:
        """The names in a folder, in no order; none for a folder that is not there."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is fine."""
        ...

    def start_aside(self) -> Aside:
        """A folder to build a version in."""
        ...

    def publish(self, aside: Aside, version: str) -> None:
        """Make the files in `aside` durable and give them the version's name; held until `aside` is closed."""
        ...

    @contextmanager
    def hold_version(self, version: str) -> Iterator[Path]:
        """The version's folder on this machine, which stays while it is held; its files may be missing or damaged."""
        ...

    def forget(self, version: str) -> bool:
        """Drop this node's copy of a version, which is pulled again when it is held next; False when it is no copy."""
        ...

    def remove_version(self, version: str, is_unwanted: Callable[[], bool]) -> bool:
        """Remove a version that nobody holds and that is unwanted still when nobody can come to hold it."""
        ...

    def sweep(self, kept: Sequence[str]) -> None:
        """Remove what dead processes left aside, and this node's copies of all but the versions kept."""
        ...

    @contextmanager
    def try_turn(self, name: str) -> Iterator[bool]:
        """Whether the caller is the only one on this machine inside; does not wait."""
        ...


def open_storage(location: str, cache: Path) -> Storage:
    """The storage at a path or URL; `cache` is this node's folder for copies of remote versions. Does no I/O."""
    if location.startswith("file://"):
        return LocalStorage(Path(location.removeprefix("file://")))
    if "://" in location:
        from retrieval.remote_storage import RemoteStorage

        return RemoteStorage(location, cache / hashlib.sha256(location.encode()).hexdigest()[:16])
    return LocalStorage(Path(location))


class LocalStorage:
    """A folder of this machine, or one that several machines mount."""

    def __init__(self, root: Path) -> None:
        self.location = str(root)
        self.root = root

    def create(self, name: str, data: bytes) -> bool:
        final = self.root / name
        try:
            return self._create(final, data)
        except OSError as error:
            raise ConfigurationError(
                f"index file {final} cannot be written: {error.strerror}; make room, make the folder writable or "
                f"choose another location, on a file system with hard links"
            ) from error

    def _create(self, final: Path, data: bytes) -> bool:
        while True:
            temporary = self.root / ASIDE / uuid.uuid4().hex
            try:
                write_durably(temporary, data)
                # A link, unlike a rename, fails when the name is taken, and appears with all its bytes.
                os.link(temporary, final)
                sync_folder(final.parent)
                return True
            except FileExistsError:
                return False
            except FileNotFoundError:
                # The first file of an index; or this process slept so long that its temporary file was swept.
                for folder in (temporary.parent, final.parent):
                    make_durable_folder(folder)
            finally:
                temporary.unlink(missing_ok=True)

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def read_many(self, names: Sequence[str]) -> list[bytes]:
        return [self.read(name) for name in names]

    def exists(self, name: str) -> bool:
        return os.path.exists(f"{self.location}/{name}")

    def list(self, folder: str) -> list[str]:
        try:
            return os.listdir(self.root / folder)
        except FileNotFoundError:
            return []

    def remove(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def start_aside(self) -> Aside:
        return Aside(self.root / ASIDE / uuid.uuid4().hex)

    def publish(self, aside: Aside, version: str) -> None:
        sync_files(aside.path)
        final = self.root / VERSIONS / version
        make_durable_folder(final.parent)
        aside.path.rename(final)
        sync_folder(final.parent)

    @contextmanager
    def hold_version(self, version: str) -> Iterator[Path]:
        folder = self.root / VERSIONS / version
        with hold_folder(folder):
            yield folder

    def forget(self, version: str) -> bool:
        return False

    def remove_version(self, version: str, is_unwanted: Callable[[], bool]) -> bool:
        return remove_folder(self.root / VERSIONS / version, self.root / ASIDE, is_unwanted)

    def sweep(self, kept: Sequence[str]) -> None:
        sweep_aside(self.root / ASIDE)

    @contextmanager
    def try_turn(self, name: str) -> Iterator[bool]:
        with try_lock(self.root / f"{name}.lock") as taken:
            yield taken

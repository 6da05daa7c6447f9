"""An index on any store that fsspec knows, with copies of its versions on this node."""

import fcntl
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from experts.errors import ConfigurationError, IndexUnavailable
from retrieval.held_files import Aside, hold_folder, remove_folder, sweep_aside, sync_files, try_lock
from retrieval.storage import ASIDE, VERSIONS

# Nobody can hold a remote folder, and uploading a large one takes a while.
_REMOTE_STALE = timedelta(days=1)


class RemoteStorage:
    """A URL of fsspec. Exclusive creation is the store's own conditional write (`mode="create"`)."""

    def __init__(self, location: str, cache: Path) -> None:
        self.location = location
        self._cache = cache
        self._opened: tuple[Any, str] | None = None

    def create(self, name: str, data: bytes) -> bool:
        fs, root = self._open()
        path = f"{root}/{name}"
        with self._reachable():
            try:
                try:
                    fs.pipe_file(path, data, mode="create")
                except FileNotFoundError:  # Object stores have no folders, others want them first.
                    fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
                    fs.pipe_file(path, data, mode="create")
            except FileExistsError:
                # A client that repeats a request whose answer was lost meets what it wrote itself.
                return bool(fs.cat_file(path) == data)
        return True

    def read(self, name: str) -> bytes:
        fs, root = self._open()
        with self._reachable():
            return bytes(fs.cat_file(f"{root}/{name}"))

    def read_many(self, names: Sequence[str]) -> list[bytes]:
        if not names:
            return []
        fs, root = self._open()
        with self._reachable():
            found = fs.cat([f"{root}/{name}" for name in names])
            if isinstance(found, bytes):  # One path gives its bytes, several a mapping.
                return [found]
            return [found[f"{root}/{name}"] for name in names]

    def exists(self, name: str) -> bool:
        fs, root = self._open()
        with self._reachable():
            return bool(fs.exists(f"{root}/{name}"))

    def list(self, folder: str) -> list[str]:
        fs, root = self._open()
        with self._reachable():
            try:
                return [path.rstrip("/").rsplit("/", 1)[-1] for path in fs.ls(f"{root}/{folder}", detail=False)]
            except FileNotFoundError:
                return []

    def remove(self, name: str) -> None:
        fs, root = self._open()
        with self._reachable(), suppress(FileNotFoundError):
            fs.rm_file(f"{root}/{name}")

    def start_aside(self) -> Aside:
        return Aside(self._cache / ASIDE / uuid.uuid4().hex)

    def publish(self, aside: Aside, version: str) -> None:
        fs, root = self._open()
        folder = f"{root}/{VERSIONS}/{version}"
        with self._reachable():
            for path in sorted(path for path in aside.path.rglob("*") if path.is_file()):
                target = f"{folder}/{path.relative_to(aside.path).as_posix()}"
                fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
                fs.put_file(str(path), target)

    @contextmanager
    def hold_version(self, version: str) -> Iterator[Path]:
        folder = self._cache / VERSIONS / version
        while True:
            is_there = self._pull(version, folder)
            with hold_folder(folder):
                if folder.exists() or not is_there:  # Else it was swept between the two.
                    yield folder
                    return

    def forget(self, version: str) -> bool:
        folder = self._cache / VERSIONS / version
        return remove_folder(folder, self._cache / ASIDE, lambda: True)

    def remove_version(self, version: str, is_unwanted: Callable[[], bool]) -> bool:
        fs, root = self._open()
        folder = f"{root}/{VERSIONS}/{version}"
        with self._reachable():
            try:
                newest = max((fs.modified(path) for path in fs.find(folder)), default=None)
            except NotImplementedError:
                return False
            if newest is None:
                return False
            aware = newest if newest.tzinfo is not None else newest.replace(tzinfo=UTC)
            if datetime.now(UTC) - aware < _REMOTE_STALE or not is_unwanted():
                return False
            fs.rm(folder, recursive=True)
        return True

    def sweep(self, kept: Sequence[str]) -> None:
        sweep_aside(self._cache / ASIDE)
        copies = self._cache / VERSIONS
        for folder in list(copies.iterdir()) if copies.exists() else []:
            if folder.is_dir() and folder.name not in kept:
                remove_folder(folder, self._cache / ASIDE, lambda: True)

    @contextmanager
    def try_turn(self, name: str) -> Iterator[bool]:
        self._cache.mkdir(parents=True, exist_ok=True)
        with try_lock(self._cache / f"{name}.lock") as taken:
            yield taken

    def _open(self) -> tuple[Any, str]:
        if self._opened is None:
            from fsspec.core import url_to_fs

            try:
                # A cached listing would hide what other writers create.
                fs, root = url_to_fs(self.location, use_listings_cache=False)
            except (ImportError, ValueError) as error:
                raise ConfigurationError(
                    f"index location {self.location} cannot be opened: {error}; install the fsspec package for it or "
                    f"choose another location"
                ) from error
            self._opened = fs, root.rstrip("/")
        return self._opened

    def _pull(self, version: str, folder: Path) -> bool:
        """Copy a version to this node, once: processes that want the same one wait for the first."""
        if folder.exists():
            return True
        folder.parent.mkdir(parents=True, exist_ok=True)
        fs, root = self._open()
        source = f"{root}/{VERSIONS}/{version}"
        with (folder.parent / f".{version}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return True
            with self.start_aside() as aside, self._reachable():
                try:
                    paths = fs.find(source)
                    for path in paths:
                        target = aside.path / path[path.index(f"{VERSIONS}/{version}/") :].split("/", 2)[2]
                        target.parent.mkdir(parents=True, exist_ok=True)
                        fs.get_file(path, str(target))
                except FileNotFoundError:  # Removed while it was pulled: there are newer ones.
                    return False
                if not paths:
                    return False
                sync_files(aside.path)
                aside.path.rename(folder)
        return True

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, FileExistsError, NotImplementedError, ConfigurationError):
            raise
        except Exception as error:
            # Every store has its own errors, which fsspec passes on as they are.
            raise IndexUnavailable(
                f"index location {self.location} does not answer: {type(error).__name__}: {error}; retry, and check "
                f"the address, the network and the credentials if it goes on"
            ) from error

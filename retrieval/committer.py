"""Extends the log of an index by one commit at a time, each prepared on the state that it follows."""

import logging
import threading
from datetime import UTC, datetime
from functools import partial

import numpy as np

from experts.errors import IndexDamaged, IndexUnavailable
from retrieval.commit_log import Commit, Published, Reason
from retrieval.embedding import Vectors
from retrieval.log_follower import LogFollower
from retrieval.passage import IndexedDocument
from retrieval.snapshot import Snapshot
from retrieval.storage import VERSIONS, Storage
from retrieval.version import check_encoder, empty_version

logger = logging.getLogger(__name__)

# Published versions that stay: the one that is served, and two to go back to.
VERSIONS_KEPT = 3


class Committer:
    """The log's end as one writer sees it. Safe to use from several threads."""

    def __init__(self, storage: Storage, encoder_fingerprint: str, dimensions: int) -> None:
        self._storage = storage
        self._encoder_fingerprint = encoder_fingerprint
        self._dimensions = dimensions
        self._follower = LogFollower(storage, fallback=empty_version(encoder_fingerprint, dimensions))
        self._lock = threading.RLock()

    def snapshot(self) -> Snapshot:
        """The index as it is written at this moment; the first call creates an index where there is none."""
        with self._lock:
            if self._follower.snapshot is None and not self._follower.log.numbers():
                self._follower.log.append(self._prepare(1, "start"))
            self._follower.follow()
            assert self._follower.snapshot is not None
            return self._follower.snapshot

    def writable_snapshot(self) -> Snapshot:
        """The same; raises IndexDamaged when commits cannot be read, EncoderMismatch for vectors of another encoder."""
        with self._lock:
            snapshot = self.snapshot()
            if self._follower.is_lost:
                raise IndexDamaged(
                    f"index at {self._storage.location} cannot be changed: {'; '.join(snapshot.damage[-3:])}; run "
                    f"`guildhall index build DOMAIN`, which keeps what can be read"
                )
        self.check_encoder(snapshot.label, snapshot.encoder_fingerprint)
        return snapshot

    def check_encoder(self, version: str, encoder_fingerprint: str) -> None:
        """Raise EncoderMismatch unless vectors are of this writer's encoder."""
        check_encoder(self._storage.location, version, encoder_fingerprint, self._encoder_fingerprint)

    def kept(self) -> tuple[Published, ...]:
        """The versions that are kept, the one published last first."""
        with self._lock:
            published = self._follower.published
            return published.kept if published is not None else ()

    def commits_since_version(self) -> int:
        """How many commits a process that opens the index applies."""
        with self._lock:
            kept, snapshot = self.kept(), self.snapshot()
            return snapshot.commit - (kept[0].through if kept else 1)

    def commit(
        self,
        prepared_on: Snapshot,
        reason: Reason,
        *,
        documents: tuple[IndexedDocument, ...] = (),
        vectors: Vectors | None = None,
        removed: tuple[str, ...] = (),
    ) -> bool:
        """Commit what was prepared on a snapshot; False when that is no longer the index."""
        with self._lock:
            commit = self._prepare(prepared_on.commit + 1, reason, documents, vectors, removed)
            return self._append(prepared_on, commit)

    def publish(self, prepared_on: Snapshot, reason: Reason, version: str, through: int | None = None) -> bool:
        """Commit that a version, which holds everything up to `through`, is current; without `through`, it alone is."""
        with self._lock:
            if self.snapshot() is not prepared_on:
                return False
            number = prepared_on.commit + 1
            published = Published(version, number, number if through is None else through, reason, _now())
            kept = (published, *(other for other in self.kept() if other.version != version))[:VERSIONS_KEPT]
            return self._append(prepared_on, self._prepare(number, reason, kept=kept))

    def is_overtaken(self, reason: Reason, through: int, newest: int) -> bool:
        """Whether a version that was written of everything up to `through` lacks what was published by `newest`."""
        for commit in self._follower.log.read_each(range(through + 1, newest + 1)):
            if not isinstance(commit, Commit):
                return True
            # What compacting publishes has the same documents as what it was made of.
            if commit.published is not None and (reason == "compact" or commit.reason != "compact"):
                return True
            if commit.documents and commit.encoder_fingerprint != self._encoder_fingerprint:
                return True
        return False

    def tidy(self) -> None:
        """Remove what no kept version needs; what fails is left to the next time."""
        kept = self.kept()
        try:
            if len(kept) == VERSIONS_KEPT:  # Before that, the first commits are what to fall back to.
                first = min(min(published.through + 1, published.number) for published in kept)
                self._follower.log.remove_before(first)
            for version in self._storage.list(VERSIONS):
                self._storage.remove_version(version, partial(self._is_unwanted, version))
            self._storage.sweep([published.version for published in kept])
        except (OSError, IndexUnavailable) as error:
            logger.warning("index at %s could not be tidied: %s", self._storage.location, error)

    def _is_unwanted(self, version: str) -> bool:
        self.snapshot()
        return all(published.version != version for published in self.kept())

    def _append(self, prepared_on: Snapshot, commit: Commit) -> bool:
        if self.snapshot() is not prepared_on:
            return False
        is_appended = self._follower.log.append(commit)
        self._follower.follow()
        return is_appended

    def _prepare(
        self,
        number: int,
        reason: Reason,
        documents: tuple[IndexedDocument, ...] = (),
        vectors: Vectors | None = None,
        removed: tuple[str, ...] = (),
        kept: tuple[Published, ...] = (),
    ) -> Commit:
        return Commit(
            number=number,
            reason=reason,
            created=_now(),
            encoder_fingerprint=self._encoder_fingerprint,
            dimensions=self._dimensions,
            kept=kept,
            removed=removed,
            documents=documents,
            vectors=np.zeros((0, self._dimensions), dtype=np.float32) if vectors is None else vectors,
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

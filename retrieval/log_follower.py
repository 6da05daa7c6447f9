"""Folds the log of an index into snapshots, and goes on where something is damaged.

A version that cannot be opened leaves the one before it as the base: commits are applied to that. A commit that cannot
be read ends what a reader serves, until a version is published that holds everything through it; a writer, which writes
that version, skips it.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from experts.errors import EncoderMismatch, IndexDamaged, IndexUnavailable
from retrieval.commit_log import Commit, CommitLog, Published
from retrieval.delta import Delta
from retrieval.snapshot import RowMasks, Snapshot
from retrieval.storage import Storage
from retrieval.version import OpenVersion, check_encoder, empty_version, open_version

logger = logging.getLogger(__name__)

# A follower that slept while its place in the log was removed sees no next commit; it looks this often.
_PLACE_CHECK_S = 1.0
# Another writer may remove the version that is being opened, having published three more; then there is a newer one.
_OPEN_ATTEMPTS = 5
_BLOCK = 64


class LogFollower:
    """The state of one index as far as its log was read. One thread at a time may call it."""

    def __init__(
        self, storage: Storage, encoder_fingerprint: str | None = None, fallback: OpenVersion | None = None
    ) -> None:
        """`fallback` is what a writer starts from where nothing can be opened, so that it can write anew."""
        self.log = CommitLog(storage)
        self.number = 0
        self.snapshot: Snapshot | None = None
        self.published: Commit | None = None
        """The last commit that publishes a version, whether that version can be used or not."""
        self.unread: tuple[int, ...] = ()
        """Commits that could not be read and that no published version makes up for."""
        self._storage = storage
        self._encoder_fingerprint = encoder_fingerprint
        self._fallback = fallback
        self._is_writer = fallback is not None
        self._damage: dict[int, str] = {}
        self._newest_seen = 0
        self._place_checked = 0.0
        self._waiting: list[Commit] = []
        self._opened_from: list[Commit] = []
        self._opening: Future[tuple[Commit, OpenVersion] | None] | None = None
        self._opener: ThreadPoolExecutor | None = None

    @property
    def damage(self) -> tuple[str, ...]:
        """What could not be used and still matters, in the order of the log."""
        return tuple(text for _, text in sorted(self._damage.items()))

    @property
    def is_lost(self) -> bool:
        """Whether acknowledged changes cannot be read, so that readers may not see what follows them."""
        is_empty = self.snapshot is not None and not self.snapshot.base.created
        return bool(self.unread) or (is_empty and self.published is not None)

    def follow(self, wait: bool = True) -> bool:
        """Read what is new in the log; whether the snapshot changed.

        Without `wait`, a published version is opened beside, and taken by a later call. Raises IndexDamaged or
        EncoderMismatch only while there is no snapshot.
        """
        before = self.snapshot
        if before is None:
            self._open()
            return True
        while not self._is_blocked():
            commit = self._read(self.number + 1)
            if commit is None:
                break
            self._apply(commit)
        if before.commit < self.number or before.damage != self.damage:
            self._freeze()
        was_blocked = self._is_blocked()
        if was_blocked:
            self._look_past_the_block()
        elif self.snapshot is before and time.monotonic() - self._place_checked > _PLACE_CHECK_S:
            self._place_checked = time.monotonic()
            if not self.log.has(self.number):
                logger.warning("the log of %s went on without this process; opening it again", self._storage.location)
                self._open()
        self._take_published(wait)
        if was_blocked and not self._is_blocked():
            self.follow(wait)
        return self.snapshot is not before

    def close(self) -> None:
        """End the thread that opens versions."""
        if self._opener is not None:
            self._opener.shutdown(wait=False, cancel_futures=True)
            self._opener = None

    def _open(self) -> None:
        for attempt in range(1, _OPEN_ATTEMPTS + 1):
            numbers = self.log.numbers()
            try:
                self._fold(numbers)
            except (IndexDamaged, EncoderMismatch):
                if attempt == _OPEN_ATTEMPTS or self.log.numbers() == numbers:
                    raise
            except _Trimmed:
                if attempt == _OPEN_ATTEMPTS:
                    raise IndexUnavailable(
                        f"the index at {self._storage.location} changes faster than it can be opened; try again"
                    ) from None
            else:
                return

    def _fold(self, numbers: list[int]) -> None:
        """Take the newest version that opens and apply what follows it."""
        if not numbers:
            raise IndexDamaged(
                f"there is no index at {self._storage.location}; run `guildhall index build DOMAIN` or `guildhall up`"
            )
        self._damage, self._waiting, self._opening, self.published, self.unread = {}, [], None, None, ()
        newest = numbers[-1]
        known: dict[int, Commit] = {}
        for number in range(newest, numbers[0] - 1, -1):
            if number not in known:
                # Going back in blocks: a remote store answers many requests at once as fast as one.
                block = range(max(1, number - _BLOCK + 1), number + 1)
                known |= self._read_block([each for each in block if each >= numbers[0]])
            commit = known.get(number)
            if commit is None:
                continue
            if commit.reason == "start":
                base = empty_version(commit.encoder_fingerprint, commit.dimensions)
                self._check_encoder(base)
                through = commit.number
                break
            if commit.published is not None:
                self.published = self.published or commit
                opened = self._open_version(commit)
                if opened is not None:
                    base, through = opened, commit.published.through
                    break
        else:
            if self._fallback is not None:
                self._rebase(self._fallback, numbers[0] - 1, newest, known)
                return
            raise IndexDamaged(
                f"nothing of the index at {self._storage.location} can be served: {'; '.join(self.damage[-3:])}; run "
                f"`guildhall index build DOMAIN`"
            )
        self._rebase(base, through, newest, known)

    def _rebase(self, base: OpenVersion, through: int, newest: int, known: Mapping[int, Commit]) -> bool:
        """Serve a version with the commits after `through`, up to `newest` or the first that cannot be read.

        False, and nothing changes, when that would take back what is served already.
        """
        wanted = range(through + 1, newest + 1)
        commits = {**known, **self._read_block([number for number in wanted if number not in known])}
        unread = tuple(number for number in wanted if number not in commits)
        if unread and not self._is_writer:
            newest = unread[0] - 1
            if self.snapshot is not None and newest < self.number:
                return False
        delta = Delta(base, searchable=not self._is_writer)
        for number in range(through + 1, newest + 1):
            if number in commits:
                delta.apply(commits[number])
        self._damage = {number: text for number, text in self._damage.items() if number > through}
        self._base, self._masks, self._delta = base, RowMasks(base), delta
        self.number, self.unread, self._newest_seen = newest, unread, wanted.stop - 1
        self._freeze()
        return True

    def _read_block(self, numbers: Sequence[int]) -> dict[int, Commit]:
        """Those of some commits that can be read; the others are noted."""
        found: dict[int, Commit] = {}
        for number, commit in zip(numbers, self.log.read_each(numbers), strict=True):
            if isinstance(commit, Commit):
                found[number] = commit
            elif commit is not None:
                self._note(number, str(commit))
            elif number < min(self.log.numbers(), default=0):
                raise _Trimmed
            else:
                self._note(number, f"commit {number} of the index at {self._storage.location} is missing")
        return found

    def _freeze(self) -> None:
        self.snapshot = Snapshot(self._base, self._masks, self._delta.freeze(), self.number, self.damage)

    def _read(self, number: int) -> Commit | None:
        """The next commit; a damaged one blocks a reader and is skipped by a writer."""
        while True:
            try:
                return self.log.read(number) if self.log.has(number) else None
            except IndexDamaged as error:
                self._note(number, str(error))
                self.unread = (*self.unread, number)
                if not self._is_writer:
                    return None
                self.number = number
                number += 1

    def _is_blocked(self) -> bool:
        return not self._is_writer and bool(self.unread)

    def _look_past_the_block(self) -> None:
        """Find a version that holds everything through the commits that could not be read."""
        numbers = self.log.numbers()
        newest = numbers[-1] if numbers else 0
        if newest <= self._newest_seen:
            return
        self._newest_seen = newest
        for commit in reversed(self.log.read_each(range(self.number + 1, newest + 1))):
            if isinstance(commit, Commit) and commit.published is not None:
                self.published = commit
                if commit.published.through >= self.unread[-1]:
                    self._waiting.append(commit)
                    return

    def _apply(self, commit: Commit) -> None:
        self._delta.apply(commit)
        self.number = commit.number
        if commit.published is not None:
            self.published = commit
            self._waiting.append(commit)

    def _take_published(self, wait: bool) -> None:
        if self._waiting and self._opening is None:
            self._opened_from, self._waiting = self._waiting, []
            if self._opener is None:
                self._opener = ThreadPoolExecutor(1, thread_name_prefix="index opener")
            self._opening = self._opener.submit(self._open_newest, self._opened_from)
        if self._opening is not None and (wait or self._opening.done()):
            opening, self._opening = self._opening, None
            try:
                self._take(opening.result())
            except IndexUnavailable:  # It is tried again by the next call.
                self._waiting = [*self._opened_from, *self._waiting]
                raise
            if wait:
                self._take_published(wait)

    def _open_newest(self, waiting: Sequence[Commit]) -> tuple[Commit, OpenVersion] | None:
        for commit in reversed(waiting):
            try:
                opened = self._open_version(commit)
            except EncoderMismatch as error:
                self._note(commit.number, str(error))
                continue
            if opened is not None:
                return commit, opened
        return None

    def _take(self, opened: tuple[Commit, OpenVersion] | None) -> None:
        if opened is not None:
            commit, base = opened
            published = commit.published
            assert published is not None
            before = self._damage
            self._damage = {number: text for number, text in before.items() if number > commit.number}
            try:
                if self._rebase(base, published.through, max(self.number, commit.number), {}):
                    self._drop_copies()
                    return
            except _Trimmed:  # Others published so often meanwhile that there is a newer version.
                self._open()
                return
            self._damage = {**before, **self._damage}
        self._freeze()  # With the damage in its status.

    def _drop_copies(self) -> None:
        """Remove this node's copies of versions that are kept no more."""
        assert self.published is not None
        try:
            self._storage.sweep([published.version for published in self.published.kept])
        except OSError as error:
            logger.warning("copies of the index at %s could not be removed: %s", self._storage.location, error)

    def _open_version(self, commit: Commit) -> OpenVersion | None:
        """The version that a commit publishes, None and a note when it is damaged; raises EncoderMismatch."""
        published = commit.published
        assert published is not None
        try:
            return self._open_checked(published)
        except IndexDamaged as error:
            observed = error
        if self._storage.forget(published.version):
            # This node's copy may be what is damaged: it is pulled again.
            try:
                return self._open_checked(published)
            except IndexDamaged as error:
                observed = error
        self._note(commit.number, str(observed))
        return None

    def _open_checked(self, published: Published) -> OpenVersion:
        with self._storage.hold_version(published.version) as folder:
            version = open_version(folder, published.version)
            self._check_encoder(version)
            if self._is_writer:
                version.open_documents()
            else:
                version.open_search()
        return version

    def _check_encoder(self, version: OpenVersion) -> None:
        if self._encoder_fingerprint is not None:
            location, found = self._storage.location, version.encoder_fingerprint
            check_encoder(location, version.name, found, self._encoder_fingerprint)

    def _note(self, number: int, text: str) -> None:
        if self._damage.get(number) != text:
            self._damage[number] = text
            logger.error("%s; the last good state goes on being served", text)


class _Trimmed(Exception):
    """The log was cut while it was read: newer versions have what is gone."""

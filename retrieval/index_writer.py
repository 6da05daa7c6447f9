"""Writes an index: each call is one durable commit, or none. Any number of processes may write the same index.

Writers are optimistic: a commit is prepared on the state that was read and created under the next number, which fails
when somebody else was first; then it is prepared again. A writer that dies leaves the index as its last commit made it.
"""

import errno
import itertools
import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experts.errors import ConfigurationError, IndexDamaged, IndexUnavailable
from retrieval.commit_log import Published, Reason
from retrieval.committer import Committer
from retrieval.embedding import Embed, OnProgress, Vectors, digest_text, embed_texts
from retrieval.passage import DocumentRecord, IndexedDocument, Origin, searched_text
from retrieval.snapshot import Snapshot
from retrieval.storage import VERSIONS, Storage
from retrieval.version import MANIFEST_FILE, OpenVersion, open_version, parse_manifest
from retrieval.version_source import Tally, VersionSource, complete_document, is_unchanged
from retrieval.version_writer import VersionWriter

logger = logging.getLogger(__name__)

# An add of more passages than this writes a version instead of a delta that every reader holds in memory.
ADD_PASSAGES = 4096
# The delta is compared vector by vector, 0.08 ms per thousand passages of 384 dimensions; rewriting a version takes the
# longer the larger it is. See benchmarks/results/index_stress.json.
DELTA_PASSAGES = 4096
DELTA_PASSAGES_MOST = 16_384
DELTA_SHARE = 0.05
# Whoever opens the index reads the commits since its version one by one.
DELTA_COMMITS = 4096
# Rewriting a version again because the index was published anew meanwhile.
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Change:
    """What a call did, counted in documents; `label` names the state in which it is done.

    `passages` counts those of added and replaced documents, `embedded` the texts that were embedded. `missing` are ids
    to remove that were not there, `repeated` ids given twice, of which the first counts.
    """

    label: str
    changed: bool
    added: int = 0
    replaced: int = 0
    removed: int = 0
    unchanged: int = 0
    passages: int = 0
    embedded: int = 0
    missing: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """A version that is kept; `published` is the commit that made it current last, `damage` why it cannot be used."""

    name: str
    created: str
    documents: int
    passages: int
    encoder_fingerprint: str
    published: int
    reason: Reason
    is_current: bool
    damage: str | None


class IndexWriter:
    """Writes one index with one encoder. Safe to use from several threads; embedding is done outside its lock.

    The first write creates the index. Every method raises IndexUnavailable when the storage does not answer; all but
    `build` raise EncoderMismatch when the index has vectors of another encoder, and IndexDamaged when commits cannot be
    read: `build` writes a version of what can be, and of the corpus.
    """

    def __init__(self, storage: Storage, encoder_fingerprint: str, dimensions: int) -> None:
        self._storage = storage
        self._encoder_fingerprint = encoder_fingerprint
        self._dimensions = dimensions
        self._committer = Committer(storage, encoder_fingerprint, dimensions)

    def snapshot(self) -> Snapshot:
        """The index as it is written at this moment; the first call creates an index where there is none."""
        return self._committer.snapshot()

    def add(self, documents: Iterable[IndexedDocument], embed: Embed, on_progress: OnProgress | None = None) -> Change:
        """Add documents, or replace those of the same ids; all of them or none.

        Raises ConfigurationError for an id that a document of the corpus has.
        """
        given: dict[str, IndexedDocument] = {}
        repeated: list[str] = []
        passages = 0
        stream = iter(documents)
        for document in stream:
            if document.id in given:
                repeated.append(document.id)
                continue
            given[document.id] = complete_document(document)
            passages += len(document.passages)
            if passages > ADD_PASSAGES:
                everything = itertools.chain(given.values(), stream)
                return self._rewrite("add", everything, "added", lambda record: True, embed, on_progress)
        vectors: dict[bytes, Vectors] = {}
        while True:
            snapshot = self._committer.writable_snapshot()
            known = {id_: self._find_added(snapshot, id_) for id_ in given}
            wanted = tuple(
                document
                for document in given.values()
                if (record := known[document.id]) is None
                or not is_unchanged(record, snapshot.passages_of(document.id), document)
            )
            if wanted:
                self._embed_missing(wanted, vectors, embed, on_progress)
                rows = [vectors[digest_text(searched_text(each))] for one in wanted for each in one.passages]
                stacked = np.array(rows, dtype=np.float32).reshape(-1, self._dimensions)
            if not wanted or self._committer.commit(snapshot, "add", documents=wanted, vectors=stacked):
                replaced = sum(known[document.id] is not None for document in wanted)
                return Change(
                    self._label(),
                    changed=bool(wanted),
                    added=len(wanted) - replaced,
                    replaced=replaced,
                    unchanged=len(given) - len(wanted),
                    passages=sum(len(document.passages) for document in wanted),
                    embedded=len(vectors),
                    repeated=tuple(repeated),
                )

    def remove(self, ids: Sequence[str]) -> Change:
        """Remove documents that were added; raises ConfigurationError for one of the corpus, and removes none then."""
        while True:
            snapshot = self._committer.writable_snapshot()
            found = {id_: self._find_added(snapshot, id_) for id_ in ids}
            present = tuple(id_ for id_, record in found.items() if record is not None)
            if not present or self._committer.commit(snapshot, "remove", removed=present):
                missing = tuple(id_ for id_, record in found.items() if record is None)
                return Change(self._label(), changed=bool(present), removed=len(present), missing=missing)

    def build(
        self, documents: Iterable[IndexedDocument], embed: Embed, on_progress: OnProgress | None = None
    ) -> Change:
        """Make these documents the corpus: they replace all that it was before, and added documents stay.

        Texts that are as they were are not embedded again, nothing is written when nothing changed. Damage is mended:
        the new version holds all that can be read.
        """
        return self._rewrite("build", documents, "corpus", _is_added, embed, on_progress)

    def compact(self) -> Change | None:
        """Write the delta and its version into a new version; nothing is embedded again.

        None when there is nothing to do, or when somebody else does it or published another version meanwhile.
        """
        with self._storage.try_turn("compact") as is_mine:
            if not is_mine:
                return None
            snapshot = self._committer.writable_snapshot()
            if not snapshot.delta.documents:
                return None
            try:
                return self._rewrite("compact", (), "added", lambda record: True, None, None)
            except _Overtaken:
                return None

    def compact_if_due(self) -> Change | None:
        """Compact when the delta is so large that it costs searches or opening more than it should."""
        return self.compact() if self.is_compaction_due() else None

    def is_compaction_due(self) -> bool:
        """Whether `compact_if_due` would compact; cheap."""
        snapshot = self.snapshot()
        delta = snapshot.delta.count + snapshot.base.passages - snapshot.delta.base_alive_count
        limit = min(max(DELTA_PASSAGES, int(DELTA_SHARE * snapshot.base.passages)), DELTA_PASSAGES_MOST)
        return delta > limit or self._committer.commits_since_version() > DELTA_COMMITS

    def rollback(self, version: str) -> Change:
        """Serve a kept version again, as it was when it was written: what was added after it is gone.

        Raises ConfigurationError for a version that is not kept, IndexDamaged for one that is not whole.
        """
        while True:
            snapshot = self.snapshot()
            kept = {published.version: published for published in self._committer.kept()}
            if version not in kept:
                raise ConfigurationError(
                    f"index at {self._storage.location} keeps no version '{version}'; choose one of "
                    f"{', '.join(kept) or 'none'}"
                )
            with self._storage.hold_version(version) as folder:
                opened = open_version(folder, version)
                opened.open_search()
                opened.check_vectors()
            self._committer.check_encoder(opened.name, opened.encoder_fingerprint)
            if self._committer.publish(snapshot, "rollback", version):
                self._committer.tidy()
                return Change(self._label(), changed=True)

    def versions(self) -> tuple[VersionRecord, ...]:
        """The versions that are kept, the current one first."""
        current = self.snapshot().base.name
        return tuple(self._describe(published, published.version == current) for published in self._committer.kept())

    def _rewrite(
        self,
        reason: Reason,
        documents: Iterable[IndexedDocument],
        origin: Origin,
        keeps: Callable[[DocumentRecord], bool],
        embed: Embed | None,
        on_progress: OnProgress | None,
    ) -> Change:
        """Write a version of given documents and those that are kept, and publish it."""
        total = sum(len(document.passages) for document in documents) if isinstance(documents, Sequence) else None
        written: OpenVersion | None = None
        given: set[str] = set()
        tally, repeated = Tally(), list[str]()
        with ExitStack() as asides, self._told_when_full():
            # Asides are held until the version is named by a commit, so that nobody sweeps it.
            for _ in range(_ATTEMPTS):
                snapshot = self.snapshot() if reason == "build" else self._committer.writable_snapshot()
                through = snapshot.commit
                aside = asides.enter_context(self._storage.start_aside())
                name = uuid.uuid4().hex[:12]
                with VersionWriter(aside.path, name, self._encoder_fingerprint, self._dimensions) as writer:
                    source = VersionSource(
                        writer,
                        snapshot,
                        self._encoder_fingerprint,
                        self._dimensions,
                        embed,
                        lambda done: on_progress(done, total) if on_progress is not None else None,
                    )
                    if written is None:
                        source.take_given(self._checked(documents, snapshot, origin), origin)
                        given, repeated, tally = source.given, source.repeated, source.tally
                    else:  # The documents went by once: they and their vectors are in the version written before.
                        source.take_written(written, given)
                    tally.removed = source.count_removed(keeps)
                    if reason != "compact" and not tally.changed and self._is_sound(snapshot):
                        self._committer.tidy()
                        return self._change(tally, repeated, changed=False)
                    source.take_kept(keeps)
                    writer.finish()
                self._storage.publish(aside, name)
                if self._publish(reason, name, through):
                    self._committer.tidy()
                    return self._change(tally, repeated, changed=True)
                if reason == "compact":
                    raise _Overtaken
                with self._storage.hold_version(name) as folder:
                    written = open_version(folder, name)
                    written.open_documents()
                    written.check_vectors()
        raise IndexUnavailable(
            f"index at {self._storage.location} was published {_ATTEMPTS} times by others while a version was written; "
            f"try again"
        )

    @contextmanager
    def _told_when_full(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise ConfigurationError(
                f"a version of the index at {self._storage.location} cannot be written: {error.strerror}; make room, "
                f"the version before goes on being served"
            ) from error

    def _publish(self, reason: Reason, version: str, through: int) -> bool:
        """Name a version by a commit; False when it lacks what was published meanwhile."""
        while True:
            snapshot = self.snapshot()
            if self._committer.is_overtaken(reason, through, snapshot.commit):
                return False
            if self._committer.publish(snapshot, reason, version, through):
                return True

    def _is_sound(self, snapshot: Snapshot) -> bool:
        """Whether the version that is current can stay; reads all that is searched."""
        if snapshot.damage or not snapshot.base.created or snapshot.encoder_fingerprint != self._encoder_fingerprint:
            return False
        try:
            snapshot.base.check_search()
        except IndexDamaged as error:
            logger.error("%s; a new one is written", error)
            return False
        return True

    def _checked(
        self, documents: Iterable[IndexedDocument], snapshot: Snapshot, origin: Origin
    ) -> Iterable[IndexedDocument]:
        for document in documents:
            if origin == "added":
                self._find_added(snapshot, document.id)
            yield document

    def _find_added(self, snapshot: Snapshot, document: str) -> DocumentRecord | None:
        record = snapshot.find(document)
        if record is not None and record.origin == "corpus":
            raise ConfigurationError(
                f"document '{document}' is of the domain's corpus; change or remove it there, then run `guildhall "
                f"index build DOMAIN`"
            )
        return record

    def _embed_missing(
        self,
        documents: Iterable[IndexedDocument],
        vectors: dict[bytes, Vectors],
        embed: Embed,
        on_progress: OnProgress | None,
    ) -> None:
        texts = {digest_text(text): text for document in documents for text in map(searched_text, document.passages)}
        missing = {digest: text for digest, text in texts.items() if digest not in vectors}
        for batch, embedded in embed_texts(missing, embed, self._dimensions):
            vectors |= zip(batch, embedded, strict=True)
            if on_progress is not None:
                on_progress(len(vectors), len(texts))

    def _describe(self, published: Published, is_current: bool) -> VersionRecord:
        name = f"{VERSIONS}/{published.version}/{MANIFEST_FILE}"
        documents, passages, encoder_fingerprint, damage = 0, 0, "", None
        try:
            manifest = parse_manifest(Path(name), self._storage.read(name), published.version)
            documents, passages = manifest.documents, manifest.passages
            encoder_fingerprint = manifest.encoder_fingerprint
        except (OSError, IndexDamaged) as error:
            damage = str(error)
        return VersionRecord(
            name=published.version,
            created=published.created,
            documents=documents,
            passages=passages,
            encoder_fingerprint=encoder_fingerprint,
            published=published.number,
            reason=published.reason,
            is_current=is_current,
            damage=damage,
        )

    def _change(self, tally: Tally, repeated: Sequence[str], changed: bool) -> Change:
        return Change(
            self._label(),
            changed,
            added=tally.added,
            replaced=tally.replaced,
            removed=tally.removed,
            unchanged=tally.unchanged,
            passages=tally.passages,
            embedded=tally.embedded,
            repeated=tuple(repeated),
        )

    def _label(self) -> str:
        return self.snapshot().label


class _Overtaken(Exception):
    """A version was published while this one was compacted."""


def _is_added(record: DocumentRecord) -> bool:
    return record.origin == "added"

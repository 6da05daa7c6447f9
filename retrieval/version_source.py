"""Where the documents of a new version come from: given ones, embedded where that is needed, and those that stay."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from experts.errors import ConfigurationError, IndexDamaged
from retrieval.embedding import EMBED_BATCH, Embed, Vectors, digest_text, embed_texts
from retrieval.passage import DocumentRecord, IndexedDocument, Origin, Passage, searched_text
from retrieval.snapshot import Snapshot
from retrieval.version import OpenVersion, StoredDocument
from retrieval.version_writer import VersionWriter

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Tally:
    """What a write did, counted in documents, `passages` of those added and replaced, and `embedded` texts."""

    added: int = 0
    replaced: int = 0
    removed: int = 0
    unchanged: int = 0
    passages: int = 0
    embedded: int = 0

    @property
    def changed(self) -> bool:
        """Whether anything is not as it was."""
        return bool(self.added or self.replaced or self.removed)


@dataclass(frozen=True, slots=True)
class _Pending:
    """A document that waits for vectors; each is there already or named by the digest of its text."""

    record: DocumentRecord
    passages: tuple[Passage, ...]
    vectors: list[Vectors | bytes]


class VersionSource:
    """Feeds one VersionWriter from a snapshot and given documents.

    Nothing is written before the first document that differs from the snapshot's: mostly there is none.
    """

    def __init__(
        self,
        writer: VersionWriter,
        snapshot: Snapshot,
        encoder_fingerprint: str,
        dimensions: int,
        embed: Embed | None,
        on_progress: Callable[[int], None],
    ) -> None:
        self.tally = Tally()
        self.given: set[str] = set()
        self.repeated: list[str] = []
        self._writer = writer
        self._snapshot = snapshot
        self._dimensions = dimensions
        self._embed = embed
        self._on_progress = on_progress
        self._same_encoder = snapshot.encoder_fingerprint == encoder_fingerprint
        self._base_vectors = self._same_encoder and self._check_base_vectors()
        self._pending: list[_Pending] = []
        self._wanted: dict[bytes, str] = {}
        self._embedded_rows: dict[bytes, int] = {}
        self._has_begun = False
        self._compared = 0

    def take_given(self, documents: Iterable[IndexedDocument], origin: Origin) -> None:
        """Write documents; of an id given twice, the first."""
        for given in documents:
            if given.id in self.given:
                self.repeated.append(given.id)
                continue
            document = complete_document(given)
            stored = self._snapshot.locate(document.id)
            passages = self._snapshot.read_passages(stored) if stored is not None else ()
            is_same = (
                stored is not None
                and stored.record.origin == origin
                and is_unchanged(stored.record, passages, document)
            )
            self.tally.added += stored is None
            self.tally.unchanged += is_same
            self.tally.replaced += stored is not None and not is_same
            self.tally.passages += 0 if is_same else len(document.passages)
            if is_same and not self._has_begun:
                self._compared += len(document.passages)
                if self.tally.unchanged % EMBED_BATCH == 0:
                    self._tell(0)
            else:
                self._begin()
                self._queue(
                    DocumentRecord(document.id, document.fingerprint, origin, len(document.passages)),
                    document.passages,
                    self._known_vectors(stored, passages) if stored is not None else {},
                )
            self.given.add(document.id)
        self._flush()

    def take_written(self, version: OpenVersion, given: set[str]) -> None:
        """Write given documents again from a version that they were written to, with the vectors they have there."""
        self.given |= given
        self._has_begun = True
        for stored in version.iterate():
            if stored.record.id in given:
                rows = stored.rows
                passages = [version.passage(row) for row in range(rows.start, rows.stop)]
                self._writer.append(stored.record, passages, version.vectors[rows])

    def count_removed(self, keeps: Callable[[DocumentRecord], bool]) -> int:
        """How many documents of the snapshot are neither given nor kept."""
        records = (stored.record for stored in self._snapshot.iterate_stored())
        return sum(record.id not in self.given and not keeps(record) for record in records)

    def take_kept(self, keeps: Callable[[DocumentRecord], bool]) -> None:
        """Write the snapshot's other documents as they are, those that are kept."""
        self._begin()
        self._copy(lambda record: record.id not in self.given and keeps(record))

    def _begin(self) -> None:
        """Write what was given so far, all of it as it was."""
        if not self._has_begun:
            self._has_begun = True
            self._copy(lambda record: record.id in self.given)

    def _copy(self, chooses: Callable[[DocumentRecord], bool]) -> None:
        for stored in self._snapshot.iterate_stored():
            if chooses(stored.record):
                passages = self._snapshot.read_passages(stored)
                self._queue(stored.record, passages, self._known_vectors(stored, passages))
        self._flush()

    def _known_vectors(self, stored: StoredDocument, passages: Sequence[Passage]) -> dict[str, Vectors]:
        """The vectors of texts that a document had, none where they are of another encoder or damaged."""
        if not self._same_encoder or not (self._base_vectors or self._snapshot.is_in_delta(stored)):
            return {}
        return dict(zip(map(searched_text, passages), self._snapshot.read_vectors(stored), strict=True))

    def _check_base_vectors(self) -> bool:
        try:
            self._snapshot.base.check_vectors()
        except IndexDamaged as error:
            if self._embed is None:
                raise
            logger.error("%s; its documents are embedded again", error)
            return False
        return True

    def _queue(self, record: DocumentRecord, passages: Sequence[Passage], known: dict[str, Vectors]) -> None:
        vectors: list[Vectors | bytes] = []
        for text in map(searched_text, passages):
            vector = known.get(text)
            if vector is None:
                digest = digest_text(text)
                row = self._embedded_rows.get(digest)
                if row is None:
                    self._wanted[digest] = text
                    vectors.append(digest)
                    continue
                vector = self._writer.vector(row)
            vectors.append(vector)
        self._pending.append(_Pending(record, tuple(passages), vectors))
        if len(self._wanted) >= EMBED_BATCH or len(self._pending) >= EMBED_BATCH:
            self._flush()

    def _flush(self) -> None:
        found: dict[bytes, Vectors] = {}
        for digests, vectors in embed_texts(self._wanted, self._embed, self._dimensions):
            found |= zip(digests, vectors, strict=True)
            self._tell(self._writer.rows + len(found))
        self.tally.embedded += len(found)
        for pending in self._pending:
            first = self._writer.rows
            rows = np.zeros((len(pending.vectors), self._dimensions), dtype=np.float32)
            for place, vector in enumerate(pending.vectors):
                if isinstance(vector, bytes):
                    rows[place] = found[vector]
                    self._embedded_rows.setdefault(vector, first + place)
                else:
                    rows[place] = vector
            self._writer.append(pending.record, pending.passages, rows)
        self._pending, self._wanted = [], {}
        self._tell(self._writer.rows)

    def _tell(self, done: int) -> None:
        self._on_progress(max(done, self._compared))


def is_unchanged(record: DocumentRecord, passages: tuple[Passage, ...], document: IndexedDocument) -> bool:
    """Whether a document is what the index has already."""
    return record.fingerprint == document.fingerprint and passages == document.passages


def complete_document(document: IndexedDocument) -> IndexedDocument:
    """A document whose passages say which document they are of; raises ConfigurationError for a repeated source."""
    passages = tuple(
        replace(passage, document=document.id, position=position, fingerprint=document.fingerprint)
        for position, passage in enumerate(document.passages)
    )
    if not document.id:
        raise ConfigurationError("a document has an empty id; give each document an id of its own")
    if len({passage.source for passage in passages}) < len(passages):
        raise ConfigurationError(
            f"document '{document.id}' has two passages of the same source; give each passage a source of its own"
        )
    return IndexedDocument(document.id, document.fingerprint, passages)

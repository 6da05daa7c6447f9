"""What commits changed since a version: documents added, replaced and removed, kept in memory.

One thread applies commits; the views that it hands out never change. Passages and vectors are only ever appended, so
views share them; what does change (who is alive, which document lies where) is copied for each view.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from retrieval.commit_log import Commit
from retrieval.lexical import LexicalDelta
from retrieval.passage import DocumentRecord, IndexedDocument, Passage, searched_text
from retrieval.ranking import Mask, Ranking
from retrieval.version import OpenVersion, StoredDocument

logger = logging.getLogger(__name__)

_FIRST_CAPACITY = 64

_Item = TypeVar("_Item", bound=np.generic)


@dataclass(frozen=True, slots=True)
class DeltaView:
    """A delta as it was after one commit.

    Rows count from 0. `alive` and `base_alive` have a value per row of the delta and of the base; `base_alive` is None
    while the whole base is alive. `documents` overlays the base's: None for one that was removed.
    """

    count: int
    alive: Mask
    alive_count: int
    base_alive: Mask | None
    base_alive_count: int
    documents: Mapping[str, StoredDocument | None]
    document_count: int
    passages: Sequence[Passage]
    vectors: npt.NDArray[np.float32]
    lexical: LexicalDelta | None

    def search_dense(self, vector: npt.NDArray[np.float32], k: int, allowed: Mask | None) -> Ranking:
        """The k allowed rows nearest to a vector, best first, exactly."""
        import faiss

        if not self.count:
            return np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.int64)
        query = np.ascontiguousarray(vector, dtype=np.float32)
        scores = np.empty(self.count, dtype=np.float32)
        # numpy would hand this to a BLAS whose threads wait for each other on busy cores.
        faiss.fvec_inner_products_ny(  # type: ignore[attr-defined]
            faiss.swig_ptr(scores),
            faiss.swig_ptr(query),
            faiss.swig_ptr(self.vectors),
            len(query),
            self.count,
        )
        rows = np.flatnonzero(np.isfinite(scores) if allowed is None else np.isfinite(scores) & allowed)
        found = scores[rows]
        if len(rows) > k:
            best = np.argpartition(-found, k - 1)[:k]
            rows, found = rows[best], found[best]
        order = np.lexsort((rows, -found))
        return found[order], rows[order]

    def search_lexical(self, text: str, k: int, allowed: Mask | None) -> Ranking:
        """Up to k allowed rows that share a word with the text, best first."""
        if not self.count or self.lexical is None:
            return np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.int64)
        return self.lexical.search(text, k, allowed, limit=self.count)


class Delta:
    """Applies commits on top of a base version; `searchable` as far as words go is optional, for who only writes."""

    def __init__(self, base: OpenVersion, searchable: bool) -> None:
        self._base = base
        self._passages: list[Passage] = []
        self._vectors = np.zeros((_FIRST_CAPACITY, base.dimensions), dtype=np.float32)
        self._alive = np.zeros(_FIRST_CAPACITY, dtype=np.bool_)
        self._alive_count = 0
        self._base_alive: Mask | None = None
        self._base_alive_count = base.passages
        self._documents: dict[str, StoredDocument | None] = {}
        self._document_count = base.documents
        self._lexical = LexicalDelta(base.lexical if base.passages else None) if searchable else None

    def apply(self, commit: Commit) -> None:
        """Apply what a commit removes and adds; vectors of another encoder than the base's are left out, loudly.

        Raises IndexDamaged when a document of the base cannot be looked up; the commit was not applied then.
        """
        if commit.documents and commit.encoder_fingerprint != self._base.encoder_fingerprint:
            logger.error(
                "commit %d has vectors of encoder %s, version %s has those of %s: %d documents are left out; run "
                "`guildhall index build DOMAIN`",
                commit.number,
                commit.encoder_fingerprint,
                self._base.name,
                self._base.encoder_fingerprint,
                len(commit.documents),
            )
            documents: tuple[IndexedDocument, ...] = ()
        else:
            documents = commit.documents
        changed = [*commit.removed, *(document.id for document in documents)]
        stored = {document: self.find(document) for document in changed}
        for found in stored.values():
            if found is not None:
                self._drop(found)
        first = len(self._passages)
        passages = [passage for document in documents for passage in document.passages]
        self._append(passages, commit.vectors)
        for document in documents:
            record = DocumentRecord(document.id, document.fingerprint, "added", len(document.passages))
            self._documents[document.id] = StoredDocument(record, first)
            self._document_count += 1
            first += len(document.passages)

    def find(self, document: str) -> StoredDocument | None:
        """Where a document lies; tell base and delta apart with `document in overlay`."""
        if document in self._documents:
            return self._documents[document]
        return self._base.find(document)

    def freeze(self) -> DeltaView:
        """The delta as it is now."""
        count = len(self._passages)
        base_alive = self._base_alive
        if base_alive is not None:
            # The view keeps this one; the next change of the base works on a copy.
            base_alive.flags.writeable = False
        return DeltaView(
            count=count,
            alive=self._alive[:count].copy(),
            alive_count=self._alive_count,
            base_alive=base_alive,
            base_alive_count=self._base_alive_count,
            documents=dict(self._documents),
            document_count=self._document_count,
            passages=self._passages,
            vectors=self._vectors[:count],
            lexical=self._lexical,
        )

    def _drop(self, stored: StoredDocument) -> None:
        document = stored.record.id
        if document in self._documents:
            self._alive[stored.rows] = False
            self._alive_count -= stored.record.passages
        else:
            if self._base_alive is None:
                self._base_alive = np.ones(self._base.passages, dtype=np.bool_)
            elif not self._base_alive.flags.writeable:
                self._base_alive = self._base_alive.copy()
            self._base_alive[stored.rows] = False
            self._base_alive_count -= stored.record.passages
        self._documents[document] = None
        self._document_count -= 1

    def _append(self, passages: list[Passage], vectors: npt.NDArray[np.float32]) -> None:
        start, end = len(self._passages), len(self._passages) + len(passages)
        if end > len(self._vectors):
            capacity = max(end, 2 * len(self._vectors))
            # New buffers: views keep the old ones, whose rows are the same.
            self._vectors = _grown(self._vectors, capacity)
            self._alive = _grown(self._alive, capacity)
        if passages:
            self._vectors[start:end] = vectors
            self._alive[start:end] = True
            self._alive_count += len(passages)
            if self._lexical is not None:
                self._lexical.add(searched_text(passage) for passage in passages)
            self._passages += passages


def _grown(array: npt.NDArray[_Item], rows: int) -> npt.NDArray[_Item]:
    grown = np.zeros((rows, *array.shape[1:]), dtype=array.dtype)
    grown[: len(array)] = array
    return grown

"""An index as it was after one commit: what is searched, whole and unchanging."""

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from experts.errors import ConfigurationError
from experts.search_mode import SearchMode
from retrieval.delta import DeltaView
from retrieval.filters import Filter
from retrieval.hybrid import candidates_for, fuse_ranks, merge_rankings
from retrieval.passage import DocumentRecord, Hit, Passage, SearchResult, render_passage
from retrieval.ranking import Mask, Ranking
from retrieval.version import OpenVersion, StoredDocument

# Filters whose rows are remembered: a bit more than a megabyte each at a million passages.
_FILTERS_KEPT = 16


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """One search. `vector` has shape (dimensions,) and may be None where only words are searched.

    `dense_weight` in [0, 1] weighs hybrid scores; without one, hits are fused by reciprocal rank.
    """

    vector: npt.NDArray[np.float32] | None
    text: str
    k: int
    mode: SearchMode = "hybrid"
    dense_weight: float | None = None
    filter: Filter | None = None


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """What an index is at this moment; `damage` says what could not be used, newest last."""

    label: str
    version: str
    commit: int
    documents: int
    passages: int
    delta_passages: int
    removed_passages: int
    encoder_fingerprint: str
    dimensions: int
    dense_kind: str
    damage: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Allowed:
    """Which rows may be found; None for all of them."""

    base: Mask | None
    delta: Mask | None


class RowMasks:
    """The rows of a version that filters allow, a few of them remembered."""

    def __init__(self, base: OpenVersion) -> None:
        self._base = base
        self._kept: OrderedDict[Filter, Mask] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, condition: Filter) -> Mask:
        """Shape (passages,)."""
        with self._lock:
            mask = self._kept.get(condition)
            if mask is not None:
                self._kept.move_to_end(condition)
                return mask
        different, rows = self._base.metadata()
        mask = np.fromiter(map(condition.matches, different), dtype=np.bool_, count=len(different))[rows]
        with self._lock:
            self._kept[condition] = mask
            while len(self._kept) > _FILTERS_KEPT:
                self._kept.popitem(last=False)
        return mask


class Snapshot:
    """An index after one commit. Immutable; search may be called from several threads."""

    def __init__(
        self, base: OpenVersion, masks: RowMasks, delta: DeltaView, commit: int, damage: tuple[str, ...]
    ) -> None:
        self.label = f"{base.name}.{commit}"
        self.encoder_fingerprint = base.encoder_fingerprint
        self.dimensions = base.dimensions
        self.passages = delta.base_alive_count + delta.alive_count
        self.documents = delta.document_count
        self.base = base
        self.delta = delta
        self.commit = commit
        self.damage = damage
        self._masks = masks
        self._filtered: dict[Filter, _Allowed] = {}

    def search(self, query: SearchQuery) -> SearchResult:
        """The k best passages, best first; fewer when fewer match. Raises as `rank` does."""
        scores, rows = self.rank(query)
        hits = tuple(Hit(self._passage(row), score) for score, row in zip(scores.tolist(), rows.tolist(), strict=True))
        return SearchResult(hits, self.label)

    def rank(self, query: SearchQuery) -> Ranking:
        """The rows of the k best passages, those of the delta numbered after the base's.

        Raises ConfigurationError for a vector of another encoder's length.
        """
        if query.k < 1:
            raise ValueError(f"k is {query.k}, must be at least 1")
        if query.vector is None and query.mode != "lexical":
            raise ValueError(f"a {query.mode} search needs a vector")
        if query.vector is not None and query.vector.shape != (self.dimensions,):
            raise ConfigurationError(
                f"search vector has shape {query.vector.shape}, index version {self.label} takes "
                f"({self.dimensions},); search with the encoder that built the index, or build it again"
            )
        allowed = self._allowed(query.filter)
        if query.mode == "dense":
            return self._search_dense(query, query.k, allowed)
        if query.mode == "lexical":
            return self._search_lexical(query, query.k, allowed)
        wanted = candidates_for(query.k)
        return fuse_ranks(
            self._search_dense(query, wanted, allowed),
            self._search_lexical(query, wanted, allowed),
            query.dense_weight,
            query.k,
        )

    def read_line(self, row: int) -> bytes:
        """The passage of a row that `rank` gave, for `parse_passage`."""
        count = self.base.passages
        if row < count:
            return self.base.passage_line(row)
        return json.dumps(render_passage(self.delta.passages[row - count])).encode()

    def find(self, document: str) -> DocumentRecord | None:
        """What is known of a document."""
        stored = self.locate(document)
        return stored.record if stored is not None else None

    def passages_of(self, document: str) -> tuple[Passage, ...]:
        """The passages of a document in order; none when it is not there."""
        stored = self.locate(document)
        return self.read_passages(stored) if stored is not None else ()

    def iterate_documents(self) -> Iterator[DocumentRecord]:
        """Every document once."""
        return (stored.record for stored in self.iterate_stored())

    def status(self) -> IndexStatus:
        """The figures of this snapshot."""
        return IndexStatus(
            label=self.label,
            version=self.base.name,
            commit=self.commit,
            documents=self.documents,
            passages=self.passages,
            delta_passages=self.delta.alive_count,
            removed_passages=self.base.passages + self.delta.count - self.passages,
            encoder_fingerprint=self.encoder_fingerprint,
            dimensions=self.dimensions,
            dense_kind=self.base.dense_kind,
            damage=self.damage,
        )

    def locate(self, document: str) -> StoredDocument | None:
        """Where a document's rows are, in the delta if it names the document, else in the base."""
        if document in self.delta.documents:
            return self.delta.documents[document]
        return self.base.find(document)

    def iterate_stored(self) -> Iterator[StoredDocument]:
        """Every document once: the base's by row, then the delta's."""
        changed = self.delta.documents
        yield from (stored for stored in self.base.iterate() if stored.record.id not in changed)
        yield from sorted(
            (stored for stored in changed.values() if stored is not None), key=lambda stored: stored.first
        )

    def read_passages(self, stored: StoredDocument) -> tuple[Passage, ...]:
        """The passages of a document located here."""
        rows = stored.rows
        if self.is_in_delta(stored):
            return tuple(self.delta.passages[rows])
        return tuple(self.base.passage(row) for row in range(rows.start, rows.stop))

    def read_vectors(self, stored: StoredDocument) -> npt.NDArray[np.float32]:
        """The vectors of a document located here."""
        vectors = self.delta.vectors if self.is_in_delta(stored) else self.base.vectors
        return vectors[stored.rows]

    def is_in_delta(self, stored: StoredDocument) -> bool:
        """Whether a document located here is not the base's."""
        return self.delta.documents.get(stored.record.id) is stored

    def _passage(self, row: int) -> Passage:
        count = self.base.passages
        return self.base.passage(row) if row < count else self.delta.passages[row - count]

    def _allowed(self, condition: Filter | None) -> _Allowed:
        delta = self.delta
        if condition is None:
            return _Allowed(delta.base_alive, delta.alive if delta.alive_count < delta.count else None)
        allowed = self._filtered.get(condition)
        if allowed is None:
            matching = self._masks.find(condition)
            base = matching if delta.base_alive is None else matching & delta.base_alive
            passages = delta.passages[: delta.count]
            matches = np.fromiter((condition.matches(passage.metadata) for passage in passages), np.bool_, delta.count)
            allowed = _Allowed(base, matches & delta.alive)
            if len(self._filtered) >= _FILTERS_KEPT:  # Whoever else does this now only computes it once more.
                self._filtered = {}
            self._filtered[condition] = allowed
        return allowed

    def _search_dense(self, query: SearchQuery, k: int, allowed: _Allowed) -> Ranking:
        assert query.vector is not None
        added = self.delta.search_dense(query.vector, k, allowed.delta)
        if not self.base.passages:
            return added
        return merge_rankings(self.base.dense.search(query.vector, k, allowed.base), added, self.base.passages, k)

    def _search_lexical(self, query: SearchQuery, k: int, allowed: _Allowed) -> Ranking:
        added = self.delta.search_lexical(query.text, k, allowed.delta)
        if not self.base.passages:
            return added
        return merge_rankings(self.base.lexical.search(query.text, k, allowed.base), added, self.base.passages, k)

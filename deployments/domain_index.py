"""One domain's index as the command line, `guildhall up` and the gateway change it and look at it.

Everything here blocks; several threads may call it. What it returns are plain values, ready for JSON: the command line
and the HTTP API show the same.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from deployments.index_settings import IndexSource
from experts.errors import BadRequest, EncoderMismatch, NotFound
from experts.fleet import Fleet, Index
from experts.search_mode import SearchMode
from retrieval.document import Document, Unreadable
from retrieval.embedding import Embed, OnProgress
from retrieval.filters import Filter
from retrieval.index_reader import IndexReader
from retrieval.index_writer import Change, IndexWriter
from retrieval.passage import IndexedDocument
from retrieval.read import read_documents
from retrieval.snapshot import SearchQuery, Snapshot
from retrieval.splitting import split_document
from retrieval.storage import LOG, open_storage

# A table may have millions of rows that cannot be read; each is said as it comes, and these are kept.
UNREADABLE_KEPT = 1000


@dataclass(frozen=True, slots=True)
class IndexEncoder:
    """What an index needs of the fleet's encoder; `embed` may load it when it is first called."""

    fingerprint: str
    dimensions: int
    embed: Embed


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexChange(Change):
    """What one command did to a domain's index, and what it could not read.

    `unreadable` are the first `UNREADABLE_KEPT` of the `unreadable_count` documents that could not be read.
    """

    domain: str
    unreadable: tuple[Unreadable, ...] = ()
    unreadable_count: int = 0

    @property
    def version(self) -> str:
        """The state of the index in which it is done."""
        return self.label

    def describe(self) -> dict[str, Any]:
        fields = asdict(self)
        return {"object": "index.change", "domain": fields.pop("domain"), "version": fields.pop("label"), **fields}


@dataclass(slots=True)
class Reading:
    """Documents on their way into an index: if there were to be any, how many could be read, and what could not."""

    asked: bool = False
    read: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)
    unreadable_count: int = 0
    on_unreadable: Callable[[Unreadable], None] | None = None

    def split(self, documents: Iterable[Document | Unreadable]) -> Iterator[IndexedDocument]:
        """One at a time, so that a corpus is never in memory whole."""
        self.asked = True
        for document in documents:
            if isinstance(document, Unreadable):
                self.unreadable_count += 1
                if len(self.unreadable) < UNREADABLE_KEPT:
                    self.unreadable.append(document)
                if self.on_unreadable is not None:
                    self.on_unreadable(document)
                continue
            self.read += 1
            yield IndexedDocument(document.id, document.fingerprint, split_document(document))


class DomainIndex:
    """The index of one domain of a fleet, wherever it lies."""

    def __init__(self, domain: str, settings: Index, source: IndexSource, encoder: IndexEncoder, cache: Path) -> None:
        self.domain = domain
        self.source = source
        self._settings = settings
        self._encoder = encoder
        self._storage = open_storage(source.location, cache)
        self._writer = IndexWriter(self._storage, encoder.fingerprint, encoder.dimensions)
        self._reader = IndexReader(self._storage, encoder.fingerprint)

    def build(self, reading: Reading, on_progress: OnProgress | None = None) -> IndexChange:
        """Make the index equal to the corpus of the fleet file; what was added beside it stays.

        Only what changed is embedded, unless another encoder built the index. Changes nothing where a corpus has not
        one document that can be read (`reading.read` is 0): a folder that is not mounted empties no index.
        """
        corpus = self._settings.corpus
        if corpus is None:
            change = self._writer.build((), self._encoder.embed, on_progress)
        else:
            documents = reading.split(read_documents([corpus]))
            first = next(documents, None)
            if first is None:
                return self._describe_change(Change(self._version(), changed=False), reading)
            change = self._writer.build(chain((first,), documents), self._encoder.embed, on_progress)
        return self._describe_change(change, reading)

    def check_encoder(self) -> None:
        """Raise EncoderMismatch when another encoder built the index; none is there yet is fine."""
        if not self._is_there():
            return
        fingerprint = self._writer.snapshot().encoder_fingerprint
        if fingerprint != self._encoder.fingerprint:
            raise EncoderMismatch(
                f"the index of domain '{self.domain}' was built with encoder {fingerprint}, the fleet file asks for "
                f"{self._encoder.fingerprint}; run `guildhall index build {self.domain}` to embed it again"
            )

    def add(
        self, documents: Iterable[Document | Unreadable], reading: Reading, on_progress: OnProgress | None = None
    ) -> IndexChange:
        """Add documents, all or none; one whose id is there is replaced whole.

        Raises BadRequest for a document of the corpus.
        """
        given = self._check_added(reading.split(documents))
        change = self._writer.add(given, self._encoder.embed, on_progress)
        return self._describe_change(change, reading)

    def remove(self, ids: Sequence[str]) -> IndexChange:
        """Remove documents that were added; ids that are not there are listed as missing.

        Raises BadRequest for a document of the corpus.
        """
        self._check_there()
        snapshot = self._writer.snapshot()
        for document in ids:
            self._refuse_corpus(snapshot, document)
        return self._describe_change(self._writer.remove(ids), Reading())

    def rollback(self, version: str | None) -> IndexChange:
        """Serve an older version again, the one before the present one where none is named; raises NotFound."""
        self._check_there()
        kept = self._writer.versions()
        names = [record.name for record in kept]
        if version is None:
            current = next((place for place, record in enumerate(kept) if record.is_current), -1)
            older = names[current + 1 :]
            if not older:
                raise NotFound(
                    f"index of domain '{self.domain}' keeps no version before the present one; it has "
                    f"{', '.join(names) or 'none'}",
                    "version",
                )
            version = older[0]
        elif version not in names:
            raise NotFound(
                f"index of domain '{self.domain}' keeps no version '{version[:60]}'; it has "
                f"{', '.join(names) or 'none'}",
                "version",
            )
        return self._describe_change(self._writer.rollback(version), Reading())

    def compact_if_due(self) -> IndexChange | None:
        """Fold what was added into a version of its own when it is worth it; takes seconds to minutes."""
        change = self._writer.compact_if_due()
        return self._describe_change(change, Reading()) if change is not None else None

    def is_compaction_due(self) -> bool:
        return self._writer.is_compaction_due()

    def compaction_arguments(self) -> tuple[str, str, str]:
        """What `deployments.index_compaction` takes before the folder for copies."""
        return self.source.location, self._encoder.fingerprint, str(self._encoder.dimensions)

    def search(
        self, text: str, k: int | None = None, mode: SearchMode | None = None, chosen: Filter | None = None
    ) -> dict[str, Any]:
        """The passages for a question as the domain's expert would get them, before reranking."""
        mode = mode or self._settings.search
        vector = self._encoder.embed([text])[0] if mode != "lexical" else None
        self._reader.refresh()
        query = SearchQuery(
            vector=vector,
            text=text,
            k=k or self._settings.passages,
            mode=mode,
            dense_weight=self._settings.dense_weight,
            filter=chosen,
        )
        result = self._reader.snapshot().search(query)
        hits = [
            {
                "document": hit.passage.document,
                "position": hit.passage.position,
                "source": hit.passage.source,
                "title": hit.passage.title,
                "text": hit.passage.text,
                "score": hit.score,
                "metadata": dict(hit.passage.metadata),
            }
            for hit in result.hits
        ]
        return {"object": "index.search", "domain": self.domain, "version": result.version, "data": hits}

    def describe(self) -> dict[str, Any]:
        """What the index is and which versions it keeps; an index that is not built or is damaged says so."""
        about = {"object": "index", "domain": self.domain, "location": self.source.location}
        if not self._is_there():
            return about | {"problem": self._describe_absence()}
        status = asdict(self._writer.snapshot().status())
        versions = [asdict(record) for record in self._writer.versions()]
        version, damage = status.pop("label"), status.pop("damage")
        status["base"] = status.pop("version")
        return about | {"version": version} | status | {"problem": "; ".join(damage) or None, "versions": versions}

    def _check_added(self, documents: Iterable[IndexedDocument]) -> Iterator[IndexedDocument]:
        snapshot = self._writer.snapshot()
        for document in documents:
            self._refuse_corpus(snapshot, document.id)
            yield document

    def _refuse_corpus(self, snapshot: Snapshot, document: str) -> None:
        record = snapshot.find(document)
        if record is not None and record.origin == "corpus":
            raise BadRequest(
                f"document '{document}' is of the corpus of domain '{self.domain}'; change or remove its file in "
                f"{self._settings.corpus}, then run `guildhall index build {self.domain}`, or choose another id",
                "id",
            )

    def _version(self) -> str:
        return self._writer.snapshot().label if self._is_there() else ""

    def _is_there(self) -> bool:
        """Looking must not create an index, as a writer's first look does."""
        return bool(self._storage.list(LOG))

    def _check_there(self) -> None:
        if not self._is_there():
            raise NotFound(f"the index of domain '{self.domain}' is {self._describe_absence()}")

    def _describe_absence(self) -> str:
        return f"not built yet; run `guildhall index build {self.domain}` or `guildhall up`"

    def _describe_change(self, change: Change, reading: Reading) -> IndexChange:
        return IndexChange(
            **asdict(change),
            domain=self.domain,
            unreadable=tuple(reading.unreadable),
            unreadable_count=reading.unreadable_count,
        )


def locate_index(fleet: Fleet, domain: str, data_dir: Path) -> str:
    """Where a domain's index lies: what its fleet file says, else a folder of its own in the data folder."""
    index = fleet.domains[domain].index
    if index is not None and index.location is not None:
        return index.location
    return str(data_dir / "indexes" / fleet.name / domain)

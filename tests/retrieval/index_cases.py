"""Documents, vectors and a kill that the tests and the benchmark of the index share."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from retrieval.index_reader import IndexReader
from retrieval.index_writer import IndexWriter
from retrieval.passage import Hit, IndexedDocument, Passage, searched_text
from retrieval.snapshot import SearchQuery, Snapshot
from retrieval.storage import Storage, open_storage

ENCODER = "hash-encoder-1"
DIMENSIONS = 32


def embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Vectors that depend on the text alone and cost nothing; the index does not care what they mean."""
    rows = [
        np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])).normal(size=DIMENSIONS)
        for text in texts
    ]
    vectors = np.array(rows, dtype=np.float32).reshape(len(texts), DIMENSIONS)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def refuse_to_embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """For writes that need no new vector."""
    raise AssertionError(f"{len(texts)} texts were embedded, the first is {texts[0]!r}")


def document(name: str, passages: int = 2, edition: int = 0) -> IndexedDocument:
    """A document whose passages are told apart by their text."""
    return IndexedDocument(
        name,
        f"{name}-{edition}",
        tuple(
            Passage(
                text=f"Part {number} of {name}, edition {edition} é \u2028 \n end",
                title=f"Title of {name}",
                source=f"{name}#{number}",
                metadata={"name": name, "edition": edition},
            )
            for number in range(passages)
        ),
    )


def documents(first: int, end: int, edition: int = 0) -> list[IndexedDocument]:
    """Documents d<first> to d<end - 1>."""
    return [document(f"d{number}", edition=edition) for number in range(first, end)]


def local(folder: Path) -> Storage:
    """An index in a folder."""
    return open_storage(str(folder / "index"), folder / "cache")


def writer_of(storage: Storage, encoder: str = ENCODER) -> IndexWriter:
    return IndexWriter(storage, encoder, DIMENSIONS)


def open_reader(storage: Storage) -> IndexReader:
    """A reader that has what is there."""
    reader = IndexReader(storage, ENCODER)
    reader.refresh()
    return reader


def find_passage(snapshot: Snapshot, passage: Passage) -> list[Hit]:
    """What a search for exactly this passage finds, the exact matches only."""
    query = SearchQuery(embed([searched_text(passage)])[0], passage.text, 4, "dense")
    return [hit for hit in snapshot.search(query).hits if hit.score > 0.999]


def assert_holds(snapshot: Snapshot, expected: Iterable[IndexedDocument]) -> None:
    """Exactly these documents, each passage found by its vector exactly once, nothing else found."""
    wanted = {one.id: one for one in expected}
    assert {record.id for record in snapshot.iterate_documents()} == set(wanted)
    assert snapshot.documents == len(wanted)
    assert snapshot.passages == sum(len(one.passages) for one in wanted.values())
    for one in wanted.values():
        record = snapshot.find(one.id)
        assert record is not None
        assert record.fingerprint == one.fingerprint
        stored = snapshot.passages_of(one.id)
        assert [each.text for each in stored] == [each.text for each in one.passages]
        for passage in stored:
            assert [hit.passage for hit in find_passage(snapshot, passage)] == [passage]

"""A process of the index stress: a writer that may be killed at any moment, or a searcher that must never see an error.

A writer says in its journal what it begins and what was acknowledged; the journal outlives it. A document has one
owner, so that its journal alone decides what the index must hold.
"""

import argparse
import hashlib
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval import index_writer
from retrieval.index_reader import IndexReader
from retrieval.index_writer import IndexWriter
from retrieval.passage import IndexedDocument, Passage, searched_text
from retrieval.snapshot import SearchQuery, Snapshot
from retrieval.storage import Storage, open_storage

ENCODER = "text-hash"
DIMENSIONS = 64
CORPUS_DOCUMENTS = 40
# Of a hundred operations; the rest are searches. Builds are the first writer's, one in a hundred of its operations.
ADDS, REPLACES, REMOVES = 25, 10, 20
# A document's own passage is nearer than this to itself, and no other is.
SAME = 0.999


def embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """A random vector for each text, the same each time."""
    seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) for text in texts]
    vectors = np.array([np.random.default_rng(seed).normal(size=DIMENSIONS) for seed in seeds], dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_document(name: str, edition: int) -> IndexedDocument:
    """A document of one to three passages that all say their edition."""
    count = 1 + int.from_bytes(hashlib.sha256(name.encode()).digest()[:1]) % 3
    return IndexedDocument(
        name,
        f"{name}:{edition}",
        tuple(
            Passage(
                f"Passage {place} of {name} in edition {edition}.", name, f"{name}#{place}", metadata={"e": edition}
            )
            for place in range(count)
        ),
    )


def open_index(folder: Path) -> Storage:
    """The index under test."""
    return open_storage(str(folder / "index"), folder / "cache")


def check_found(snapshot: Snapshot, document: IndexedDocument) -> None:
    """Raise AssertionError unless each passage of a document is found exactly once."""
    vectors = embed([searched_text(passage) for passage in document.passages])
    for passage, vector in zip(document.passages, vectors, strict=True):
        hits = snapshot.search(SearchQuery(vector, passage.text, 5, "dense")).hits
        same = [hit.passage for hit in hits if hit.score > SAME]
        assert [found.source for found in same] == [passage.source], f"{passage.source}: found {same}"
        assert same[0].text == passage.text


def check_whole(snapshot: Snapshot, hits: Iterable[Passage]) -> None:
    """Raise AssertionError when a passage comes twice or documents come in two editions or in part."""
    sources = Counter(passage.source for passage in hits)
    assert max(sources.values(), default=1) == 1, f"doubled: {sources}"
    for passage in hits:
        editions = {each.fingerprint for each in snapshot.passages_of(passage.document)}
        assert editions == {passage.fingerprint}, f"{passage.source}: editions {editions}"


class Journal:
    """Lines that are in the kernel's hands when `write` returns: a kill loses none of them."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, **entry: Any) -> None:
        os.write(self._descriptor, (json.dumps(entry) + "\n").encode())


class Writer:
    """Adds, replaces, removes and searches documents of its own until it is killed or done."""

    def __init__(self, folder: Path, slot: int, seed: int) -> None:
        storage = open_index(folder)
        self.journal = Journal(folder / f"journal-{slot}.jsonl")
        self._slot = slot
        self._random = random.Random(seed)
        self._made = 0
        self._run = seed
        self._writer = IndexWriter(storage, ENCODER, DIMENSIONS)
        self._reader = IndexReader(storage, ENCODER)
        mine = [record for record in self._writer.snapshot().iterate_documents() if record.id.startswith(f"w{slot}-")]
        self._owned = {record.id: int(record.fingerprint.rsplit(":", 1)[1]) for record in mine}
        self._corpus_edition = seed

    def operate(self) -> None:
        """One operation, chosen by chance."""
        chance = self._random.uniform(0, 100)
        began = time.perf_counter()
        if self._slot == 0 and chance > 99:
            kind = "build"
            self._build()
        elif chance < ADDS or not self._owned:
            kind = "add"
            self._made += 1
            self._add(f"w{self._slot}-{self._run}-{self._made}", 0)
        elif chance < ADDS + REPLACES:
            kind = "replace"
            name = self._choose()
            self._add(name, self._owned[name] + 1)
        elif chance < ADDS + REPLACES + REMOVES:
            kind = "remove"
            self._remove(self._choose())
        else:
            kind = "search"
            self._search(self._choose())
        self.journal.write(done=kind, ms=round(1000 * (time.perf_counter() - began), 3))
        compacted = self._writer.compact_if_due()
        if compacted is not None:
            self.journal.write(compacted=compacted.label)

    def _choose(self) -> str:
        return self._random.choice(list(self._owned))

    def _add(self, name: str, edition: int) -> None:
        document = make_document(name, edition)
        self.journal.write(begin=name, edition=edition)
        change = self._writer.add([document], embed)
        self.journal.write(end=name, edition=edition)
        assert change.changed
        self._owned[name] = edition
        self._refresh()
        check_found(self._reader.snapshot(), document)

    def _remove(self, name: str) -> None:
        self.journal.write(begin=name, edition=None)
        change = self._writer.remove([name])
        self.journal.write(end=name, edition=None)
        assert change.removed == 1, f"{name} was gone"
        del self._owned[name]
        self._refresh()
        assert self._reader.snapshot().find(name) is None

    def _search(self, name: str) -> None:
        self._refresh()
        check_found(self._reader.snapshot(), make_document(name, self._owned[name]))

    def _build(self) -> None:
        self._corpus_edition += 1
        names = [f"corpus-{number}" for number in range(CORPUS_DOCUMENTS)]
        for name in names:
            self.journal.write(begin=name, edition=self._corpus_edition)
        self._writer.build([make_document(name, self._corpus_edition) for name in names], embed)
        for name in names:
            self.journal.write(end=name, edition=self._corpus_edition)

    def _refresh(self) -> None:
        self._reader.refresh(wait=False)


def write(folder: Path, slot: int, seed: int, operations: int) -> None:
    """Operate until done; whatever goes wrong goes into the journal."""
    writer = Writer(folder, slot, seed)
    try:
        for _ in range(operations):
            writer.operate()
    except Exception as error:
        writer.journal.write(error=f"{type(error).__name__}: {error}")
        raise


def search(folder: Path, seed: int) -> None:
    """Search until the file `stop` appears; prints the searches done, the snapshots seen and how long they took."""
    reader = IndexReader(open_index(folder), ENCODER)
    reader.refresh()
    chance = np.random.default_rng(seed)
    took: list[float] = []
    labels = set()
    while not (folder / "stop").exists():
        for _ in range(20):
            reader.refresh(wait=False)
            snapshot = reader.snapshot()
            vector = chance.normal(size=DIMENSIONS).astype(np.float32)
            began = time.perf_counter()
            result = snapshot.search(SearchQuery(vector, f"passage {chance.integers(4)} edition", 8))
            took.append(1000 * (time.perf_counter() - began))
            labels.add(result.version)
            assert result.version == snapshot.label
            assert len(result.hits) == min(8, snapshot.passages)
            check_whole(snapshot, [hit.passage for hit in result.hits])
    p50, p99 = np.percentile(took, [50, 99])
    sys.stdout.write(json.dumps({"searches": len(took), "states": len(labels), "p50_ms": p50, "p99_ms": p99}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["writer", "searcher"])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--slot", type=int, default=0)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--operations", type=int, default=0)
    parser.add_argument("--compact-after", type=int, required=True)
    options = parser.parse_args()
    index_writer.DELTA_COMMITS = options.compact_after
    if options.role == "writer":
        write(options.folder, options.slot, options.seed, options.operations)
    else:
        search(options.folder, options.seed)


if __name__ == "__main__":
    main()

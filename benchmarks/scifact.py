"""SciFact for the retrieval benchmarks: abstracts, claims, judgements and vectors; more text and vectors like them."""

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from retrieval.encoder import SHIPPED_ENCODER, load_encoder, observe_encoder_fingerprint
from retrieval.passage import IndexedDocument, Passage, searched_text

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared/data/retrieval/scifact"
# Embedding the abstracts takes minutes; git ignores what lies here.
CACHE = ROOT / "build/scifact"
BATCH = 256
NEIGHBOURS = 10
# Length of the noise beside a vector of length one; see `SimilarVectors`.
NOISE = 0.5
SENTENCES = 5

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SciFact:
    """Abstracts in the corpus's order, claims by id, and per split the rows judged relevant to each claim."""

    abstracts: tuple[IndexedDocument, ...]
    claims: dict[str, str]
    relevant: dict[str, dict[str, dict[int, float]]]


def load_scifact() -> SciFact:
    """Read the data, or end the benchmark saying where it was looked for."""
    if not DATA.is_dir():
        sys.exit(f"nothing measured: SciFact in BEIR's form is not in {DATA}; put it there and run again")
    abstracts, rows = [], {}
    for row, line in enumerate((DATA / "corpus.jsonl").read_text().splitlines()):
        entry = json.loads(line)
        identity = entry["_id"]
        passage = Passage(entry["text"], entry["title"], f"{identity}#1", document=identity, fingerprint=identity)
        abstracts.append(IndexedDocument(identity, identity, (passage,)))
        rows[identity] = row
    claims = {}
    for line in (DATA / "queries.jsonl").read_text().splitlines():
        entry = json.loads(line)
        claims[entry["_id"]] = entry["text"]
    relevant: dict[str, dict[str, dict[int, float]]] = {}
    for split in ("train", "test"):
        judged: dict[str, dict[int, float]] = {}
        for line in (DATA / f"qrels/{split}.tsv").read_text().splitlines()[1:]:
            claim, abstract, grade = line.split("\t")
            judged.setdefault(claim, {})[rows[abstract]] = float(grade)
        relevant[split] = judged
    return SciFact(tuple(abstracts), claims, relevant)


def load_vectors(scifact: SciFact) -> tuple[Vectors, Vectors]:
    """Vectors of the abstracts and of the claims by the shipped encoder, in the order of both."""
    path = CACHE / f"{observe_encoder_fingerprint(SHIPPED_ENCODER)}.npz"
    if not path.is_file():
        encoder = load_encoder(SHIPPED_ENCODER, threads=os.cpu_count() or 1)
        texts = [searched_text(document.passages[0]) for document in scifact.abstracts]
        batches = [encoder.encode(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
        CACHE.mkdir(parents=True, exist_ok=True)
        np.savez(path, abstracts=np.concatenate(batches), claims=encoder.encode(list(scifact.claims.values())))
    with np.load(path) as cached:
        return cached["abstracts"], cached["claims"]


class SimilarVectors:
    """Endless vectors that lie like those of a corpus: between an abstract and a near one, with its kind of noise.

    The noise has the corpus's covariance and a mean length of about `NOISE`.
    """

    def __init__(self, vectors: Vectors, seed: int = 0) -> None:
        self._vectors = vectors
        self._rng = np.random.default_rng(seed)
        self._near = np.argpartition(-(vectors @ vectors.T), NEIGHBOURS + 1, axis=1)[:, : NEIGHBOURS + 1]
        variances, axes = np.linalg.eigh(np.cov(vectors.T))
        spread = np.sqrt(np.maximum(variances, 0) / variances.sum())
        self._noise = (NOISE * (axes * spread).T).astype(np.float32)

    def take(self, count: int) -> Vectors:
        """The next ones, of length one."""
        first = self._rng.integers(0, len(self._vectors), count)
        second = self._near[first, self._rng.integers(0, self._near.shape[1], count)]
        part = self._rng.random((count, 1), dtype=np.float32)
        vectors = self._vectors[first] * (1 - part) + self._vectors[second] * part
        vectors += self._rng.standard_normal(vectors.shape, dtype=np.float32) @ self._noise
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


def similar_documents(scifact: SciFact, passages: int, seed: int = 0) -> Iterator[IndexedDocument]:
    """Documents of four passages of sentences drawn from the abstracts, with metadata to filter by."""
    sentences = [
        sentence
        for document in scifact.abstracts
        for sentence in re.split(r"(?<=[.!?]) ", document.passages[0].text)
        if len(sentence) > 20
    ]
    rng = np.random.default_rng(seed)
    for start in range(0, passages, 4):
        identity = f"document-{start // 4}"
        drawn = rng.integers(0, len(sentences), (min(4, passages - start), SENTENCES))
        yield IndexedDocument(
            identity,
            identity,
            tuple(
                Passage(
                    text=" ".join(sentences[number] for number in row),
                    title=f"Document {start // 4}",
                    source=f"{identity}#{position}",
                    document=identity,
                    position=position,
                    fingerprint=identity,
                    metadata={"year": 2000 + start // 4 % 20},
                )
                for position, row in enumerate(drawn.tolist())
            ),
        )

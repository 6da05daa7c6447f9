"""What retrieval finds: dense, lexical and hybrid search over SciFact, beside published figures.

Everything goes the way of a user's index: written by IndexWriter, opened by IndexReader, searched through a snapshot.
The weight of hybrid search is fitted on the training claims and measured, as all the rest, on the test claims.
`bm25s` and `tantivy` are measured beside it on the same texts where they are installed.
"""

import importlib.util
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.lexical_contenders import CONTENDERS
from benchmarks.result import save_result
from benchmarks.scifact import SciFact, Vectors, load_scifact, load_vectors
from experts.search_mode import SearchMode
from retrieval.encoder import SHIPPED_ENCODER, observe_encoder_fingerprint
from retrieval.hybrid import JudgedQuery, candidates_for, fit_dense_weight, observe_ndcg
from retrieval.index_reader import IndexReader
from retrieval.index_writer import IndexWriter
from retrieval.passage import searched_text
from retrieval.snapshot import SearchQuery, Snapshot
from retrieval.storage import open_storage

K = 10
NDCG_LIMIT = 0.71
# nDCG@10 on SciFact's test claims: all-MiniLM-L6-v2 on the MTEB leaderboard, BM25 by bm25s (Lù 2024).
PUBLISHED = {"dense": 0.645, "lexical": 0.687}

console = Console(stderr=True)


def build_snapshot(scifact: SciFact, vectors: Vectors, folder: Path) -> Snapshot:
    """An index of the abstracts, as a reader serves it."""
    by_text = {
        searched_text(document.passages[0]): vector for document, vector in zip(scifact.abstracts, vectors, strict=True)
    }
    storage = open_storage(str(folder / "index"), folder / "cache")
    writer = IndexWriter(storage, observe_encoder_fingerprint(SHIPPED_ENCODER), vectors.shape[1])
    writer.build(scifact.abstracts, lambda texts: np.array([by_text[text] for text in texts]))
    reader = IndexReader(storage)
    reader.refresh()
    return reader.snapshot()


def rate(rankings: dict[str, Sequence[int]], relevant: dict[str, dict[int, float]]) -> dict[str, float]:
    """Means over the claims."""
    figures: dict[str, list[float]] = {"ndcg_at_10": [], "recall_at_10": [], "mrr_at_10": []}
    for claim, grades in relevant.items():
        rows = [int(row) for row in rankings[claim][:K]]
        wanted = {row for row, grade in grades.items() if grade > 0}
        figures["ndcg_at_10"].append(observe_ndcg(rows, grades, K))
        figures["recall_at_10"].append(len(wanted.intersection(rows)) / len(wanted))
        figures["mrr_at_10"].append(next((1 / place for place, row in enumerate(rows, 1) if row in wanted), 0.0))
    return {name: float(np.mean(values)) for name, values in figures.items()}


def fit_weight(scifact: SciFact, vectors: dict[str, Vectors], snapshot: Snapshot) -> float:
    """The dense weight that suits the training claims best."""
    count = candidates_for(K)
    judged = [
        JudgedQuery(
            snapshot.base.dense.search(vectors[claim], count),
            snapshot.base.lexical.search(scifact.claims[claim], count),
            grades,
        )
        for claim, grades in scifact.relevant["train"].items()
    ]
    return fit_dense_weight(judged)


def main() -> None:
    """Run, write the result and say whether the target holds."""
    scifact = load_scifact()
    console.print("embedding, or reading the vectors of the last time")
    abstracts, claims = load_vectors(scifact)
    vectors = dict(zip(scifact.claims, claims, strict=True))
    rows = {document.id: row for row, document in enumerate(scifact.abstracts)}
    with tempfile.TemporaryDirectory() as folder:
        snapshot = build_snapshot(scifact, abstracts, Path(folder))
        weight = fit_weight(scifact, vectors, snapshot)

        def searcher(mode: SearchMode, dense_weight: float | None = None) -> Callable[[str], list[int]]:
            def search(claim: str) -> list[int]:
                query = SearchQuery(vectors[claim], scifact.claims[claim], K, mode, dense_weight)
                return [rows[hit.passage.document] for hit in snapshot.search(query).hits]

            return search

        contenders: dict[str, Callable[[str], Sequence[int]]] = {
            "dense": searcher("dense"),
            "lexical": searcher("lexical"),
            "hybrid_reciprocal_rank": searcher("hybrid"),
            "hybrid_fitted_weight": searcher("hybrid", weight),
        }
        texts = [searched_text(document.passages[0]) for document in scifact.abstracts]
        for name, build in CONTENDERS.items():
            if importlib.util.find_spec(name):
                find = build(texts, Path(folder) / name)
                contenders[name] = lambda claim, find=find: find(scifact.claims[claim], K)  # type: ignore[misc]
        figures: dict[str, dict[str, Any]] = {}
        for name, search in contenders.items():
            figures[name] = {}
            for split, relevant in scifact.relevant.items():
                started = time.perf_counter()
                rankings = {claim: search(claim) for claim in relevant}
                seconds = time.perf_counter() - started
                figures[name][split] = {**rate(rankings, relevant), "mean_ms": 1000 * seconds / len(relevant)}
            console.print(f"{name}: {figures[name]['test']}")
    best = {name: figures[name]["test"]["ndcg_at_10"] for name in ("hybrid_reciprocal_rank", "hybrid_fitted_weight")}
    path = save_result(
        "retrieval",
        {
            "data": f"SciFact: {len(texts)} abstracts, {len(scifact.relevant['test'])} test claims; one passage per "
            "abstract, its title before it",
            "encoder": SHIPPED_ENCODER,
            "contenders": figures,
            "dense_weight": {"value": weight, "fitted_on": f"{len(scifact.relevant['train'])} training claims"},
            "published_ndcg_at_10": PUBLISHED,
            "targets": {
                name: {"ndcg_at_10_at_least": NDCG_LIMIT, "reached": value >= NDCG_LIMIT}
                for name, value in best.items()
            },
        },
    )
    console.print(f"wrote {path}")


if __name__ == "__main__":
    main()

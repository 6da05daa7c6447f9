"""What a search costs among 10,000, 100,000 and 1,000,000 passages: time, memory, opening, building; what it misses.

Texts are sentences of SciFact's abstracts drawn anew, vectors lie like those of its abstracts (`SimilarVectors`), and
the questions are its claims with their own vectors. Each size is built, then opened by two processes at once, so that
what they share can be told from what each has for itself. One of them is timed after the other has ended. At the end
the same questions are asked through an index actor on a Ray node (`benchmarks.actor_search`).

A million takes an hour, so sizes may be measured one by one: what the result has of others at the same commit stays.
"""

import argparse
import gc
import importlib.util
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.lexical_contenders import CONTENDERS
from benchmarks.result import load_result, save_result
from benchmarks.scifact import SimilarVectors, Vectors, load_scifact, load_vectors, similar_documents
from retrieval.dense import Kind, open_dense, write_dense
from retrieval.filters import parse_filter
from retrieval.hybrid import candidates_for
from retrieval.index_reader import IndexReader
from retrieval.index_writer import IndexWriter
from retrieval.lexical import open_lexical, write_lexical
from retrieval.passage import searched_text
from retrieval.snapshot import SearchQuery, Snapshot
from retrieval.storage import open_storage

SIZES = (10_000, 100_000, 1_000_000)
# Kinds of dense index compared at a size, to choose where one ends and the next begins; with the next of SIZES.
KINDS: dict[int, tuple[Kind, ...]] = {
    1_000: ("flat", "hnsw"),
    2_000: ("flat", "hnsw"),
    4_000: ("flat", "hnsw"),
    10_000: ("flat", "hnsw"),
    100_000: ("flat", "hnsw", "ivf"),
    400_000: ("hnsw", "ivf"),
    1_000_000: ("hnsw", "ivf"),
}
CONTENDERS_AT = 100_000
K = 10
QUERIES = 500
WARM = 50
SHORT_WORDS = 6
# Vectors made or compared at once.
BATCH = 50_000
FINGERPRINT = "similar-vectors"
RECALL_LIMIT = 0.98
ABOVE_EMPTY_CALL_LIMIT_MS = 0.5
ABOVE_EMPTY_CALL_AT = 100_000
FILTER = {"year": [2003, 2007]}

Figures = dict[str, Any]
Claims = tuple[list[str], Vectors]

console = Console(stderr=True)


def load_claims() -> Claims:
    """Texts and vectors of the questions."""
    scifact = load_scifact()
    _, claims = load_vectors(scifact)
    return list(scifact.claims.values())[:QUERIES], claims[:QUERIES]


def build(size: int, folder: Path) -> Figures:
    """Write an index of this many passages the way a user does, but for the embedding."""
    scifact = load_scifact()
    vectors = SimilarVectors(load_vectors(scifact)[0])
    spent = 0.0

    def embed(texts: Sequence[str]) -> Vectors:
        nonlocal spent
        started = time.perf_counter()
        taken = vectors.take(len(texts))
        spent += time.perf_counter() - started
        return taken

    started = time.perf_counter()
    storage = open_storage(str(folder / "index"), folder / "cache")
    writer = IndexWriter(storage, FINGERPRINT, vectors.take(1).shape[1])
    writer.build(similar_documents(scifact, size), embed)
    seconds = time.perf_counter() - started - spent
    version = writer.snapshot().base
    files = sorted((folder / "index/versions" / version.name).rglob("*"))
    written = {path.name: path.stat().st_mtime for path in files}
    return {
        "build_s": {
            "all_without_embedding": seconds,
            # The files of a version are written one after another.
            "dense": written["dense.faiss"] - written["metadata_rows.npy"],
            "lexical": written["totals.npy"] - written["dense.faiss"],
        },
        "dense_kind": version.dense_kind,
        "mib": {path.name: path.stat().st_size / 2**20 for path in files if path.stat().st_size >= 2**20},
        "peak_mib": observe_memory()["peak"],
    }


def serve(folder: Path, is_timed: bool, parent: Connection) -> None:
    """Open the index as an index actor does, search it, and report; runs in a process of its own."""
    texts, vectors = load_claims()
    gc.collect()
    before = observe_memory()
    started = time.perf_counter()
    reader = IndexReader(open_storage(str(folder / "index"), folder / "cache"))
    reader.refresh()
    snapshot = reader.snapshot()
    opened_s = time.perf_counter() - started
    for text, vector in zip(texts, vectors, strict=True):
        snapshot.search(SearchQuery(vector, text, K))
    parent.send(None)
    parent.recv()  # Both have everything open.
    now = observe_memory()
    figures: Figures = {
        "open_s": opened_s,
        "memory_mib": {
            "private": now["private"],
            "private_before_opening": before["private"],
            "shared": now["shared"],
            "proportional": now["proportional"],
        },
    }
    parent.send(None)
    parent.recv()  # The other one has looked too, and ends unless it is timed.
    if is_timed:
        figures["search_ms"] = time_searches(snapshot, texts, vectors)
        figures["recall_at_10"] = measure_recall(snapshot, vectors)
    parent.send(figures)


def time_searches(snapshot: Snapshot, texts: list[str], vectors: Vectors) -> Figures:
    """p50 and p99 of each way to search, one after another in one thread."""
    short = [" ".join(text.split()[:SHORT_WORDS]) for text in texts]
    dense, lexical, count = snapshot.base.dense, snapshot.base.lexical, candidates_for(K)
    condition = parse_filter(FILTER)
    return {
        f"dense_{K}": time_each(lambda i: dense.search(vectors[i], K)),
        f"dense_{count}": time_each(lambda i: dense.search(vectors[i], count)),
        f"lexical_{count}": time_each(lambda i: lexical.search(texts[i], count)),
        f"lexical_{count}_first_{SHORT_WORDS}_words": time_each(lambda i: lexical.search(short[i], count)),
        "hybrid": time_each(lambda i: snapshot.search(SearchQuery(vectors[i], texts[i], K))),
        f"hybrid_first_{SHORT_WORDS}_words": time_each(lambda i: snapshot.search(SearchQuery(vectors[i], short[i], K))),
        "hybrid_filtered_to_a_tenth": time_each(
            lambda i: snapshot.search(SearchQuery(vectors[i], texts[i], K, filter=condition))
        ),
    }


def search_through_actor(folder: Path) -> Figures:
    """The search as an expert's replica sees it."""
    # Ray takes memory, and the processes whose memory is measured import this module.
    from benchmarks.actor_search import measure_through_actor

    return measure_through_actor(str(folder / "index"), FINGERPRINT, *load_claims())


def time_each(search: Callable[[int], object]) -> Figures:
    """Milliseconds of one search per question, after some that are not counted."""
    for number in range(WARM):
        search(number)
    times = []
    for number in range(QUERIES):
        started = time.perf_counter()
        search(number)
        times.append(1000 * (time.perf_counter() - started))
    return {"p50": float(np.percentile(times, 50)), "p99": float(np.percentile(times, 99))}


def measure_recall(snapshot: Snapshot, vectors: Vectors) -> float:
    """Part of the ten nearest that the dense index finds."""
    exact = find_exactly(snapshot.base.vectors, vectors)
    found = [snapshot.base.dense.search(vector, K)[1] for vector in vectors]
    return recall(found, exact)


def find_exactly(vectors: Vectors, questions: Vectors) -> list[list[int]]:
    """The K rows of highest inner product with each question."""
    scores = np.zeros((len(questions), 0), dtype=np.float32)
    rows = np.zeros((len(questions), 0), dtype=np.int64)
    for start in range(0, len(vectors), BATCH):
        more = questions @ vectors[start : start + BATCH].T
        scores = np.concatenate([scores, more], axis=1)
        numbers = np.broadcast_to(np.arange(start, start + more.shape[1]), more.shape)
        rows = np.concatenate([rows, numbers], axis=1)
        best = np.argpartition(-scores, K - 1, axis=1)[:, :K]
        scores, rows = np.take_along_axis(scores, best, axis=1), np.take_along_axis(rows, best, axis=1)
    return rows.tolist()


def recall(found: Sequence[Sequence[int] | np.ndarray[Any, Any]], exact: Sequence[Sequence[int]]) -> float:
    """Mean part of the exact rows that were found."""
    parts = [len(set(map(int, rows)) & set(wanted)) / K for rows, wanted in zip(found, exact, strict=True)]
    return float(np.mean(parts))


def compare_kinds(size: int, folder: Path) -> Figures:
    """Dense kinds on the same vectors."""
    scifact = load_scifact()
    abstracts, _ = load_vectors(scifact)
    _, claims = load_claims()
    similar = SimilarVectors(abstracts)
    vectors = np.concatenate([similar.take(min(BATCH, size - start)) for start in range(0, size, BATCH)])
    exact = find_exactly(vectors, claims)
    figures: Figures = {}
    for kind in KINDS[size]:
        started = time.perf_counter()
        write_dense(vectors, folder / kind, kind)
        seconds = time.perf_counter() - started
        index = open_dense(folder / kind)
        figures[kind] = {
            "build_s": seconds,
            **time_each(lambda i, index=index: index.search(claims[i], K)),  # type: ignore[misc]
            "recall_at_10": recall([index.search(claim, K)[1] for claim in claims], exact),
        }
    return figures


def compare_lexical(size: int, folder: Path) -> Figures:
    """Guildhall's lexical index and the libraries installed, on the same texts."""
    claims, _ = load_claims()
    documents = similar_documents(load_scifact(), size)
    texts = [searched_text(passage) for document in documents for passage in document.passages]
    count = candidates_for(K)

    def build_own(texts: Sequence[str], folder: Path) -> Callable[[str, int], object]:
        write_lexical(texts, folder)
        return open_lexical(folder).search

    figures = {}
    for name, build_one in {"guildhall": build_own, **CONTENDERS}.items():
        if name != "guildhall" and not importlib.util.find_spec(name):
            continue
        started = time.perf_counter()
        search = build_one(texts, folder / name)
        seconds = time.perf_counter() - started
        files = [path.stat().st_size for path in (folder / name).rglob("*")]
        figures[name] = {
            "build_s": seconds,
            "mib": sum(files) / 2**20,
            **time_each(lambda i, search=search: search(claims[i], count)),  # type: ignore[misc]
        }
    return figures


def observe_memory() -> dict[str, float]:
    """Of this process, in MiB: pages of its own, pages others have mapped too, its proportional share, its peak."""
    rollup: dict[str, float] = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, kib = line.split()[:2]
        rollup[name.rstrip(":")] = float(kib) / 1024
    peak = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")
    ).split()[1]
    return {
        "private": rollup["Private_Clean"] + rollup["Private_Dirty"],
        "shared": rollup["Shared_Clean"] + rollup["Shared_Dirty"],
        "proportional": rollup["Pss"],
        "peak": float(peak) / 1024,
    }


def measure_size(size: int, folder: Path) -> Figures:
    """Everything about one size."""
    console.print(f"{size} passages: building")
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(1) as pool:
        figures = pool.apply(build, (size, folder))
        console.print(figures)
    pipes = [spawn.Pipe() for _ in range(2)]
    processes = [spawn.Process(target=serve, args=(folder, number == 0, pipe[1])) for number, pipe in enumerate(pipes)]
    for process in processes:
        process.start()
    for ours, _ in pipes:
        ours.recv()
    for ours, _ in pipes:  # Both have everything open: look at the memory.
        ours.send(None)
    for ours, _ in pipes:
        ours.recv()
    pipes[1][0].send(None)
    processes[1].join()
    pipes[0][0].send(None)
    figures |= pipes[0][0].recv()
    processes[0].join()
    with spawn.Pool(1) as pool:
        figures["search_ms"]["through_actor"] = pool.apply(search_through_actor, (folder,))
        if size == CONTENDERS_AT:
            figures["lexical_contenders"] = pool.apply(compare_lexical, (size, folder))
    console.print(figures)
    return figures


def judge(figures: dict[str, Figures]) -> Figures:
    """The targets, and whether they are reached at the sizes measured."""
    targets: Figures = {
        "recall_at_10": {
            "at_least": RECALL_LIMIT,
            "reached": all(figure["recall_at_10"] >= RECALL_LIMIT for figure in figures.values()),
        }
    }
    if str(ABOVE_EMPTY_CALL_AT) in figures:
        above = figures[str(ABOVE_EMPTY_CALL_AT)]["search_ms"]["through_actor"]["above_empty_call_p50"]
        targets["above_empty_call_p50_ms"] = {
            "at_most": ABOVE_EMPTY_CALL_LIMIT_MS,
            "passages": ABOVE_EMPTY_CALL_AT,
            "reached": above <= ABOVE_EMPTY_CALL_LIMIT_MS,
        }
    return targets


def main() -> None:
    """Run, write the result and say whether the targets hold."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    sizes = arguments.parse_args().sizes
    load_vectors(load_scifact())
    earlier = load_result("retrieval_scale")
    figures, kinds = earlier.get("passages", {}), earlier.get("dense_kinds", {})
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            figures[str(size)] = {"load_average": os.getloadavg(), **measure_size(size, Path(folder))}
        save(figures, kinds)
    spawn = multiprocessing.get_context("spawn")
    for size in KINDS:
        if next(step for step in SIZES if step >= size) in sizes:
            with tempfile.TemporaryDirectory() as folder, spawn.Pool(1) as pool:
                kinds[str(size)] = pool.apply(compare_kinds, (size, Path(folder)))
                console.print(f"{size} vectors: {kinds[str(size)]}")
            save(figures, kinds)


def save(figures: Figures, kinds: Figures) -> None:
    """Write what there is so far: a million takes long enough to be interrupted."""
    path = save_result(
        "retrieval_scale",
        {
            "passages": figures,
            "dense_kinds": kinds,
            "load": f"{QUERIES} questions one after another in one thread, k = {K}, of 12 words on average; through "
            "the actor k = 4, as a fleet file that says nothing asks",
            "targets": judge(figures),
        },
    )
    console.print(f"wrote {path}")


if __name__ == "__main__":
    main()

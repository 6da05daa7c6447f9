"""A search as an expert's replica sees it, through the index actor of its node; beside it the two bounds of that time.

An empty call to the same actor is what any answer that Ray carries from another process costs: giving back a lease
that nobody holds, which the actor looks up and finds gone. The same search in the replica's own process is what a path
beside the actor could save, the same search carried by Ray what the line to the actor does save. They take turns, so
that what else the machine does meets all of them.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray

from benchmarks.scifact import Vectors
from deployments.index_settings import IndexSettings
from deployments.node_index import SEARCH_DEADLINE_S, NodeIndex
from retrieval.index_reader import IndexReader
from retrieval.packed import pack_query, unpack_result
from retrieval.passage import SearchResult
from retrieval.snapshot import SearchQuery
from retrieval.storage import open_storage

FLEET = "retrieval-scale"
# What a fleet file asks for when it says nothing.
K = 4
ROUNDS = 4
WARM = 100


class TimedIndex(NodeIndex):
    """The index of one domain as a replica uses it; an empty call and a search that Ray carries."""

    async def call_empty(self) -> None:
        await self._call("release", ("nobody",), SEARCH_DEADLINE_S)

    async def search_through_ray(self, text: str, vector: Vectors) -> SearchResult:
        query = SearchQuery(vector, text, K)
        return unpack_result(await self._call("search", (pack_query(query),), SEARCH_DEADLINE_S))


class Replica:
    """Stands for an expert's replica: one event loop that searches, one question after another."""

    def __init__(self, location: str, fingerprint: str, texts: list[str], vectors: Vectors) -> None:
        self._index = TimedIndex(FLEET, "measured", IndexSettings(location, fingerprint, passages=K))
        self._reader = IndexReader(open_storage(location, Path()))
        self._texts, self._vectors = texts, vectors

    async def measure(self) -> dict[str, list[float]]:
        """Milliseconds of each way, question by question."""
        await self._index.open()
        self._reader.refresh()
        snapshot = self._reader.snapshot()
        index, texts, vectors = self._index, self._texts, self._vectors

        async def search_here(number: int) -> None:
            snapshot.search(SearchQuery(vectors[number], texts[number], K))

        ways: dict[str, Callable[[int], Any]] = {
            "empty_call": lambda number: index.call_empty(),
            "through_actor": lambda number: index.search(texts[number], vectors[number]),
            "through_ray": lambda number: index.search_through_ray(texts[number], vectors[number]),
            "in_replica": search_here,
        }
        names = list(ways)
        times: dict[str, list[float]] = {name: [] for name in names}
        for turn in range(ROUNDS * len(texts)):
            # Who comes after whom changes, because each leaves the caches to the next.
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                started = time.perf_counter()
                await ways[name](turn % len(texts))
                times[name].append(1000 * (time.perf_counter() - started))
        await index.close()
        return {name: values[WARM:] for name, values in times.items()}


def measure_through_actor(location: str, fingerprint: str, texts: list[str], vectors: Vectors) -> dict[str, Any]:
    """p50 and p99 of each way on a Ray node of its own, and what the search adds to the empty call at the median."""
    os.environ.pop("RAY_ADDRESS", None)
    os.environ["RAY_AUTH_MODE"] = "disabled"
    # Short, because sockets live below it.
    with tempfile.TemporaryDirectory(prefix="gh-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        ray.init(
            address="local",
            num_cpus=1,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=folder,
            logging_level="ERROR",
        )
        try:
            replica = ray.remote(num_cpus=0.1)(Replica).remote(location, fingerprint, texts, vectors)
            times: dict[str, list[float]] = ray.get(replica.measure.remote())
        finally:
            ray.shutdown()
    figures: dict[str, Any] = {
        name: {"p50": float(np.percentile(values, 50)), "p99": float(np.percentile(values, 99))}
        for name, values in times.items()
    }
    figures["above_empty_call_p50"] = figures["through_actor"]["p50"] - figures["empty_call"]["p50"]
    return figures

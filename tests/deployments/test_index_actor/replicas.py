"""Replicas without an engine on a Ray cluster of several nodes, the editions of an index, and what is seen of both."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
from ray.cluster_utils import Cluster

from deployments.index_actor import NAMESPACE, IndexActorReport, actor_name
from deployments.index_settings import IndexSettings, IndexSource
from deployments.node_index import NodeIndex
from retrieval.index_writer import IndexWriter
from retrieval.passage import IndexedDocument, Passage, SearchResult
from retrieval.storage import open_storage

FLEET = "test-fleet"
DIMENSIONS = 384
PATIENCE_S = 30.0
FINGERPRINT = "length-encoder"
EDITION_DOCUMENTS = 49


def embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Vectors that depend on a text's length alone: enough to search with, and nothing to load."""
    vectors = np.stack([np.random.default_rng(len(text)).normal(size=DIMENSIONS) for text in texts])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


@dataclass(frozen=True)
class Load:
    """What a replica's stream of searches saw."""

    searches: int
    versions: tuple[str, ...]
    mixed: int
    failures: tuple[str, ...]
    slowest_s: float


class Replica:
    """Stands for an expert's replica: uses NodeIndex as one does, without an engine."""

    def __init__(self, domain: str, location: str, encoder: str, reranker: str | None) -> None:
        self.index = NodeIndex(FLEET, domain, IndexSettings(location, encoder, passages=4, reranker=reranker))
        self.loading = False

    async def open(self) -> IndexActorReport:
        return await self.index.open()

    async def observe(self) -> IndexActorReport:
        return await self.index.observe()

    async def search(
        self, dimensions: int = DIMENSIONS, deadline_s: float = PATIENCE_S, text: str = "x"
    ) -> SearchResult:
        return await self.index.search(text, np.ones(dimensions, dtype=np.float32), deadline_s)

    async def known(self) -> tuple[str, str]:
        """What the replica would report without asking anybody."""
        return self.index.version, self.index.problem

    async def load(self, streams: int) -> Load:
        """Search without pause in several streams until told to stop."""
        self.loading = True
        failures: list[str] = []
        versions: list[str] = []
        mixed = searches = 0
        slowest = 0.0

        async def stream() -> None:
            nonlocal mixed, searches, slowest
            while self.loading:
                began = time.monotonic()
                try:
                    result = await self.search()
                except Exception as error:  # noqa: BLE001 — every failure counts
                    failures.append(repr(error))
                    await asyncio.sleep(0.1)
                    continue
                searches += 1
                slowest = max(slowest, time.monotonic() - began)
                if not versions or versions[-1] != result.version:
                    versions.append(result.version)
                # Every passage of the tests carries its edition, one edition per version.
                mixed += len({hit.passage.title for hit in result.hits}) != 1

        await asyncio.gather(*(stream() for _ in range(streams)))
        return Load(searches, tuple(versions), mixed, tuple(failures), slowest)

    async def stop_load(self) -> None:
        self.loading = False

    async def close(self) -> None:
        await self.index.close()

    async def pid(self) -> int:
        return os.getpid()


@dataclass(frozen=True)
class Nodes:
    """The cluster of these tests."""

    cluster: Cluster
    ids: tuple[str, ...]


def open_writer(location: object, cache: Path = Path("/nonexistent")) -> IndexWriter:
    return IndexWriter(open_storage(str(location), cache), FINGERPRINT, DIMENSIONS)


def make_document(name: str, edition: str, length: int) -> IndexedDocument:
    passage = Passage(
        text="x " * length, title=edition, source=f"{name}#1", document=name, fingerprint=f"{edition}{length}"
    )
    return IndexedDocument(name, passage.fingerprint, (passage,))


def make_edition(edition: str) -> list[IndexedDocument]:
    """A whole corpus whose every passage says which edition it is of."""
    return [make_document(f"{length}.md", edition, length) for length in range(1, EDITION_DOCUMENTS + 1)]


def build_edition(location: object, edition: str, cache: Path = Path("/nonexistent")) -> str:
    return open_writer(location, cache).build(make_edition(edition), embed).label


def get(reference: Any) -> Any:
    return ray.get(reference, timeout=PATIENCE_S * 2)


def index_actors(domain: str) -> set[str]:
    """The nodes on which a domain has an index actor."""
    prefix = actor_name(FLEET, domain, "", IndexSource("", "")).partition("::")[0] + ":"
    return {
        actor["name"].removeprefix(prefix).partition(":")[0]
        for actor in ray.util.list_named_actors(all_namespaces=True)
        if actor["namespace"] == NAMESPACE and actor["name"].startswith(prefix)
    }


def wait_until(holds: Callable[[], bool], limit_s: float, what: str) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {limit_s:g} s: {what}"
        time.sleep(0.1)


def kill_process(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)

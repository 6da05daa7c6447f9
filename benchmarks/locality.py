"""A search in the index beside its replica, and the same search in one central index for the whole fleet.

Three Ray nodes on one machine, each in a network namespace of its own with its own address, so that what crosses nodes
passes real interfaces and is counted there. Both contenders are the index actor as it ships, asked as a replica asks
it: `local` has one on every node, `central` one on the first node for all. Replicas of the second and third node are
timed, where the central index is always another node's.

The nodes are connected in two ways, taken in turns. `direct`: a bridge of the kernel. `delayed`: a relay that holds
every frame 0.5 ms (`benchmarks.namespaces`). It stands for `tc netem`, which not every kernel has, and costs more than
netem would: it is a process on the same cores, so the round trip that a replica sees is measured and reported too.

All nodes share the cores of this machine. What a fleet of node-local indexes gains from every node searching on its own
cores is therefore not in these figures, only what the way costs. Needs root, for the namespaces.
"""

import asyncio
import os
import socket
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console

from benchmarks.namespaces import (
    DELAY_S,
    GCS_PORT,
    LINKS,
    NODES,
    Link,
    Network,
    address,
    join_cluster,
    ray_node,
    wait_for_node,
    wait_until_listening,
)
from benchmarks.result import save_result, summarize
from deployments.index_actor import IndexActorReport
from deployments.index_settings import IndexSettings
from deployments.node_index import OPEN_DEADLINE_S, SEARCH_DEADLINE_S, NodeIndex
from retrieval.index_writer import IndexWriter
from retrieval.packed import pack_query
from retrieval.passage import IndexedDocument, Passage
from retrieval.snapshot import SearchQuery
from retrieval.storage import open_storage

Contender = Literal["local", "central"]

CONTENDERS: tuple[Contender, ...] = ("local", "central")
PASSAGES = 10_000
PASSAGES_OF_DOCUMENT = 10
PASSAGE_WORDS = 110
QUESTION_WORDS = 8
DIMENSIONS = 384
K = 4
ROUNDS = 6
WARM = 50
LIGHT_SEARCHES = 100
# Far below what two cores can do, so that a search waits for others now and then and not always.
CONCURRENT_PER_S = 20.0
CONCURRENT_SEARCHES = 60
ROUND_TRIPS = 50
IDLE_S = 5.0
FIRST_TOKEN_LIMIT_MS = 5.0
FLEET = "locality"
FINGERPRINT = "random-vectors"
SYLLABLES = [consonant + vowel for consonant in "bcdfghjklmnprstvwz" for vowel in "aeiou"]
WORDS = [first + second for first in SYLLABLES for second in SYLLABLES]

console = Console(stderr=True)


class CentralIndex(NodeIndex):
    """The index of one domain for the whole fleet: as `NodeIndex`, but on a named node."""

    def __init__(self, settings: IndexSettings, node_id: str) -> None:
        super().__init__(FLEET, "central", settings)
        self._node_id = node_id

    async def open(self, deadline_s: float = OPEN_DEADLINE_S) -> IndexActorReport:
        self._renewal = asyncio.create_task(self._renew())
        return self._note(await self._call("open", (), deadline_s))


class Replica:
    """Stands for an expert's replica: asks both contenders, and tells how long it waited."""

    def __init__(self, location: str, central_node: str, seed: int) -> None:
        settings = IndexSettings(location, FINGERPRINT, passages=K)
        self.indexes: dict[Contender, NodeIndex] = {
            "local": NodeIndex(FLEET, "local", settings),
            "central": CentralIndex(settings, central_node),
        }
        self.rng = np.random.default_rng(seed)

    async def open(self) -> None:
        for index in self.indexes.values():
            await index.open()
        await self.search_in_turn(CONTENDERS, WARM)

    async def search(self, contender: Contender) -> float:
        """Milliseconds of one search, given the vector."""
        text, vector = draw_question(self.rng)
        started = time.perf_counter()
        result = await self.indexes[contender].search(text, vector)
        waited = time.perf_counter() - started
        if len(result.hits) != K:
            raise RuntimeError(f"{contender} found {len(result.hits)} passages where {K} were asked")
        return waited * 1000

    async def search_in_turn(self, contenders: Sequence[Contender], searches: int) -> dict[Contender, list[float]]:
        """One search after another, each time of every contender."""
        waited: dict[Contender, list[float]] = {contender: [] for contender in contenders}
        for _ in range(searches):
            for contender in contenders:
                waited[contender].append(await self.search(contender))
        return waited

    async def search_at_random(self, contender: Contender, searches: int) -> list[float]:
        """Searches at random moments, however long the ones before take."""
        pauses = self.rng.exponential(1 / CONCURRENT_PER_S, searches)
        tasks = []
        for pause in pauses:
            await asyncio.sleep(pause)
            tasks.append(asyncio.create_task(self.search(contender)))
        return await asyncio.gather(*tasks)

    async def time_round_trips(self) -> list[float]:
        """Milliseconds of round trips to the head's node: opening a connection takes one, and no process there."""
        times = []
        for _ in range(ROUND_TRIPS):
            started = time.perf_counter()
            socket.create_connection((address(0), GCS_PORT)).close()
            times.append((time.perf_counter() - started) * 1000)
        return times

    async def observe_sizes(self) -> dict[str, int]:
        """Bytes of a search's call and of its result."""
        text, vector = draw_question(self.rng)
        query = pack_query(SearchQuery(vector, text, K))
        result: bytes = await self.indexes["local"]._call("search", (query,), SEARCH_DEADLINE_S)
        return {"call": len(query), "result": len(result)}

    async def close(self) -> None:
        for index in self.indexes.values():
            await index.close()


def draw_words(rng: np.random.Generator, count: int) -> str:
    """Words as frequent as in a language: the second half as often as the first."""
    ranks = np.minimum(rng.zipf(1.2, count) - 1, len(WORDS) - 1)
    return " ".join(WORDS[rank] for rank in ranks)


def draw_vectors(rng: np.random.Generator, count: int) -> npt.NDArray[np.float32]:
    vectors = rng.normal(size=(count, DIMENSIONS))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def draw_question(rng: np.random.Generator) -> tuple[str, npt.NDArray[np.float32]]:
    return draw_words(rng, QUESTION_WORDS), draw_vectors(rng, 1)[0]


def build_index(folder: Path) -> str:
    """Write the index of random passages; where it lies."""
    rng = np.random.default_rng(0)

    def draw_document(number: int) -> IndexedDocument:
        name = f"{number}.md"
        passages = tuple(
            Passage(
                text=draw_words(rng, PASSAGE_WORDS),
                title=f"Document {number}",
                source=f"{name}#{position}",
                document=name,
                position=position,
                fingerprint=str(number),
            )
            for position in range(PASSAGES_OF_DOCUMENT)
        )
        return IndexedDocument(name, str(number), passages)

    location = str(folder / "index")
    writer = IndexWriter(open_storage(location, folder / "cache"), FINGERPRINT, DIMENSIONS)
    documents = (draw_document(number) for number in range(PASSAGES // PASSAGES_OF_DOCUMENT))
    writer.build(documents, lambda texts: draw_vectors(rng, len(texts)))
    return location


class Measurement:
    """Figures by link, contender and name, one value per repeat."""

    def __init__(self, network: Network, replicas: Sequence[Any]) -> None:
        self.network = network
        self.replicas = replicas
        self.figures: dict[str, dict[str, dict[str, list[float]]]] = {
            link: {contender: {} for contender in CONTENDERS} for link in LINKS
        }
        self.round_trips: dict[str, list[float]] = {link: [] for link in LINKS}
        self.idle_bytes_per_s: dict[str, list[float]] = {link: [] for link in LINKS}

    def observe_link(self, link: Link) -> None:
        """The round trip, and what Ray sends anyway: its own reports, and the leases."""
        for replica in self.replicas[1:]:
            self.round_trips[link] += ray.get(replica.time_round_trips.remote())
        crossed, started = self.network.crossed_bytes(), time.monotonic()
        time.sleep(IDLE_S)
        rate = (self.network.crossed_bytes() - crossed) / (time.monotonic() - started)
        self.idle_bytes_per_s[link].append(rate)

    def search_lightly(self, link: Link, order: Sequence[Contender]) -> None:
        """One search at a time on one node at a time."""
        found = [ray.get(replica.search_in_turn.remote(order, LIGHT_SEARCHES)) for replica in self.replicas[1:]]
        for contender in order:
            times = [time for waited in found for time in waited[contender]]
            self._note(self.figures[link][contender], "light", times)

    def search_concurrently(self, link: Link, contender: Contender) -> None:
        """All nodes at the same time."""
        note = self.figures[link][contender]
        crossed, started = self.network.crossed_bytes(), time.monotonic()
        waited = ray.get([replica.search_at_random.remote(contender, CONCURRENT_SEARCHES) for replica in self.replicas])
        idle = self.idle_bytes_per_s[link][-1] * (time.monotonic() - started)
        crossed = self.network.crossed_bytes() - crossed
        times = [time for times in waited[1:] for time in times]
        self._note(note, "concurrent", times)
        note.setdefault("crossed_bytes_per_search", []).append((crossed - idle) / len(times))

    def _note(self, note: dict[str, list[float]], load: str, waited: Sequence[float]) -> None:
        for percent in (50, 99):
            note.setdefault(f"{load}_p{percent}_ms", []).append(float(np.percentile(waited, percent)))

    def ratios(self, link: Link) -> dict[str, Any]:
        """Central to local of every time, each with the one measured beside it."""
        local, central = (self.figures[link][contender] for contender in CONTENDERS)
        return {
            name: summarize([theirs / ours for ours, theirs in zip(local[name], central[name], strict=True)])
            for name in local
            if name.endswith("_ms")
        }


def measure(network: Network, replicas: Sequence[Any]) -> Measurement:
    """Links and contenders take turns, and the order of the contenders changes every round."""
    measurement = Measurement(network, replicas)
    for number in range(ROUNDS):
        for link in LINKS:
            network.connect(link)
            time.sleep(1)
            measurement.observe_link(link)
            order = CONTENDERS if number % 2 == 0 else CONTENDERS[::-1]
            measurement.search_lightly(link, order)
            for contender in (*order, *order[::-1]):
                measurement.search_concurrently(link, contender)
        latest = {
            link: {
                contender: {name: round(values[-1], 2) for name, values in figures.items()}
                for contender, figures in contenders.items()
            }
            for link, contenders in measurement.figures.items()
        }
        console.print(f"round {number + 1} of {ROUNDS}: {latest}")
    network.connect("direct")
    return measurement


def report(measurement: Measurement, sizes: dict[str, int]) -> dict[str, Any]:
    """The figures as they stand in the result."""
    links = {
        link: {
            "round_trip_ms": {
                "p50": float(np.percentile(measurement.round_trips[link], 50)),
                "p99": float(np.percentile(measurement.round_trips[link], 99)),
            },
            "idle_bytes_per_s": summarize(measurement.idle_bytes_per_s[link]),
            "contenders": {
                contender: {name: summarize(values) for name, values in measurement.figures[link][contender].items()}
                for contender in CONTENDERS
            },
            "ratio_central_to_local": measurement.ratios(link),
        }
        for link in LINKS
    }
    added = {
        # A local search crosses nothing: both links tell of it.
        "local": summarize([p50 for link in LINKS for p50 in measurement.figures[link]["local"]["light_p50_ms"]]),
        "central_direct": summarize(measurement.figures["direct"]["central"]["light_p50_ms"]),
        "central_delayed": summarize(measurement.figures["delayed"]["central"]["light_p50_ms"]),
    }
    return {
        "links": links,
        "added_to_first_token_p50_ms": added,
        "serialised_bytes": sizes,
        "targets": {
            "added_to_first_token_p50_ms": {
                "at_most": FIRST_TOKEN_LIMIT_MS,
                "reached": added["local"].median <= FIRST_TOKEN_LIMIT_MS,
            }
        },
        "load": {
            "index": f"{PASSAGES} passages of {PASSAGE_WORDS} words, random vectors of {DIMENSIONS}; hybrid, k={K}",
            "light": f"{LIGHT_SEARCHES} searches of each contender from each of two nodes, one after another, the "
            "contenders in turns, per repeat",
            "concurrent": f"{CONCURRENT_SEARCHES} searches from each of {NODES} nodes at the same time, at random "
            f"moments, {CONCURRENT_PER_S:g} per second and node, per repeat",
        },
        "delay": f"delayed: a relay between network namespaces holds every frame {DELAY_S * 1000:g} ms each way, in "
        "place of tc netem; round_trip_ms is what a node really saw. direct: the kernel's bridge, nothing added",
        "crossed_bytes": "by the counters of the nodes' interfaces under concurrent load, less idle_bytes_per_s; "
        "Ray's report of each call to its control store on the first node is among them, for both contenders",
    }


def main() -> None:
    """Run, write the result and say whether the target holds."""
    os.environ.pop("RAY_ADDRESS", None)
    os.environ["RAY_AUTH_MODE"] = "disabled"
    network = Network()
    with ExitStack() as stack:
        # Short, because sockets live below it.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gh-", dir="/tmp")))
        console.print(f"building an index of {PASSAGES} passages")
        location = build_index(folder)
        stack.enter_context(network.built())
        console.print(f"starting {NODES} Ray nodes")
        network.enter(0)
        stack.enter_context(ray_node(network, 0, folder))
        wait_until_listening()
        stack.callback(ray.shutdown)
        join_cluster()
        ids = [wait_for_node(0)]
        for node in range(1, NODES):
            stack.enter_context(ray_node(network, node, folder))
            ids.append(wait_for_node(node))
        replicas = [
            ray.remote(num_cpus=0.1)(Replica)
            .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False))
            .remote(location, ids[0], seed)
            for seed, node_id in enumerate(ids)
        ]
        ray.get([replica.open.remote() for replica in replicas])
        measurement = measure(network, replicas)
        sizes = ray.get(replicas[1].observe_sizes.remote())
        ray.get([replica.close.remote() for replica in replicas])
    path = save_result("locality", report(measurement, sizes))
    console.print(f"wrote {path}")


if __name__ == "__main__":
    main()

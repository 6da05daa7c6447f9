"""The index actor: one per domain and node, shared by the replicas of that domain on that node.

It lives by leases. Each replica holds one and renews it; when none is left the actor ends itself, so nothing has to
remember to remove it. It follows its index by itself: what is committed there is searched from the next look on, and
started again after a crash it needs nothing back but where the index lies.

The process imports numpy and FAISS, never torch or vLLM: it must be back in about a second. Only a fleet file that
names a reranker brings torch in.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, TypeVar, cast

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from deployments.environment import read_environment
from deployments.index_settings import COPIES_FOLDER, IndexSource
from deployments.logs import configure_logs, log_event
from deployments.search_line import LineAddress, SearchListener
from experts.errors import GuildhallError
from retrieval.index_reader import IndexReader
from retrieval.packed import search_packed
from retrieval.passage import SearchResult
from retrieval.snapshot import SearchQuery, Snapshot
from retrieval.storage import open_storage

if TYPE_CHECKING:
    from retrieval.rerank import Reranker

NAMESPACE = "guildhall"
# A lease outlives four missed renewals: an event loop that hangs for seconds does not lose its index.
LEASE_S = 5.0
RENEW_S = 1.0
WATCH_S = 0.5
# What is added is found within a second: this, plus the time to take a commit up.
FOLLOW_S = 0.2
# FAISS lets go of the interpreter while it searches; more threads than this only queue for the same cores.
SEARCH_THREADS = 4
# A cross-encoder reads every passage with the question; beyond these the fused order has little left to gain.
RERANKED = 20
RERANK_THREADS = 1


Method = TypeVar("Method", bound=Callable[..., object])


def _never_behind_a_search(method: Method) -> Method:
    return cast(Method, ray.method(concurrency_group="lease")(method))


def _never_before_a_search(method: Method) -> Method:
    return cast(Method, ray.method(concurrency_group="rerank")(method))


@dataclass(frozen=True, slots=True)
class IndexActorReport:
    """What an index actor says about itself: where it runs, what it serves, and for whom.

    `version` is empty before the index is open; `problem` is empty unless something newer cannot be served. `line` is
    for replicas on its node.
    """

    node_id: str
    pid: int
    version: str
    problem: str
    holders: tuple[str, ...]
    line: LineAddress


class IndexActor:
    """The actor's code: searches run in `SEARCH_THREADS` threads, leases and reranking in threads of their own."""

    def __init__(self, source: IndexSource) -> None:
        configure_logs()
        self._source = source
        self._node_id: str = ray.get_runtime_context().get_node_id()
        self._opening = threading.Lock()
        self._reader: IndexReader | None = None
        self._problem = ""
        self._rerankers: dict[str, Reranker] = {}
        # Guards the leases; held for dictionary work only.
        self._lock = threading.Lock()
        self._leases: dict[str, float] = {}
        self._unheld_since = time.monotonic()
        self._had_holder = False
        self._line = SearchListener(self.search, SEARCH_THREADS).listen()
        threading.Thread(target=self._watch, args=(ray.get_runtime_context().current_actor,), daemon=True).start()
        threading.Thread(target=self._follow, daemon=True).start()

    def open(self) -> IndexActorReport:
        """Open the index, so that no search has to wait for it.

        Raises IndexDamaged, EncoderMismatch, or IndexUnavailable where there is no index.
        """
        self._open()
        return self._report()

    def search(self, query: bytes) -> bytes:
        """Search what is served now, opening the index first where a restart has lost it.

        The query is packed, and so is the result: `retrieval.packed`.
        """
        return search_packed(self._open(), query)

    @_never_before_a_search
    def load_reranker(self, name: str) -> None:
        """Load a cross-encoder, so that no search has to wait for it; raises ConfigurationError."""
        self._load_reranker(name)

    @_never_before_a_search
    def search_reranked(self, query: SearchQuery, name: str) -> SearchResult:
        """Search wider, then let a cross-encoder choose and order the `query.k` best; scores are then its own."""
        wider = replace(query, k=max(query.k, RERANKED))
        found = self._open().search(wider)
        hits = self._load_reranker(name).rank(query.text, found.hits, query.k)
        return replace(found, hits=tuple(hits))

    @_never_behind_a_search
    def hold(self, holder: str) -> IndexActorReport:
        """Take or renew a holder's lease."""
        with self._lock:
            self._leases[holder] = time.monotonic()
            self._had_holder = True
        return self._report()

    @_never_behind_a_search
    def release(self, holder: str) -> None:
        """Give a lease back; an actor without leases ends within two `WATCH_S`."""
        with self._lock:
            self._leases.pop(holder, None)

    @_never_behind_a_search
    def observe(self) -> IndexActorReport:
        return self._report()

    def _open(self) -> Snapshot:
        """What is served now, which never changes: a search works on it to its end."""
        if self._reader is not None:
            return self._reader.snapshot()
        with self._opening:  # One reads and checks the files, the others wait for it.
            if self._reader is None:
                storage = open_storage(self._source.location, read_environment().data_dir / COPIES_FOLDER)
                reader = IndexReader(storage, self._source.encoder)
                reader.refresh()
                self._reader = reader
            return self._reader.snapshot()

    def _load_reranker(self, name: str) -> "Reranker":
        if name not in self._rerankers:
            import torch

            from retrieval.rerank import Reranker

            # As for the encoder: threads that share their cores with engines wait for each other at every layer.
            torch.set_num_threads(RERANK_THREADS)
            reranker = Reranker(name)
            reranker.load()
            self._rerankers[name] = reranker
        return self._rerankers[name]

    def _report(self) -> IndexActorReport:
        reader = self._reader
        with self._lock:
            return IndexActorReport(
                node_id=self._node_id,
                pid=os.getpid(),
                version=reader.snapshot().label if reader is not None else "",
                problem=self._problem,
                holders=tuple(sorted(self._leases)),
                line=self._line,
            )

    def _follow(self) -> None:
        """Take up what is committed, and stay with the last good state where that cannot be."""
        while True:
            time.sleep(FOLLOW_S)
            try:
                if self._reader is None:
                    if self._had_holder:  # After a crash: the next search must not be the one that opens the index.
                        self._open()
                    continue
                # A version that is being pulled and checked does not hold up what is added meanwhile.
                self._reader.refresh(wait=False)
                problem = "; ".join(self._reader.snapshot().damage)
            except GuildhallError as error:
                problem = str(error)
            except Exception as error:  # noqa: BLE001 - the thread's edge: a storage that is away comes back
                problem = f"index {self._source.location} cannot be read now ({type(error).__name__}: {error})"
            if problem and problem != self._problem:
                log_event("index_not_taken_up", logging.ERROR, serving=self._report().version, error=problem)
            self._problem = problem

    def _watch(self, itself: ray.actor.ActorHandle) -> None:
        while True:
            time.sleep(WATCH_S)
            if self._drop_stale():
                # exit_actor() would not do: under max_task_retries its process stays until the task that called it has
                # been retried. A holder that comes in this moment finds the actor dead and creates the next one.
                ray.kill(itself, no_restart=True)

    def _drop_stale(self) -> bool:
        """Forget leases not renewed for `LEASE_S`; whether it is time to end."""
        now = time.monotonic()
        with self._lock:
            self._leases = {holder: renewed for holder, renewed in self._leases.items() if now - renewed < LEASE_S}
            if self._leases:
                self._unheld_since = now
            # After a start or a restart the holders get a whole lease's time to come; later the last one takes the
            # actor with it.
            return now - self._unheld_since >= (WATCH_S if self._had_holder else LEASE_S)


# A crash is mended by Ray: the process comes back and the calls in flight are sent again. Threads rather than asyncio:
# 1.1 ms a call against 1.4 ms, 2,100 calls a second against 1,400 (two idle cores, four hits).
_ACTOR_CLASS = ray.remote(
    max_restarts=-1,
    max_task_retries=-1,
    max_concurrency=SEARCH_THREADS,
    concurrency_groups={"lease": 1, "rerank": RERANK_THREADS},
)(IndexActor)


def actor_name(fleet: str, domain: str, node_id: str, source: IndexSource) -> str:
    """The name, within `NAMESPACE`, of the actor of a domain's index on a node.

    An index that moves, or that another encoder built, has an actor of its own: both serve until replicas let go.
    """
    which = sha256(f"{source.location}\n{source.encoder}".encode()).hexdigest()[:8]
    return f"index:{fleet}:{domain}:{node_id}:{which}"


def join_index_actor(fleet: str, domain: str, node_id: str, source: IndexSource) -> ray.actor.ActorHandle:
    """The actor of a domain's index on a node, created there when there is none; does not wait for it to start.

    Blocks for a round trip to Ray's control store: call it off the event loop.
    """
    return _ACTOR_CLASS.options(
        name=actor_name(fleet, domain, node_id, source),
        namespace=NAMESPACE,
        get_if_exists=True,
        # Not owned by the replica that happens to come first.
        lifetime="detached",
        num_cpus=0,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
    ).remote(source)

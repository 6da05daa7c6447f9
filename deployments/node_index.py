"""An expert replica's way to its domain's index: the index actor on the replica's own node."""

import asyncio
import logging
import time
import uuid
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
from ray.exceptions import RayError, RayTaskError

from deployments.index_actor import RENEW_S, IndexActorReport, join_index_actor
from deployments.index_settings import IndexSettings
from deployments.logs import log_event
from deployments.search_line import SearchLines
from experts.errors import GuildhallError, IndexUnavailable
from retrieval.packed import pack_query, unpack_result
from retrieval.passage import SearchResult
from retrieval.snapshot import SearchQuery

# An actor that was killed answers again after 1.0 to 1.5 s on two busy cores; a node may need ten times that.
SEARCH_DEADLINE_S = 15.0
# The first start of a large index fetches, reads and checks all its files.
OPEN_DEADLINE_S = 600.0
REJOIN_PAUSE_S = 0.1


class NodeIndex:
    """The index of one domain, as one replica uses it: open, search, close, on one event loop.

    Every call goes to the index actor of this node and finds, awaits or creates it again when it is gone. Searches go
    past Ray while the actor is there.
    """

    def __init__(self, fleet: str, domain: str, settings: IndexSettings) -> None:
        self.settings = settings
        self.version = ""
        """What the actor last said that it serves."""
        self.problem = ""
        """Why it does not serve something newer; empty when it has no reason to."""
        self._fleet = fleet
        self._domain = domain
        self._holder = uuid.uuid4().hex
        self._node_id = ""
        self._actor: ray.actor.ActorHandle | None = None
        self._joining = asyncio.Lock()
        self._lines: SearchLines | None = None
        self._renewal: asyncio.Task[None] | None = None

    async def open(self, deadline_s: float = OPEN_DEADLINE_S) -> IndexActorReport:
        """Create or join the actor on this node, wait until the index is open there, and keep it from then on.

        Raises IndexDamaged or EncoderMismatch, or IndexUnavailable when the actor is not ready in time.
        """
        self._node_id = ray.get_runtime_context().get_node_id()
        # Before the index is open: reading a large one takes longer than a lease lasts.
        self._renewal = asyncio.create_task(self._renew(), name=f"index lease {self._domain}")
        try:
            await self._load_reranker(self.settings, deadline_s)
            return self._note(await self._call("open", (), deadline_s))
        except BaseException:  # Whatever it was, also a cancellation: an index that is not open holds no lease.
            await self.close()
            raise

    async def search(
        self, text: str, vector: npt.NDArray[np.float32], deadline_s: float = SEARCH_DEADLINE_S
    ) -> SearchResult:
        """The passages for a sub-query, as the settings say, all from one version, found on this node.

        Raises IndexUnavailable when the actor does not answer in time, ConfigurationError for a vector of another
        encoder.
        """
        settings = self.settings
        query = SearchQuery(
            vector=vector, text=text, k=settings.passages, mode=settings.search, dense_weight=settings.dense_weight
        )
        if settings.reranker is None:
            return unpack_result(await self._search(pack_query(query), deadline_s))
        reranked: SearchResult = await self._call("search_reranked", (query, settings.reranker), deadline_s)
        return reranked

    async def settle(self, settings: IndexSettings, deadline_s: float = OPEN_DEADLINE_S) -> None:
        """Search the same index with other settings from now on; raises ConfigurationError and changes nothing."""
        await self._load_reranker(settings, deadline_s)
        self.settings = settings

    async def observe(self, deadline_s: float = SEARCH_DEADLINE_S) -> IndexActorReport:
        """What this node's actor reports of itself."""
        return self._note(await self._call("observe", (), deadline_s))

    async def close(self) -> None:
        """Give the lease back; the actor ends when it was the last. Never raises for an actor that is gone."""
        renewal, self._renewal = self._renewal, None
        if renewal is not None:
            renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)
        self._drop_lines()
        actor, self._actor = self._actor, None
        if actor is not None:
            try:
                await asyncio.wait_for(actor.release.remote(self._holder), RENEW_S)
            except (RayError, TimeoutError):
                log_event("index_lease_lost", domain=self._domain)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                self._note(await self._call("hold", (self._holder,), SEARCH_DEADLINE_S))
            except GuildhallError as error:
                log_event("index_lease_not_renewed", logging.WARNING, domain=self._domain, error=str(error))
            except Exception as error:  # noqa: BLE001 - the task's edge: a lease must outlive one renewal's mistake
                log_event("index_lease_not_renewed", logging.ERROR, domain=self._domain, error=type(error).__name__)

    def _note(self, report: IndexActorReport) -> IndexActorReport:
        self.version, self.problem = report.version, report.problem
        if self._lines is None or self._lines.address != report.line:
            self._drop_lines()
            # An actor elsewhere listens on the loopback of its own node.
            if report.node_id == ray.get_runtime_context().get_node_id():
                self._lines = SearchLines(report.line)
        return report

    def _drop_lines(self) -> None:
        lines, self._lines = self._lines, None
        if lines is not None:
            lines.close()

    async def _load_reranker(self, settings: IndexSettings, deadline_s: float) -> None:
        if settings.reranker is not None:
            await self._call("load_reranker", (settings.reranker,), deadline_s)

    async def _search(self, query: bytes, deadline_s: float) -> bytes:
        """What the actor finds, past Ray where it can be reached so; what its next report says mends a broken line."""
        lines, began = self._lines, time.monotonic()
        if lines is not None:
            try:
                async with asyncio.timeout(deadline_s):
                    return await lines.search(query)
            except TimeoutError:
                raise self._explain_silence("search", deadline_s, "it did not answer") from None
            except OSError:
                if self._lines is lines:
                    self._drop_lines()
        found: bytes = await self._call("search", (query,), deadline_s - (time.monotonic() - began))
        return found

    async def _call(self, method: str, arguments: tuple[object, ...], deadline_s: float) -> Any:
        """Call the actor until it answers, joining it again each time it has ended."""
        observed = "it did not answer"
        joined = 0
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    actor = self._actor
                    try:
                        if actor is None:
                            joined += 1
                            actor = await self._join()
                        return await getattr(actor, method).remote(*arguments)
                    except RayTaskError:
                        raise
                    except (RayError, ValueError) as error:
                        # Ray itself repeats a call to an actor that it restarts; this one has ended, or its name is
                        # between two owners (ValueError).
                        observed = str(error).strip().split("\n", 1)[0]
                        if self._actor is actor:
                            self._actor = None
                        await asyncio.sleep(REJOIN_PAUSE_S)
        except RayTaskError as error:
            if isinstance(error.cause, Exception):
                raise error.cause from None
            raise
        except TimeoutError:
            observed = f"{observed}, joined {joined} times"
            raise self._explain_silence(method, deadline_s, observed) from None

    def _explain_silence(self, method: str, deadline_s: float, observed: str) -> IndexUnavailable:
        return IndexUnavailable(
            f"index actor of domain '{self._domain}' on node {self._node_id}: no answer to {method} in "
            f"{deadline_s:g} s, last observed: {observed}; retry, and read the actor's log if it goes on"
        )

    async def _join(self) -> ray.actor.ActorHandle:
        async with self._joining:  # One call finds the actor again, the others wait for it.
            if self._actor is None:
                actor = await asyncio.to_thread(
                    join_index_actor, self._fleet, self._domain, self._node_id, self.settings.source
                )
                report: IndexActorReport = await actor.hold.remote(self._holder)
                if report.node_id != self._node_id:
                    raise IndexUnavailable(
                        f"index actor of domain '{self._domain}' runs on node {report.node_id}, its replica on "
                        f"{self._node_id}; passages must not cross nodes, restart the replica"
                    )
                self._actor = actor
            return self._actor

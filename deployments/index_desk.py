"""The gateway's work on indexes: in threads of its own, so that no question waits for a document."""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from deployments.domain_index import DomainIndex, IndexEncoder
from deployments.fleet_encoder import FleetEncoder
from deployments.index_settings import COPIES_FOLDER, IndexSource
from deployments.logs import log_event
from experts.errors import NotFound, Unavailable
from experts.fleet import Fleet, Index

# Writers of one index wait for each other anyway; a second thread lets another domain go on.
WRITE_THREADS = 2
READ_THREADS = 2
# A passage of 250 tokens takes about 25 ms on one core: a caller of /v1/embeddings waits for one batch at most.
EMBED_BATCH = 4

Result = TypeVar("Result")


class IndexDesk:
    """Opens the indexes of the fleet that is served, and works on them.

    `run_encoder` runs something in the thread that embeds documents and waits for it: each batch waits its turn.
    """

    def __init__(self, data_dir: Path, run_encoder: Callable[[Callable[[], Any]], Any]) -> None:
        self._data_dir = data_dir
        self._run_encoder = run_encoder
        self._open: dict[str, tuple[tuple[Index, IndexSource], DomainIndex]] = {}
        self._writes = ThreadPoolExecutor(WRITE_THREADS, thread_name_prefix="index-write")
        self._reads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="index-read")
        self._compactions: dict[str, asyncio.Task[None]] = {}

    def index(
        self, domain: str, fleet: Fleet, sources: Mapping[str, IndexSource], encoder: FleetEncoder
    ) -> DomainIndex:
        """The index of a domain; raises NotFound, or Unavailable while the fleet's encoder is being changed."""
        settings = fleet.domains[domain].index if domain in fleet.domains else None
        if settings is None or domain not in sources:
            known = ", ".join(name for name in fleet.domains if name in sources)
            raise NotFound(f"there is no index of a domain '{domain[:60]}'; there are {known or 'none'}", "domain")
        source = sources[domain]
        if source.encoder != encoder.fingerprint:
            raise Unavailable(f"the encoder of domain '{domain}' is being changed; retry in a few seconds")
        wanted = (settings, source)
        held = self._open.get(domain)
        if held is None or held[0] != wanted:

            def embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
                batches = [texts[start : start + EMBED_BATCH] for start in range(0, len(texts), EMBED_BATCH)]
                return np.concatenate([self._run_encoder(partial(encoder.embed_documents, batch)) for batch in batches])

            of_fleet = IndexEncoder(encoder.fingerprint, encoder.dimensions, embed)
            opened = DomainIndex(domain, settings, source, of_fleet, self._data_dir / COPIES_FOLDER)
            held = self._open[domain] = (wanted, opened)
        return held[1]

    async def read(self, work: Callable[[], Result]) -> Result:
        """Look at or search an index."""
        return await asyncio.get_running_loop().run_in_executor(self._reads, work)

    async def write(self, work: Callable[[], Result]) -> Result:
        """Change an index; a caller who leaves before it began cancels it."""
        return await asyncio.get_running_loop().run_in_executor(self._writes, work)

    def compact_beside(self, index: DomainIndex) -> None:
        """Fold what was added into a version of its own, in a process of its own, unless one is at it already."""
        task = self._compactions.get(index.domain)
        if task is None or task.done():
            self._compactions[index.domain] = asyncio.create_task(self._compact(index))

    async def _compact(self, index: DomainIndex) -> None:
        if not await self.read(index.is_compaction_due):
            return
        arguments = [*index.compaction_arguments(), str(self._data_dir / COPIES_FOLDER)]
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "deployments.index_compaction", *arguments)
        log_event("index_compacted", domain=index.domain, code=await process.wait())

    def close(self) -> None:
        """Take no more work; what is being written is finished."""
        for task in self._compactions.values():
            task.cancel()
        for threads in (self._writes, self._reads):
            threads.shutdown(wait=False, cancel_futures=True)

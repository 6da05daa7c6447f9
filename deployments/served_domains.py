"""What an engine's replica holds for its domains: their adapters in the engine, their indexes on its node."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from ray.llm._internal.serve.core.configs.llm_config import DiskMultiplexConfig
from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine
from vllm.entrypoints.serve.lora.protocol import UnloadLoRAAdapterRequest

from deployments.applications import AdapterSource
from deployments.index_settings import IndexSettings
from deployments.logs import log_event
from deployments.node_index import NodeIndex


@dataclass(slots=True)
class ServedDomain:
    """What the replica holds for one domain: model id per variant, and its index on this node."""

    model_ids: dict[str, str]
    index: NodeIndex | None


class ServedDomains:
    """The domains of one engine's replica; `base_model_id` is the id under which the engine answers without adapter.

    `problems` has, by domain, why one could not be brought to what the fleet file asks for.
    """

    def __init__(self, engine: VLLMEngine, base_model_id: str) -> None:
        self._engine = engine
        self._base_model_id = base_model_id
        self._domains: dict[str, ServedDomain] = {}
        self._configuring = asyncio.Lock()
        self.problems: dict[str, str] = {}

    def find(self, domain: str) -> ServedDomain | None:
        """What the replica holds for a domain; None for one that it does not serve."""
        return self._domains.get(domain)

    def indexes(self) -> dict[str, NodeIndex]:
        """The indexes by domain, of those that have one."""
        return {name: domain.index for name, domain in self._domains.items() if domain.index is not None}

    async def apply(self, user_config: Mapping[str, Any]) -> None:
        """Bring adapters and indexes to what `plan_serve_config` wrote; what did not change is left alone."""
        async with self._configuring:
            wanted: dict[str, Any] = user_config["domains"]
            prepared = await asyncio.gather(
                *(self._prepare(user_config["fleet"], name, settings) for name, settings in wanted.items()),
                return_exceptions=True,
            )
            domains: dict[str, ServedDomain] = {}
            self.problems = {}
            for name, result in zip(wanted, prepared, strict=True):
                if isinstance(result, ServedDomain):
                    domains[name] = result
                    continue
                if not isinstance(result, Exception):
                    raise result
                # Raising would make Serve stop the replica, and with it every other domain of this engine.
                log_event("domain_not_applied", logging.ERROR, domain=name, error=str(result))
                self.problems[name] = str(result)
                if name in self._domains:
                    domains[name] = self._domains[name]
            before, self._domains = self._domains, domains
            await self._release(before)

    async def _prepare(self, fleet: str, name: str, settings: Mapping[str, Any]) -> ServedDomain:
        """One domain with its adapters loaded and its index open on this node; the index last: it settles at once."""
        model_ids = {
            variant: await self._load_adapter(name, variant, AdapterSource(**adapter) if adapter else None)
            for variant, adapter in settings["adapters"].items()
        }
        index = await self._open_index(fleet, name, settings["index"])
        return ServedDomain(model_ids, index)

    async def _load_adapter(self, domain: str, variant: str, adapter: AdapterSource | None) -> str:
        """The id under which the engine answers for a variant; loads the adapter if it is not there yet."""
        if adapter is None:
            return self._base_model_id
        # The id names folder and content too: either makes a new adapter, and requests under way keep the old one.
        source = f"{adapter.folder} {adapter.checksum}"
        model_id = f"{domain}-{variant}-{sha256(source.encode()).hexdigest()[:8]}"
        await self._engine.resolve_lora(
            DiskMultiplexConfig(
                model_id=model_id, local_path=adapter.folder, lora_assigned_int_id=1, max_total_tokens=None
            )
        )
        return model_id

    async def _open_index(self, fleet: str, domain: str, settings: Mapping[str, Any] | None) -> NodeIndex | None:
        if settings is None:
            return None
        held = self._domains.get(domain)
        wanted = IndexSettings(**settings)
        if held is not None and held.index is not None and held.index.settings.source == wanted.source:
            await held.index.settle(wanted)
            return held.index
        index = NodeIndex(fleet, domain, wanted)
        await index.open()
        return index

    async def _release(self, before: Mapping[str, ServedDomain]) -> None:
        """Give back what the domains before held and the present ones do not."""
        indexes = {id(domain.index) for domain in self._domains.values()}
        model_ids = {model_id for domain in self._domains.values() for model_id in domain.model_ids.values()}
        model_ids.add(self._base_model_id)
        for domain in before.values():
            if domain.index is not None and id(domain.index) not in indexes:
                await domain.index.close()
            for model_id in set(domain.model_ids.values()) - model_ids:
                await self._engine._oai_models.unload_lora_adapter(UnloadLoRAAdapterRequest(lora_name=model_id))

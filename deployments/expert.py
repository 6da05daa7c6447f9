"""The replica of an engine: vLLM behind Ray's LLMServer, answering sub-queries from its domains' indexes."""

import asyncio
import json
import logging
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import ray
from ray import serve
from ray.llm._internal.common.callbacks.base import CallbackBase
from ray.llm._internal.serve.core.configs.llm_config import DiskMultiplexConfig
from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine
from ray.serve.llm import LLMConfig
from ray.serve.llm.deployment import LLMServer
from ray.serve.llm.openai_api_models import ChatCompletionRequest, CompletionRequest
from ray.util.placement_group import PlacementGroup
from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.engine.protocol import EngineClient
from vllm.entrypoints.serve.lora.protocol import UnloadLoRAAdapterRequest
from vllm.platforms import current_platform

from deployments.applications import AdapterSource
from deployments.engine_arguments import plan_engine_arguments
from deployments.expert_call import (
    ExpertEvent,
    ExpertRequest,
    Failed,
    Finished,
    ReplicaState,
    Retrieved,
    TextDelta,
)
from deployments.gathered_events import choose_interval_s, gather_events
from deployments.index_settings import IndexSettings
from deployments.logs import log_event
from deployments.node_index import NodeIndex
from experts.errors import GuildhallError, IndexUnavailable
from experts.fleet import Engine, is_path
from experts.prompt import Message, render_messages
from retrieval.passage import SearchResult
from router.question import Citation, Failure, Usage

UNKNOWN_LOGPROB = -9999.0
MARKS = re.compile(r"\[(\d{1,4}(?: ?, ?\d{1,4}){0,15})\]")


class SkipDownload(CallbackBase):
    """Leaves out Ray's download step, which starts a process with all of vLLM to find that a local folder is local."""

    async def on_before_node_init(self) -> None:
        self.ctx.run_init_node = False


class ExpertEngine(VLLMEngine):
    """Ray's vLLM engine that runs the model of a CPU engine inside the engine-core process.

    vLLM gives it a process of its own there, so that the cores of OpenMP can be bound; `plan_engine_arguments` binds
    none. One process less saves the third import of vLLM, which comes after the other two: 15 s of a start of 83 s on
    two cores, and a message over shared memory each way in every step.
    """

    def _start_async_llm_engine(
        self, vllm_engine_args: AsyncEngineArgs, vllm_engine_config: VllmConfig, placement_group: PlacementGroup
    ) -> EngineClient:
        if current_platform.is_cpu():
            vllm_engine_config.parallel_config.distributed_executor_backend = "uni"
        return super()._start_async_llm_engine(vllm_engine_args, vllm_engine_config, placement_group)


@dataclass(slots=True)
class _ServedDomain:
    """What the replica holds for one domain: model id per variant, and its index on this node."""

    model_ids: dict[str, str]
    index: NodeIndex | None


class ExpertServer(LLMServer):
    """Ray's LLM server that also knows the domains of its engine: their adapters and their indexes on its node."""

    _default_engine_cls = ExpertEngine

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits it
        self, name: str, engine: Engine, gpu_type: str | None
    ) -> None:
        self._domains: dict[str, _ServedDomain] = {}
        self._problems: dict[str, str] = {}
        self._configuring = asyncio.Lock()
        self._running = 0
        self._requests: Counter[str] = Counter()
        self._completion_tokens: Counter[str] = Counter()
        self._started_at = time.monotonic()
        await super().__init__(_plan_llm_config(name, engine, gpu_type))

    async def _start_engine(self) -> None:
        # Without the usage report to Ray's makers that LLMServer sends here: it holds the replica back until a detached
        # actor has imported all of ray.llm, 5 s on two cores.
        await self.engine.start()

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Bring adapters and indexes to what `plan_serve_config` wrote; what did not change is left alone."""
        async with self._configuring:
            wanted: dict[str, Any] = user_config["domains"]
            prepared = await asyncio.gather(
                *(self._prepare(user_config["fleet"], name, settings) for name, settings in wanted.items()),
                return_exceptions=True,
            )
            domains: dict[str, _ServedDomain] = {}
            self._problems = {}
            for name, result in zip(wanted, prepared, strict=True):
                if isinstance(result, _ServedDomain):
                    domains[name] = result
                    continue
                if not isinstance(result, Exception):
                    raise result
                # Raising would make Serve stop the replica, and with it every other domain of this engine.
                log_event("domain_not_applied", logging.ERROR, domain=name, error=str(result))
                self._problems[name] = str(result)
                if name in self._domains:
                    domains[name] = self._domains[name]
            before, self._domains = self._domains, domains
            await self._release(before)

    async def _prepare(self, fleet: str, name: str, settings: Mapping[str, Any]) -> _ServedDomain:
        """One domain with its adapters loaded and its index open on this node; the index last: it settles at once."""
        model_ids = {
            variant: await self._load_adapter(name, variant, AdapterSource(**adapter) if adapter else None)
            for variant, adapter in settings["adapters"].items()
        }
        index = await self._open_index(fleet, name, settings["index"])
        return _ServedDomain(model_ids, index)

    async def _load_adapter(self, domain: str, variant: str, adapter: AdapterSource | None) -> str:
        """The id under which the engine answers for a variant; loads the adapter if it is not there yet."""
        if adapter is None:
            return str(self._llm_config.model_id)
        # The id names folder and content too: either makes a new adapter, and requests under way keep the old one.
        source = f"{adapter.folder} {adapter.checksum}"
        model_id = f"{domain}-{variant}-{sha256(source.encode()).hexdigest()[:8]}"
        await self.engine.resolve_lora(
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

    async def _release(self, before: Mapping[str, _ServedDomain]) -> None:
        """Give back what the domains before held and the present ones do not."""
        indexes = {id(domain.index) for domain in self._domains.values()}
        model_ids = {model_id for domain in self._domains.values() for model_id in domain.model_ids.values()}
        model_ids.add(str(self._llm_config.model_id))
        for domain in before.values():
            if domain.index is not None and id(domain.index) not in indexes:
                await domain.index.close()
            for model_id in set(domain.model_ids.values()) - model_ids:
                await self.engine._oai_models.unload_lora_adapter(UnloadLoRAAdapterRequest(lora_name=model_id))

    async def answer(self, request: ExpertRequest) -> AsyncIterator[list[ExpertEvent]]:
        """Events of one answer, each item all that has gathered since the one before."""
        self._running += 1
        self._requests[request.domain] += 1
        try:
            async with aclosing(
                gather_events(self._answer(request), lambda: choose_interval_s(self._running))
            ) as gathered:
                async for events in gathered:
                    yield events
        finally:
            self._running -= 1

    async def _answer(self, request: ExpertRequest) -> AsyncGenerator[ExpertEvent, None]:
        started = time.perf_counter()
        domain = self._domains.get(request.domain)
        if domain is None or request.variant not in domain.model_ids:
            message = _not_served(request.domain, request.variant)
            yield Failed(Failure("expert_unavailable", message, retryable=True))
            return
        result = SearchResult((), "")
        if domain.index is not None and request.vector is not None:
            try:
                result = await domain.index.search(request.text, request.vector)
            except GuildhallError as error:
                retryable = isinstance(error, IndexUnavailable)
                yield Failed(Failure("index_unavailable", str(error), retryable))
                return
        retrieved = time.perf_counter()
        citations = _number_citations(request.domain, result)
        yield Retrieved(tuple(replace(citation, text="") for citation in citations), retrieved - started)
        chat = _build_chat_request(request, result, domain.model_ids[request.variant])
        first_token: float | None = None
        texts: list[str] = []
        logprobs: list[float] = []
        finish_reason = "stop"
        usage = Usage()
        async with aclosing(self.engine.chat(chat)) as items:
            async for item in items:
                if not isinstance(item, str):
                    yield _observe_engine_error(item.error, request)
                    return
                for chunk in _parse_chunks(item):
                    if "error" in chunk:
                        yield Failed(Failure("engine_error", str(chunk["error"].get("message")), retryable=True))
                        return
                    for choice in chunk["choices"]:
                        text = choice["delta"].get("content") or ""
                        finish_reason = choice.get("finish_reason") or finish_reason
                        logprobs += _read_logprobs(choice)
                        if text:
                            first_token = first_token or time.perf_counter()
                            texts.append(text)
                            yield TextDelta(text)
                    if chunk.get("usage"):
                        usage = Usage(chunk["usage"]["prompt_tokens"], chunk["usage"]["completion_tokens"])
        ended = time.perf_counter()
        self._completion_tokens[request.domain] += usage.completion_tokens
        timings = {
            "retrieve": retrieved - started,
            "first_token": (first_token or ended) - started,
            "generate": ended - retrieved,
        }
        cited = _find_cited("".join(texts), citations)
        yield Finished(
            "length" if finish_reason == "length" else "stop",
            usage,
            timings,
            cited,
            logprob_mean=sum(logprobs) / len(logprobs) if logprobs else None,
            logprob_min=min(logprobs, default=None),
        )

    async def complete(self, body: dict[str, Any], domain: str, variant: str) -> AsyncIterator[dict[str, Any]]:
        """OpenAI completions of a raw prompt: one body, or one per chunk where the body asks for a stream."""
        if domain not in self._domains or variant not in self._domains[domain].model_ids:
            yield {"error": {"message": _not_served(domain, variant), "type": "server_error", "code": 503}}
            return
        model_id = self._domains[domain].model_ids[variant]
        self._running += 1
        self._requests[domain] += 1
        try:
            request = CompletionRequest(**{**body, "model": model_id})
            async with aclosing(self.engine.completions(request)) as items:
                async for item in items:
                    for chunk in _parse_chunks(item) if isinstance(item, str) else [item.model_dump(mode="json")]:
                        self._completion_tokens[domain] += (chunk.get("usage") or {}).get("completion_tokens") or 0
                        yield chunk
        finally:
            self._running -= 1

    async def observe(self) -> ReplicaState:
        """What this replica is and has done, for status and readiness."""
        context = ray.get_runtime_context()
        return ReplicaState(
            engine=str(self._llm_config.model_id),
            replica=serve.get_replica_context().replica_id.unique_id,
            node=context.get_node_id(),
            running=self._running,
            requests=dict(self._requests),
            completion_tokens=dict(self._completion_tokens),
            index_versions={
                name: domain.index.version for name, domain in self._domains.items() if domain.index is not None
            },
            uptime_s=time.monotonic() - self._started_at,
            problems=dict(self._problems),
            index_problems={
                name: domain.index.problem
                for name, domain in self._domains.items()
                if domain.index is not None and domain.index.problem
            },
        )


def _number_citations(domain: str, result: SearchResult) -> tuple[Citation, ...]:
    return tuple(
        Citation(
            number=number,
            domain=domain,
            title=hit.passage.title,
            source=hit.passage.source,
            document=hit.passage.document,
            position=hit.passage.position,
            text=hit.passage.text,
            score=hit.score,
            version=result.version,
        )
        for number, hit in enumerate(result.hits, start=1)
    )


def _find_cited(text: str, citations: tuple[Citation, ...]) -> tuple[Citation, ...]:
    """The citations whose number stands in a mark of the text; fusion decides what is really a mark."""
    numbers = {int(number) for mark in MARKS.findall(text) for number in mark.split(",")}
    return tuple(citation for citation in citations if citation.number in numbers)


def _build_chat_request(request: ExpertRequest, result: SearchResult, model_id: str) -> ChatCompletionRequest:
    turns: list[Message] = [{"role": turn.role, "content": turn.text} for turn in request.turns]
    messages = render_messages(request.text, [hit.passage for hit in result.hits], turns)
    sampling = request.sampling
    settings = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "stop": list(sampling.stop) or None,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "response_format": dict(sampling.response_format) if sampling.response_format else None,
        # The chosen tokens' own; without alternatives the engine sorts nothing.
        "logprobs": True if request.score else None,
        "top_logprobs": 0 if request.score else None,
    }
    return ChatCompletionRequest(
        model=model_id,
        messages=messages,
        max_completion_tokens=sampling.max_tokens,
        stream=True,
        stream_options={"include_usage": True},
        request_id=request.request_id,
        **{name: value for name, value in settings.items() if value is not None},
    )


def _parse_chunks(item: str) -> list[dict[str, Any]]:
    """The JSON bodies of server-sent events."""
    bodies = [line.removeprefix("data: ") for line in item.splitlines() if line.startswith("data: ")]
    return [json.loads(body) for body in bodies if body != "[DONE]"]


def _read_logprobs(choice: dict[str, Any]) -> list[float]:
    """Log-probabilities of a chunk's tokens, where they were asked for; vLLM writes -9999 where it knows none."""
    tokens = (choice.get("logprobs") or {}).get("content") or ()
    return [token["logprob"] for token in tokens if token["logprob"] > UNKNOWN_LOGPROB]


def _not_served(domain: str, variant: str) -> str:
    return f"variant '{domain}/{variant}' is not served here; the fleet is changing, or its log says why; retry"


def _observe_engine_error(error: Any, request: ExpertRequest) -> Failed:
    """What vLLM refused, as data; `error` is the body of OpenAI's error object."""
    status = int(error.code) if str(error.code).isdigit() else 500
    if status == 404:  # The adapter left between the look-up and the engine.
        message = _not_served(request.domain, request.variant)
        return Failed(Failure("expert_unavailable", message, retryable=True))
    if 400 <= status < 500:
        # "input_tokens" is vLLM's word for a prompt over the context length; the caller knows no such field.
        param = None if error.param == "input_tokens" else error.param
        return Failed(Failure("invalid_request", error.message, retryable=False), status=status, param=param)
    return Failed(Failure("engine_error", error.message, retryable=True))


def _plan_llm_config(name: str, engine: Engine, gpu_type: str | None) -> LLMConfig:
    arguments = plan_engine_arguments(engine, gpu_type)
    callback = {"callback_config": {"callback_class": SkipDownload}} if is_path(engine.model) else {}
    return LLMConfig(
        model_loading_config={"model_id": name, "model_source": engine.model},
        engine_kwargs=arguments.engine_kwargs,
        accelerator_type=arguments.accelerator_type,
        accelerator_config={"kind": arguments.accelerator_kind},
        # What `deployments.applications` has reserved; Ray sets the workers' share of a GPU by it.
        placement_group_config={"bundle_per_worker": arguments.bundle_per_worker, "strategy": "STRICT_PACK"},
        runtime_env={"env_vars": arguments.env_vars},
        log_engine_metrics=False,
        **callback,
    )

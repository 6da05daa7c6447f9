"""The replica of an engine: vLLM behind Ray's LLMServer, answering sub-queries from its domains' indexes."""

import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, closing
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.llm.deployment import LLMServer
from ray.serve.llm.openai_api_models import CompletionRequest

from deployments.elastic_kv import check_elastic
from deployments.engine_sharing import plan_sharing, write_slo
from deployments.engine_sleep import EngineSleep
from deployments.engine_turn import EngineTurn
from deployments.expert_answer import answer_request, explain_not_served, parse_chunks
from deployments.expert_call import ExpertEvent, ExpertRequest, Failed, Finished, ReplicaState
from deployments.expert_engine import ExpertEngine, plan_llm_config
from deployments.gathered_events import choose_interval_s, gather_events
from deployments.logs import configure_logs
from deployments.node_memory import plan_start_need
from deployments.node_quotas import NodeQuotas
from deployments.replica_load import ReplicaLoad
from deployments.replica_metrics import show_replica
from deployments.served_domains import ServedDomains
from deployments.start_queue import StartQueue, choose_queue_folder
from deployments.traces import AnswerSpans, configure_traces
from experts.errors import Unavailable
from experts.fleet import Engine
from router.question import Failure


class ExpertServer(LLMServer):
    """Ray's LLM server that also knows the domains of its engine: their adapters and their indexes on its node."""

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits it
        self, name: str, engine: Engine, gpu_type: str | None, sharing: Mapping[str, Any]
    ) -> None:
        elastic = engine.elastic_kv is not None
        if elastic:
            check_elastic([name])
        self._running = 0
        self._requests: Counter[str] = Counter()
        self._completion_tokens: Counter[str] = Counter()
        self._started_at = time.monotonic()
        self._load = ReplicaLoad()
        self._sharing = plan_sharing(name, engine, sharing)
        self._quotas = NodeQuotas(Path(self._sharing.ledger))
        turn = EngineTurn(name, StartQueue(choose_queue_folder()), plan_start_need(name, engine))
        shares_gpu = engine.device == "gpu" and engine.gpus < 1
        engine_cls = partial(ExpertEngine, turn=turn, shares_gpu=shares_gpu, elastic=elastic)
        await super().__init__(plan_llm_config(name, engine, gpu_type, self._sharing), engine_cls=engine_cls)
        self._sleep = EngineSleep(self.engine, engine.sleep, turn)
        self._served = ServedDomains(self.engine, name)
        configure_logs()
        configure_traces("guildhall-expert")
        show_replica(name, engine, self._served.indexes, self._sleep, self._quotas.read)

    async def _start_engine(self) -> None:
        # Without the usage report to Ray's makers that LLMServer sends here: it holds the replica back until a detached
        # actor has imported all of ray.llm, 5 s on two cores.
        await self.engine.start()

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Bring adapters and indexes to what `plan_serve_config` wrote; what did not change is left alone."""
        async with self._sleep.awake():
            await self._served.apply(user_config)
        write_slo(self._sharing, user_config["slo"])

    async def fall_asleep(self) -> bool:
        """Sleep until the next request, if none is under way; says whether it does."""
        return await self._sleep.fall_asleep()

    async def wake(self) -> None:
        """Wake, if it sleeps; a replica that is not there yet is awake once this call reaches it."""
        async with self._sleep.awake():
            pass

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
        answer = answer_request(self.engine, self._served.find(request.domain), request)
        with self._load.hold(request.domain) as visit, closing(AnswerSpans(request)) as spans:
            async with AsyncExitStack() as stack:
                try:
                    await stack.enter_async_context(self._sleep.awake())
                except Unavailable as error:
                    yield Failed(Failure("expert_unavailable", str(error), retryable=True))
                    return
                async for event in await stack.enter_async_context(aclosing(answer)):
                    self._load.note(visit, event)
                    spans.note(event)
                    if isinstance(event, Finished):
                        self._completion_tokens[request.domain] += event.usage.completion_tokens
                    yield event

    async def complete(self, body: dict[str, Any], domain: str, variant: str) -> AsyncIterator[dict[str, Any]]:
        """OpenAI completions of a raw prompt: one body, or one per chunk where the body asks for a stream."""
        served = self._served.find(domain)
        if served is None or variant not in served.model_ids:
            yield {"error": {"message": explain_not_served(domain, variant), "type": "server_error", "code": 503}}
            return
        model_id = served.model_ids[variant]
        self._running += 1
        self._requests[domain] += 1
        try:
            request = CompletionRequest(**{**body, "model": model_id})
            with self._load.hold(domain, streams=bool(body.get("stream"))) as visit:
                async with self._sleep.awake(), aclosing(self.engine.completions(request)) as items:
                    async for item in items:
                        self._load.note_text(visit)
                        for chunk in parse_chunks(item) if isinstance(item, str) else [item.model_dump(mode="json")]:
                            self._completion_tokens[domain] += (chunk.get("usage") or {}).get("completion_tokens") or 0
                            yield chunk
        except Unavailable as error:
            yield {"error": {"message": str(error), "type": "server_error", "code": 503}}
        finally:
            self._running -= 1

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What Ray Serve hands to the scaling policy, once a second."""
        return self._load.record()

    async def observe(self) -> ReplicaState:
        """What this replica is and has done, for status and readiness."""
        context = ray.get_runtime_context()
        indexes = self._served.indexes()
        return ReplicaState(
            engine=str(self._llm_config.model_id),
            replica=serve.get_replica_context().replica_id.unique_id,
            node=context.get_node_id(),
            running=self._running,
            requests=dict(self._requests),
            completion_tokens=dict(self._completion_tokens),
            index_versions={name: index.version for name, index in indexes.items()},
            uptime_s=time.monotonic() - self._started_at,
            problems=dict(self._served.problems),
            index_problems={name: index.problem for name, index in indexes.items() if index.problem},
            kv_tokens=self.engine.kv_tokens,
            asleep=self._sleep.asleep,
            quotas=self._quotas.read(),
        )

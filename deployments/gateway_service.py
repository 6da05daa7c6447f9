"""What the gateway serves with: the fleet, its experts, the encoder, and what the router knows of them."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from deployments.api_keys import ApiKeys, IndexKeys
from deployments.chat_response import ROUTED_MODEL
from deployments.environment import read_environment
from deployments.expert_call import Experts, ReplicaState
from deployments.fan_out import FanOut, FanOutRequest
from deployments.feedback import FeedbackStore
from deployments.fleet_encoder import FleetEncoder, embed_questions
from deployments.fleet_status import TokenRates
from deployments.gateway_metrics import GatewayMetrics
from deployments.in_flight import Slots
from deployments.index_desk import IndexDesk
from deployments.index_settings import IndexSource
from deployments.logs import log_event
from deployments.planner_tier import plan_with_generalist
from deployments.router_loading import list_artifacts, load_router
from deployments.traces import open_span
from deployments.variant_loads import VariantLoads, Variants
from experts.errors import Unavailable, UnknownModel
from experts.fleet import Fleet, is_path
from router.planner import RouterSnapshot, is_open, plan_planned, plan_query, plan_single
from router.question import Plan, Question, Vector

if TYPE_CHECKING:
    from deployments.scaling_record import ScalingRecord

# A replica that is alive answers within milliseconds; readiness must not wait for one that is not.
OBSERVE_TIMEOUT_S = 6
# Embedding requests give the encoder back between batches, so that routing never waits for a long one.
EMBEDDING_BATCH = 16
MODELS_NAMED_IN_ERRORS = 20
# How soon a router that was trained or rolled back is served; looking costs one listing of a small folder.
ROUTER_POLL_S = 1.0

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Serving:
    """One fleet, ready to answer."""

    fleet: Fleet
    experts: Experts
    encoder: FleetEncoder
    snapshot: RouterSnapshot
    created: int
    indexes: Mapping[str, IndexSource] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """Who a model id names: nobody in particular, a domain's expert, or one variant of it."""

    domain: str | None = None
    variant: str | None = None


class GatewayService:
    """The gateway's state; its event loop owns it.

    `connect` gives the experts of a fleet. `load_encoder` blocks, so it runs in the router's own thread.
    """

    def __init__(
        self,
        connect: Callable[[Fleet], Experts],
        load_encoder: Callable[[str], FleetEncoder],
        keys: ApiKeys | None = None,
        data_dir: Path | None = None,
        read_scaling: "Callable[[Sequence[str]], Sequence[ScalingRecord]]" = lambda engines: (),
    ) -> None:
        self._read_scaling = read_scaling
        self.keys = keys if keys is not None else ApiKeys()
        self.index_keys = IndexKeys(gateway_has_keys=bool(self.keys))
        self.metrics = GatewayMetrics()
        self.slots = Slots()
        self.rates = TokenRates()
        self._connect = connect
        self._load_encoder = load_encoder
        self.loads = VariantLoads()
        # One thread plans and one embeds documents, so that neither the event loop nor a question waits for a document.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="router")
        self._documents = ThreadPoolExecutor(1, thread_name_prefix="documents")
        data_dir = data_dir if data_dir is not None else read_environment().data_dir
        self.feedback = FeedbackStore(data_dir)
        self.desk = IndexDesk(
            data_dir,
            lambda work: self._documents.submit(work).result(),
        )
        self._wanted: Fleet | None = None
        self._serving: Serving | None = None
        self._loading: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None
        self._problem: str | None = "the gateway has no fleet yet"

    def apply_fleet(self, fleet: Fleet, indexes: Mapping[str, IndexSource] | None = None) -> None:
        """Serve a fleet as soon as its encoder and snapshot are there; until then the one before is served.

        `indexes` says where the indexes of its domains lie.
        """
        self._wanted = fleet
        self.slots.apply_limits(fleet)
        experts = self._connect(fleet)
        if self._serving is None:
            self._problem = f"the encoder '{fleet.router.encoder}' is loading; retry in a few seconds"
        else:
            self._problem = f"a change of fleet '{fleet.name}' is being applied; what was served before still is"
        self._loading = asyncio.create_task(self._load(fleet, experts, indexes or {}))

    async def _load(self, fleet: Fleet, experts: Experts, indexes: Mapping[str, IndexSource]) -> None:
        started = time.perf_counter()
        before = self._serving
        try:
            if before is not None and before.fleet.router.encoder == fleet.router.encoder:
                encoder = before.encoder
            else:
                encoder = await self._run(lambda: self._load_encoder(fleet.router.encoder))
            artifacts = list_artifacts(fleet)
            snapshot = await self._run(lambda: load_router(fleet, encoder))
        except Exception as error:  # noqa: BLE001 - the edge of a background task: readiness reports it
            if self._wanted is fleet:
                self._problem = f"the router of fleet '{fleet.name}' did not load: {error}"
            log_event("fleet_failed", logging.ERROR, fleet=fleet.name, error=str(error))
            return
        if self._wanted is fleet:
            self._serving = Serving(fleet, experts, encoder, snapshot, int(time.time()), indexes)
            self._problem = None
            log_event("fleet_applied", fleet=fleet.name, seconds=round(time.perf_counter() - started, 3))
            if self._following is not None:
                self._following.cancel()
            self._following = asyncio.create_task(self._follow_router(fleet, artifacts))

    async def _follow_router(self, fleet: Fleet, seen: tuple[str, ...]) -> None:
        """Serve each router artifact that is written for the fleet from then on; one that does not load is left."""
        while fleet.router.artifact is not None:
            await asyncio.sleep(ROUTER_POLL_S)
            artifacts = await self._run(lambda: list_artifacts(fleet))
            if artifacts == seen or self._serving is None or self._serving.fleet is not fleet:
                continue
            seen = artifacts
            try:
                snapshot = await self._run(partial(load_router, fleet, self._serving.encoder))
            except Exception as error:  # noqa: BLE001 - the edge of a background task: what is served goes on
                log_event("router_failed", logging.ERROR, fleet=fleet.name, error=str(error))
                continue
            # Questions under way keep the router that planned them.
            self._serving = replace(self._serving, snapshot=snapshot)
            log_event("router_applied", fleet=fleet.name, artifact=artifacts[-1] if artifacts else None)

    async def wait_loaded(self) -> None:
        """Return when the last fleet applied is served or has failed to be."""
        if self._loading is not None:
            await self._loading

    def close(self) -> None:
        """Stop the encoder's thread; what it is computing is finished, what waits is dropped."""
        for task in (self._loading, self._following):
            if task is not None:
                task.cancel()
        self.desk.close()
        self.feedback.close()
        for threads in (self._thread, self._documents):
            threads.shutdown(wait=False, cancel_futures=True)

    @property
    def problem(self) -> str | None:
        """Why the fleet that was applied last is not served; None when it is."""
        return self._problem

    def serving(self) -> Serving:
        """What is served now; raises Unavailable before the first fleet is ready."""
        if self._serving is None:
            raise Unavailable(f"the gateway is not ready: {self._problem}")
        return self._serving

    async def plan(
        self, serving: Serving, question: Question, target: Target, whole: bool, *, request_id: str, deadline: float
    ) -> Plan:
        """The plan for a question; `whole` keeps it in one part, `deadline` is the event loop's time."""
        with open_span("router.plan") as span:
            plan = await self._plan(serving, question, target, whole, request_id, deadline)
            span.set_attribute("guildhall.sub_queries", len(plan.sub_queries))
            span.set_attribute("guildhall.tiers", sorted({part.tier for part in plan.sub_queries}))
        return plan

    async def _plan(
        self, serving: Serving, question: Question, target: Target, whole: bool, request_id: str, deadline: float
    ) -> Plan:
        started = time.perf_counter()
        fleet, snapshot, encoder = serving.fleet, serving.snapshot, serving.encoder

        def decide() -> Plan:
            if target.domain is not None:
                embed = target.domain in snapshot.searched
                return plan_single(question, target.domain, snapshot, encoder, time.perf_counter, embed=embed)
            return plan_query(question, snapshot, encoder, time.perf_counter, whole=whole)

        plan = await self._run(decide)
        if fleet.router.planner_budget_s is not None and target.domain is None and not whole and is_open(plan):
            plan = await self._ask_planner(serving, question, plan, request_id, deadline)
        self.metrics.routing_seconds.observe(time.perf_counter() - started)
        for part in plan.sub_queries:
            self.metrics.tiers.labels(part.tier).inc()
            self.metrics.confidence.labels(part.tier).observe(part.confidence)
        return plan

    async def _ask_planner(
        self, serving: Serving, question: Question, plan: Plan, request_id: str, deadline: float
    ) -> Plan:
        """The generalist's plan, or the router's own with the reason why it stays."""
        fleet = serving.fleet
        answer = await plan_with_generalist(
            serving.experts, fleet, self.slots.domains, question, plan, request_id=request_id, deadline=deadline,
            observe=self.metrics.sub_queries_in_flight.labels(fleet.generalist).set,
        )  # fmt: skip
        self.metrics.planner.labels(answer.outcome).inc()
        self.metrics.planner_seconds.observe(answer.seconds)
        timings_s = {**plan.timings_s, "planner": answer.seconds, "total": plan.timings_s["total"] + answer.seconds}
        if not answer.parts:
            return replace(plan, reasons=(*plan.reasons, answer.reason), timings_s=timings_s)
        asked = replace(plan, timings_s=timings_s)
        return await self._run(
            lambda: plan_planned(
                asked, answer.parts, answer.reason, serving.snapshot, serving.encoder, time.perf_counter
            )
        )

    def fan_out(self, serving: Serving, plan: Plan, request: FanOutRequest) -> FanOut:
        """A plan over the experts of a fleet."""

        async def encode(text: str) -> Vector:
            vectors = await self._run(lambda: embed_questions(serving.encoder, [text]))
            vector: Vector = vectors[0]
            return vector

        domains = serving.fleet.domains
        variants = self.variants(serving)
        return FanOut(plan, request, serving.experts, domains, self.slots.domains, encode, self.metrics, variants)

    def variants(self, serving: Serving) -> Variants:
        """The fleet's variants as they stand now."""
        return Variants(serving.fleet, serving.snapshot.quality, self.loads)

    async def embed(self, serving: Serving, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """The vectors of texts in float32, shape (texts, dimensions)."""
        batches = [texts[start : start + EMBEDDING_BATCH] for start in range(0, len(texts), EMBEDDING_BATCH)]
        loop, embed = asyncio.get_running_loop(), serving.encoder.embed_documents
        return np.concatenate([await loop.run_in_executor(self._documents, embed, list(batch)) for batch in batches])

    async def observe(self, serving: Serving) -> tuple[ReplicaState, ...]:
        """What the replicas report; none when they do not in time."""
        try:
            async with asyncio.timeout(OBSERVE_TIMEOUT_S):
                return await serving.experts.observe()
        except Exception as error:  # noqa: BLE001 - an adapter that cannot look is a fleet that is not ready
            log_event("observe_failed", logging.WARNING, error=type(error).__name__)
            return ()

    async def observe_scaling(self, serving: Serving) -> "Sequence[ScalingRecord]":
        """What was decided last about the replicas of each engine; nothing where that cannot be read."""
        try:
            return await asyncio.to_thread(self._read_scaling, list(serving.fleet.engines))
        except Exception as error:  # noqa: BLE001 - Ray's store is away while its head restarts; the rest is shown
            log_event("scaling_not_read", logging.WARNING, error=type(error).__name__)
            return ()

    async def _run(self, work: Callable[[], Result]) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except RuntimeError as error:
            if "shutdown" in str(error):
                raise Unavailable("the gateway is stopping; retry") from error
            raise


def name_encoder(fleet: Fleet) -> str:
    """The model id of the encoder: its name, or its folder's when it is given by path."""
    encoder = fleet.router.encoder
    return Path(encoder).name if is_path(encoder) else encoder


def find_target(model: str, fleet: Fleet) -> Target:
    """Who a model id names; raises UnknownModel listing the ids that are known."""
    if model == ROUTED_MODEL:
        return Target()
    family, _, rest = model.partition("/")
    name, _, variant = rest.partition("/")
    domain = fleet.domains.get(name) if family == ROUTED_MODEL else None
    if domain is not None and (variant in domain.variants or rest == name):
        return Target(name, variant or None)
    raise unknown_model(model, [ROUTED_MODEL, *(f"{ROUTED_MODEL}/{name}" for name in fleet.domains)])


def unknown_model(model: str, known: Sequence[str]) -> UnknownModel:
    """The error for a model id that nobody answers to."""
    shown = model if len(model) <= 80 else model[:80] + "…"
    named = ", ".join(known[:MODELS_NAMED_IN_ERRORS])
    more = f" and {len(known) - MODELS_NAMED_IN_ERRORS} more" if len(known) > MODELS_NAMED_IN_ERRORS else ""
    return UnknownModel(f"model '{shown}' is not served here; use one of {named}{more}, or see GET /v1/models", "model")


def describe_variant(target: Target, fleet: Fleet) -> tuple[str, str]:
    """Domain and variant of a target that names an expert; the domain's first variant unless it names one."""
    if target.domain is None:
        raise UnknownModel(
            f"model '{ROUTED_MODEL}' routes questions, and a bare completion needs one expert; use one of "
            + ", ".join(f"{ROUTED_MODEL}/{name}" for name in fleet.domains),
            "model",
        )
    return target.domain, target.variant or next(iter(fleet.domains[target.domain].variants))

"""What the gateway serves with: the fleet, its experts, the encoder and the router's snapshot of both."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from deployments.api_keys import ApiKeys, IndexKeys
from deployments.chat_response import ROUTED_MODEL
from deployments.environment import read_environment
from deployments.expert_call import Experts, ReplicaState
from deployments.fan_out import FanOut, FanOutRequest
from deployments.fleet_status import TokenRates
from deployments.gateway_metrics import GatewayMetrics
from deployments.in_flight import Slots
from deployments.index_desk import FingerprintedEncoder, IndexDesk
from deployments.index_settings import IndexSource
from deployments.logs import log_event
from experts.errors import Unavailable, UnknownModel
from experts.fleet import Fleet, is_path
from router.planner import RouterSnapshot, build_snapshot, plan_query, plan_single
from router.question import Plan, Question, Vector

# A replica that is alive answers within milliseconds; readiness must not wait for one that is not.
OBSERVE_TIMEOUT_S = 6
# Embedding requests give the encoder back between batches, so that routing never waits for a long one.
EMBEDDING_BATCH = 16
MODELS_NAMED_IN_ERRORS = 20

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Serving:
    """One fleet, ready to answer."""

    fleet: Fleet
    experts: Experts
    encoder: FingerprintedEncoder
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

    `connect` gives the experts of a fleet. `load_encoder` blocks, so it runs in the encoder's own thread.
    """

    def __init__(
        self,
        connect: Callable[[Fleet], Experts],
        load_encoder: Callable[[str], FingerprintedEncoder],
        keys: ApiKeys | None = None,
        data_dir: Path | None = None,
    ) -> None:
        self.keys = keys if keys is not None else ApiKeys()
        self.index_keys = IndexKeys(gateway_has_keys=bool(self.keys))
        self.metrics = GatewayMetrics()
        self.slots = Slots()
        self.rates = TokenRates()
        self._connect = connect
        self._load_encoder = load_encoder
        # One thread: the encoder serves one batch at a time, and the event loop never waits for it.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self.desk = IndexDesk(
            data_dir if data_dir is not None else read_environment().data_dir,
            lambda work: self._thread.submit(work).result(),
        )
        self._wanted: Fleet | None = None
        self._serving: Serving | None = None
        self._loading: asyncio.Task[None] | None = None
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
            snapshot = await self._run(lambda: build_snapshot(fleet, encoder.encode))
        except Exception as error:  # noqa: BLE001 - the edge of a background task: readiness reports it
            if self._wanted is fleet:
                self._problem = f"the encoder '{fleet.router.encoder}' did not load: {error}"
            log_event("fleet_failed", logging.ERROR, fleet=fleet.name, error=str(error))
            return
        if self._wanted is fleet:
            self._serving = Serving(fleet, experts, encoder, snapshot, int(time.time()), indexes)
            self._problem = None
            log_event("fleet_applied", fleet=fleet.name, seconds=round(time.perf_counter() - started, 3))

    async def wait_loaded(self) -> None:
        """Return when the last fleet applied is served or has failed to be."""
        if self._loading is not None:
            await self._loading

    def close(self) -> None:
        """Stop the encoder's thread; what it is computing is finished, what waits is dropped."""
        if self._loading is not None:
            self._loading.cancel()
        self.desk.close()
        self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def problem(self) -> str | None:
        """Why the fleet that was applied last is not served; None when it is."""
        return self._problem

    def serving(self) -> Serving:
        """What is served now; raises Unavailable before the first fleet is ready."""
        if self._serving is None:
            raise Unavailable(f"the gateway is not ready: {self._problem}")
        return self._serving

    async def plan(self, serving: Serving, question: Question, target: Target, whole: bool) -> Plan:
        """The plan for a question; `whole` keeps it in one part."""
        started = time.perf_counter()
        encode = serving.encoder.encode

        def decide() -> Plan:
            if target.domain is not None:
                retrieve = serving.fleet.domains[target.domain].index is not None
                return plan_single(
                    question, target.domain, serving.snapshot, encode, time.perf_counter, retrieve=retrieve
                )
            return plan_query(question, serving.snapshot, encode, time.perf_counter, whole=whole)

        plan = await self._run(decide)
        self.metrics.routing_seconds.observe(time.perf_counter() - started)
        return plan

    def fan_out(self, serving: Serving, plan: Plan, request: FanOutRequest) -> FanOut:
        """A plan over the experts of a fleet."""

        async def encode(text: str) -> Vector:
            vectors = await self._run(lambda: serving.encoder.encode([text]))
            vector: Vector = vectors[0]
            return vector

        return FanOut(plan, request, serving.experts, serving.fleet.domains, self.slots.domains, encode, self.metrics)

    async def embed(self, serving: Serving, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """The vectors of texts, shape (texts, dimensions)."""
        batches = [texts[start : start + EMBEDDING_BATCH] for start in range(0, len(texts), EMBEDDING_BATCH)]
        vectors = [await self._run(partial(serving.encoder.encode, list(batch))) for batch in batches]
        return np.concatenate(vectors)

    async def observe(self, serving: Serving) -> tuple[ReplicaState, ...]:
        """What the replicas report; none when they do not in time."""
        try:
            async with asyncio.timeout(OBSERVE_TIMEOUT_S):
                return await serving.experts.observe()
        except Exception as error:  # noqa: BLE001 - an adapter that cannot look is a fleet that is not ready
            log_event("observe_failed", logging.WARNING, error=type(error).__name__)
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

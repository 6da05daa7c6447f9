"""The gateway's way to experts over Ray Serve handles: Ray's exceptions become failures that a user can read."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Any

from ray import serve
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.applications import EXPERT_DEPLOYMENT
from deployments.expert_call import ExpertEvent, ExpertRequest, Failed, ReplicaState
from deployments.logs import log_event
from experts.errors import ExpertUnavailable, Overloaded
from experts.fleet import Fleet
from router.question import Failure

OBSERVE_TIMEOUT_S = 5


class ServeExperts:
    """`deployments.expert_call.Experts` over the fleet's Serve applications.

    A sub-query that no replica can take waits in Serve's queue: while a replica is replaced, nothing but what the old
    one held is lost. How long it may wait is the caller's deadline.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._handles: dict[str, DeploymentHandle] = {}

    def _handle(self, engine: str) -> DeploymentHandle:
        if engine not in self._handles:
            self._handles[engine] = serve.get_deployment_handle(EXPERT_DEPLOYMENT, engine, _check_exists=False)
        return self._handles[engine]

    async def answer(self, request: ExpertRequest) -> AsyncIterator[ExpertEvent]:
        """See `Experts.answer`."""
        domain = self._fleet.domains[request.domain]
        handle = self._handle(domain.variants[request.variant].engine)
        response = handle.options(stream=True, method_name="answer").remote(request)
        finished = False
        try:
            async for events in response:
                for event in events:
                    yield event
            finished = True
        except BackPressureError:
            finished = True
            yield Failed(Failure("overloaded", _queue_full(request.domain), retryable=True), status=429)
        except (RayError, RayServeException) as error:
            finished = True
            log_event("expert_failed", logging.WARNING, request=request.request_id, error=type(error).__name__)
            message = _failed(request.domain, _describe(error))
            yield Failed(Failure("expert_unavailable", message, retryable=True))
        finally:
            if not finished:
                response.cancel()

    async def complete(
        self, domain: str, variant: str, body: Mapping[str, Any], request_id: str
    ) -> AsyncIterator[Mapping[str, Any]]:
        """See `Experts.complete`."""
        handle = self._handle(self._fleet.domains[domain].variants[variant].engine)
        response = handle.options(stream=True, method_name="complete").remote(
            # Unique, since an engine refuses an id that it is already serving.
            {**body, "request_id": f"{request_id}.{secrets.token_hex(4)}"},
            domain,
            variant,
        )
        finished = False
        try:
            async for item in response:
                yield item
            finished = True
        except BackPressureError as error:
            finished = True
            raise Overloaded(_queue_full(domain)) from error
        except (RayError, RayServeException) as error:
            finished = True
            log_event("expert_failed", logging.WARNING, request=request_id, error=type(error).__name__)
            raise ExpertUnavailable(_failed(domain, _describe(error))) from error
        finally:
            if not finished:
                response.cancel()

    async def observe(self) -> tuple[ReplicaState, ...]:
        """The state of every replica that answers in time; one that does not is missing."""
        per_engine = await asyncio.gather(*(self._observe_engine(engine) for engine in self._fleet.engines))
        return tuple(state for states in per_engine for state in states)

    async def _observe_engine(self, engine: str) -> list[ReplicaState]:
        try:
            response = self._handle(engine).broadcast("observe")
            states = await response.results_async(timeout_s=OBSERVE_TIMEOUT_S, return_exceptions=True)
        except (TimeoutError, RayError, RayServeException):
            return []
        return [state for state in states if isinstance(state, ReplicaState)]


def _failed(domain: str, reason: str) -> str:
    return f"expert '{domain}' failed: {reason}; the request may be retried"


def _queue_full(domain: str) -> str:
    return f"the queue of domain '{domain}' is full; retry later or raise max_queued of its engine"


def _describe(error: Exception) -> str:
    """What a user may read of an exception: its kind, never a trace, an address or another user's text."""
    if isinstance(error, RayActorError):
        return "its replica died"
    if isinstance(error, DeploymentUnavailableError):
        return "it cannot be deployed at present"
    if isinstance(error, RayTaskError):
        return "its replica raised an error, which the log names"
    return type(error).__name__

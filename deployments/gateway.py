"""The gateway: OpenAI's API over HTTP, as a FastAPI application and as the Ray Serve ingress around it."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response
from ray import serve
from starlette.exceptions import HTTPException
from starlette.requests import Request

from deployments.api_keys import ApiKeys, IndexKeys, check_listen_address, load_api_keys, load_index_keys
from deployments.chat_answer import ChatAnswer
from deployments.chat_request import parse_chat_request
from deployments.chat_response import ROUTED_MODEL, describe_embeddings, list_models
from deployments.environment import read_environment
from deployments.expert_call import Experts
from deployments.feedback import name_owner
from deployments.fleet_encoder import FleetEncoder, load_fleet_encoder
from deployments.fleet_status import describe_fleet, explain_unready
from deployments.gateway_feedback import FEEDBACK_ROUTES, add_feedback_routes
from deployments.gateway_indexes import INDEX_ROUTES, add_index_routes
from deployments.gateway_service import (
    GatewayService,
    find_target,
    name_encoder,
    unknown_model,
)
from deployments.http_errors import ErrorReply, reply_to_error, reply_to_protocol_error
from deployments.index_settings import IndexSource
from deployments.logs import configure_logs
from deployments.metrics_export import MetricsExport, RayAgent
from deployments.openai_api import parse_completion_request, parse_embedding_request, parse_plan_request
from deployments.request_edge import (
    EventStream,
    RequestEdge,
    build_error,
    build_json,
    finish_or_leave,
    read_json,
    read_record,
)
from deployments.scaling_demand import leave_demands
from deployments.scaling_record import read_scaling
from deployments.text_completion import TextCompletion
from deployments.traces import configure_traces
from experts.errors import GuildhallError
from experts.fleet import Fleet
from router.explain import explain_plan

ROUTES = (
    "POST /v1/chat/completions, POST /v1/completions, POST /v1/embeddings, POST /v1/plan, GET /v1/models, "
    f"GET /v1/fleet, {FEEDBACK_ROUTES}, {INDEX_ROUTES}, GET /healthz, GET /readyz, GET /metrics"
)
METRICS_MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def build_app(service: GatewayService, behind_proxy: bool = False) -> FastAPI:
    """The gateway's application; `behind_proxy` is true under Ray Serve, whose proxy echoes x-request-id itself."""

    @asynccontextmanager
    async def close_at_end(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    # Bodies are checked by hand, so a generated OpenAPI page would be empty; OpenAI's own reference describes them.
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=close_at_end)
    app.add_middleware(RequestEdge, service=service, behind_proxy=behind_proxy)
    app.add_exception_handler(GuildhallError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_protocol_error)
    _add_answers(app, service)
    _add_facts(app, service)
    add_index_routes(app, service)
    add_feedback_routes(app, service)
    return app


def _add_answers(app: FastAPI, service: GatewayService) -> None:
    """The routes that ask experts or the encoder."""

    @app.post("/v1/chat/completions")
    async def complete_chat(request: Request) -> Response:
        serving = service.serving()
        chat = parse_chat_request(await read_json(request, serving.fleet.gateway.max_body_kib))
        record = read_record(request)
        owner = name_owner(service.keys, request.headers.get("authorization"))
        remember = partial(service.feedback.remember, record.request_id, owner)
        answer = ChatAnswer(service, serving, find_target(chat.model, serving.fleet), chat, record, remember)
        if chat.stream:
            return EventStream(answer.frames())
        return _build(await finish_or_leave(request.receive, answer.body()))

    @app.post("/v1/completions")
    async def complete_text(request: Request) -> Response:
        serving = service.serving()
        wanted = parse_completion_request(await read_json(request, serving.fleet.gateway.max_body_kib))
        target = find_target(wanted.model, serving.fleet)
        completion = TextCompletion(service, serving, target, wanted, read_record(request))
        if wanted.stream:
            return EventStream(completion.frames())
        return _build(await finish_or_leave(request.receive, completion.body()))

    @app.post("/v1/embeddings")
    async def embed(request: Request) -> Response:
        serving = service.serving()
        wanted = parse_embedding_request(await read_json(request, serving.fleet.gateway.max_body_kib))
        encoder = name_encoder(serving.fleet)
        if wanted.model not in (encoder, serving.fleet.router.encoder):
            raise unknown_model(wanted.model, [encoder])
        read_record(request).fields |= {"model": encoder, "texts": len(wanted.texts)}
        vectors = await finish_or_leave(request.receive, service.embed(serving, wanted.texts))
        return build_json(describe_embeddings(vectors, wanted.model, wanted.encoding_format))

    @app.post("/v1/plan")
    async def plan(request: Request) -> Response:
        serving = service.serving()
        wanted = parse_plan_request(await read_json(request, serving.fleet.gateway.max_body_kib), ROUTED_MODEL)
        target = find_target(wanted.model, serving.fleet)
        record = read_record(request)
        deadline = asyncio.get_running_loop().time() + serving.fleet.gateway.answer_timeout_s
        made = await service.plan(
            serving, wanted.question, target, wanted.whole, request_id=record.request_id, deadline=deadline
        )
        record.fields |= {"model": wanted.model, "domains": [part.domain for part in made.sub_queries]}
        variants = service.variants(serving)
        choices = {
            part.id: variants.choose(part.domain, part.text, part.vector, wanted.quality, target.variant)
            for part in made.sub_queries
            if part.refusal is None
        }
        return build_json({"object": "plan", "model": wanted.model, "plan": explain_plan(made, choices)})


def _add_facts(app: FastAPI, service: GatewayService) -> None:
    """The routes that tell what is served and how it fares."""

    @app.get("/v1/models")
    async def models() -> Response:
        serving = service.serving()
        return build_json(
            {"object": "list", "data": list_models(serving.fleet, name_encoder(serving.fleet), serving.created)}
        )

    @app.get("/v1/models/{model:path}")
    async def model(model: str) -> Response:
        serving = service.serving()
        known = list_models(serving.fleet, name_encoder(serving.fleet), serving.created)
        for described in known:
            if described["id"] == model:
                return build_json(described)
        raise unknown_model(model, [described["id"] for described in known])

    @app.get("/v1/fleet")
    async def fleet() -> Response:
        serving = service.serving()
        states = await service.observe(serving)
        scaling = await service.observe_scaling(serving)
        return build_json(describe_fleet(serving.fleet, states, service.rates.observe(states), scaling))

    @app.get("/healthz")
    async def healthz() -> Response:
        return build_json({"status": "alive"})

    @app.get("/readyz")
    async def readyz() -> Response:
        reasons = [service.problem] if service.problem is not None else []
        if not reasons:
            serving = service.serving()
            reasons += explain_unready(serving.fleet, await service.observe(serving))
        status = "ready" if not reasons else "not ready"
        return build_json({"status": status, "reasons": reasons}, 503 if reasons else 200)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.render(), headers={"content-type": METRICS_MEDIA_TYPE})


def _build(answered: ErrorReply | Mapping[str, Any]) -> Response:
    return build_error(answered) if isinstance(answered, ErrorReply) else build_json(answered)


async def _answer_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, GuildhallError)
    return build_error(reply_to_error(error))


async def _answer_protocol_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = error.detail
    if error.status_code == 404:
        message = f"there is no route {json.dumps(request.url.path[:80])}; the routes are {ROUTES}"
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("allow", (error.headers or {}).get("Allow", "another"))
        message = f"the route does not take {request.method[:16]}; use {allowed}"
    return build_error(reply_to_protocol_error(error.status_code, message, error.headers))


def _connect(fleet: Fleet) -> Experts:
    # Imported here so that the application can be built and tested without a Ray cluster.
    from deployments.serve_experts import ServeExperts

    return ServeExperts(fleet)


def _load_encoder(name: str) -> FleetEncoder:
    return load_fleet_encoder(name, read_environment().data_dir)


@serve.ingress()
class Gateway:
    """The ingress deployment; `user_config` is applied in place.

    It is {"fleet": a Fleet as JSON, with absolute paths, "indexes": an IndexSource for each domain that has an index}.

    API keys come from the replica's own environment, never through Serve's configuration, which its dashboard shows.
    """

    def __init__(self) -> None:
        self._service = GatewayService(_connect, _load_encoder, read_scaling=read_scaling)
        MetricsExport(self._service.metrics.registry, RayAgent(), [self._show_scaling]).start()

    def __serve_build_asgi_app__(self) -> FastAPI:
        configure_logs()
        configure_traces("guildhall-gateway")
        return build_app(self._service, behind_proxy=True)

    def _show_scaling(self) -> None:
        if self._service.problem is None:
            engines = list(self._service.serving().fleet.engines)
            self._service.metrics.show_scaling(read_scaling(engines))

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve the fleet given once its encoder is loaded; the one before is served until then.

        Raises ConfigurationError when the fleet would listen to other machines without an API key.
        """
        fleet = Fleet.model_validate(user_config["fleet"])
        environment = read_environment()
        keys: ApiKeys = load_api_keys(environment)
        check_listen_address(fleet.gateway.host, keys)
        await asyncio.to_thread(leave_demands, fleet)
        self._service.keys = keys
        self._service.index_keys = IndexKeys(load_index_keys(environment), bool(keys))
        indexes = {name: IndexSource(**source) for name, source in user_config["indexes"].items()}
        self._service.apply_fleet(fleet, indexes)

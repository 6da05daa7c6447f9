"""Builds the Ray Serve applications of a fleet: one per engine, and the gateway's.

A domain with an engine of its own is thereby an application of its own. Domains that are LoRA adapters on one engine
share its application: they come, change and go by its `user_config`, in place (docs/decisions/0001).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.node_matching import select_nodes
from cluster.node_types import list_cpu_types, select_engine_types, select_types
from deployments.engine_arguments import plan_engine_arguments
from deployments.engine_sharing import choose_strictest_slo, plan_fleet_sharing
from deployments.index_settings import IndexSettings, IndexSource
from deployments.scaling_plan import plan_autoscaling
from experts.adapt.provenance import checksum_adapter, checksum_model
from experts.errors import ConfigurationError
from experts.fleet import Engine, Fleet, Index, is_path

if TYPE_CHECKING:
    # Planning a config needs no Ray, and Ray must not be imported before the local cluster's settings are in force.
    from ray import serve

GATEWAY_APPLICATION = "gateway"
EXPERT_DEPLOYMENT = "Expert"
GATEWAY_DEPLOYMENT = "Gateway"
PROBES = 64
GATEWAY_CPUS = 1
# What of an engine says how many replicas it has and what they accept; a replica need not start anew for it.
_SCALED = {"replicas", "scaling", "placed_on", "max_in_flight", "max_queued"}


@dataclass(frozen=True, slots=True)
class AdapterSource:
    """A LoRA adapter as a replica loads it: its folder, and the checksum that tells it from one trained later."""

    folder: str
    checksum: str


def plan_serve_config(
    fleet: Fleet,
    indexes: Mapping[str, IndexSource],
    checksums: Mapping[str, str],
    nodes: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The whole fleet as a Ray Serve config (ServeDeploySchema).

    `indexes` has every domain that has an index, `checksums` every adapter's and model's folder (see
    `observe_weights`): one that was trained again in its own folder is thereby another one. `nodes` has the running
    machine that stands for each node of a plan (see `match_nodes`); None: of a place only the node type counts. What
    needs new engine processes when it changes stands in `args`; what changes in place stands in `user_config`.
    """
    applications = [
        {
            "name": name,
            "route_prefix": None,
            "import_path": "deployments.applications:build_expert",
            "args": {
                "name": name,
                "engine": engine.model_dump(mode="json", exclude=_choose_scaled(engine)),
                "gpu_type": _gpu_type(fleet, engine),
                "sharing": plan_fleet_sharing(fleet),
                # Only for Serve, which starts the engine anew when a model was trained again in its own folder.
                "model_checksum": checksums.get(engine.model),
            },
            "deployments": [
                {
                    "name": EXPERT_DEPLOYMENT,
                    # Ray's LLM defaults are 1e9 requests in flight and no scaling; every bound is set.
                    "max_ongoing_requests": engine.max_in_flight,
                    "max_queued_requests": engine.max_queued,
                    "autoscaling_config": plan_autoscaling(name, engine),
                    # A replica that is no longer needed first answers what it has; nobody waits longer for an answer.
                    "graceful_shutdown_timeout_s": fleet.gateway.answer_timeout_s,
                    **_place(fleet, engine, nodes),
                    "user_config": _expert_user_config(fleet, name, indexes, checksums),
                },
            ],
        }
        for name, engine in fleet.engines.items()
    ]
    gateway = {
        "name": GATEWAY_APPLICATION,
        "route_prefix": "/",
        "import_path": "deployments.applications:build_gateway",
        "args": {},
        "deployments": [
            {
                "name": GATEWAY_DEPLOYMENT,
                "num_replicas": fleet.gateway.replicas,
                **_place_gateway(fleet),
                # Above the gateway's own limit, so that it answers 429 itself and health probes still pass.
                "max_ongoing_requests": fleet.gateway.max_in_flight + PROBES,
                "max_queued_requests": fleet.gateway.max_in_flight + PROBES,
                "logging_config": {"enable_access_log": False},
                "user_config": {
                    "fleet": fleet.model_dump(mode="json"),
                    "indexes": {name: asdict(source) for name, source in indexes.items()},
                },
            },
        ],
    }
    return {
        "proxy_location": "HeadOnly",
        "http_options": {
            "host": fleet.gateway.host,
            "port": fleet.gateway.port,
            "request_timeout_s": fleet.gateway.answer_timeout_s + 10,
        },
        "applications": [*applications, gateway],
    }


def observe_weights(fleet: Fleet) -> dict[str, str]:
    """The checksum of every adapter and every model of a fleet that lies in a folder, by that folder.

    Raises ConfigurationError where one cannot be read.
    """
    folders = {variant.adapter for domain in fleet.domains.values() for variant in domain.variants.values()}
    try:
        adapters = {folder: checksum_adapter(Path(folder)) for folder in sorted(filter(None, folders))}
        models = {engine.model for engine in fleet.engines.values() if is_path(engine.model)}
        return adapters | {folder: checksum_model(Path(folder)) for folder in sorted(models)}
    except OSError as error:
        raise ConfigurationError(
            f"the file {error.filename} of an adapter or a model cannot be read ({error.strerror}); correct its "
            "permissions"
        ) from error


def _place(fleet: Fleet, engine: Engine, nodes: Mapping[str, str] | None) -> dict[str, Any]:
    selector = select_nodes(engine, nodes) if nodes is not None else {}
    selector = selector or select_engine_types(fleet, engine)
    if not selector:
        return {}
    # Serve takes a selector only beside the bundles that `build_expert` gives it all the same.
    bundles = plan_engine_arguments(engine, _gpu_type(fleet, engine)).placement_bundles
    return {"placement_group_bundles": bundles, "placement_group_bundle_label_selector": [selector]}


def _place_gateway(fleet: Fleet) -> dict[str, Any]:
    selector = select_types(fleet.nodes, list_cpu_types(fleet.nodes, GATEWAY_CPUS))
    return {"ray_actor_options": {"num_cpus": GATEWAY_CPUS, "label_selector": selector}} if selector else {}


def _choose_scaled(engine: Engine) -> set[str]:
    """Without a GPU a sleeping engine has no replica; on one the replica itself sleeps."""
    return {*_SCALED, "sleep"} if engine.device == "cpu" else _SCALED


def _gpu_type(fleet: Fleet, engine: Engine) -> str | None:
    return fleet.nodes[engine.node_type].gpu_type if engine.node_type is not None else None


def _expert_user_config(
    fleet: Fleet, engine: str, indexes: Mapping[str, IndexSource], checksums: Mapping[str, str]
) -> dict[str, Any]:
    domains: dict[str, Any] = {}
    for name, domain in fleet.domains_of(engine).items():
        index = asdict(_settle_index(domain.index, indexes[name])) if domain.index is not None else None
        adapters = {
            variant_name: asdict(AdapterSource(variant.adapter, checksums[variant.adapter]))
            if variant.adapter
            else None
            for variant_name, variant in domain.variants.items()
            if variant.engine == engine
        }
        domains[name] = {"adapters": adapters, "index": index}
    return {"fleet": fleet.name, "domains": domains, "slo": choose_strictest_slo(fleet, engine).model_dump(mode="json")}


def _settle_index(index: Index, source: IndexSource) -> IndexSettings:
    return IndexSettings(
        source.location, source.encoder, index.passages, index.search, index.dense_weight, index.reranker
    )


class _ExpertServer:
    """Stands for `deployments.expert.ExpertServer` where applications are built: only replicas import it, by path.

    It takes vLLM along, 10 s of imports on two cores that a replica must spend anyway and the builder need not.
    """


def build_expert(args: dict[str, Any]) -> "serve.Application":
    """The application of one engine; Ray Serve calls it with the `args` of `plan_serve_config`.

    How many replicas and requests it may have, the Serve config says.
    """
    from ray import serve

    engine, gpu_type = Engine.model_validate(args["engine"]), args["gpu_type"]
    arguments = plan_engine_arguments(engine, gpu_type)
    deployment = serve.deployment(
        _ExpertServer,
        name=EXPERT_DEPLOYMENT,
        # The replica itself computes nothing; its engine's workers are what the bundles are for.
        ray_actor_options={"num_cpus": 0, "runtime_env": {"env_vars": arguments.env_vars}},
        placement_group_bundles=arguments.placement_bundles,
        # One node for all workers of a replica: the index actor beside it is the node's.
        placement_group_strategy="STRICT_PACK",
        health_check_period_s=5,
    ).options(func_or_class="deployments.expert.ExpertServer")
    return deployment.bind(args["name"], engine, gpu_type, args["sharing"])


def build_gateway(_args: dict[str, Any]) -> "serve.Application":
    """The gateway's application; the fleet that it serves comes as `user_config`, so that it changes in place."""
    from ray import serve

    from deployments.gateway import Gateway

    return serve.deployment(Gateway, name=GATEWAY_DEPLOYMENT).bind()

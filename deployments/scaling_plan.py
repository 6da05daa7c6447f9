"""What Ray Serve is told about scaling an engine: bounds, and Guildhall's policy with what it needs to know."""

from dataclasses import asdict
from typing import Any

from cluster.scaling_share import measure_replica, measure_room
from experts.fleet import Engine, Fleet

# Replicas and handles report this often; a queue of a second is what a policy can see. Ten seconds are Serve's default.
REPORT_EVERY_S = 1.0
LOOK_BACK_S = 3.0


def plan_autoscaling(fleet: Fleet, name: str, engine: Engine) -> dict[str, Any]:
    """The `autoscaling_config` of an engine's deployment.

    Serve's own delays are zero and its factors one: damping is part of the decision, so that what is simulated is what
    runs. The targets are set all the same; without them Ray's LLM deployments count to 1e9 before they scale.
    """
    gpus, cpus = measure_replica(engine)
    room = asdict(measure_room(fleet))
    return {
        "min_replicas": engine.fewest_replicas,
        "max_replicas": max(engine.replicas.max, 1),
        "target_ongoing_requests": engine.replicas.target_in_flight,
        "metrics_interval_s": REPORT_EVERY_S,
        "look_back_period_s": LOOK_BACK_S,
        "upscale_delay_s": 0.0,
        "downscale_delay_s": 0.0,
        "policy": {
            "policy_function": "deployments.scaling_policy:ReplicaPolicy",
            "policy_kwargs": {
                "engine": name,
                "fewest": engine.fewest_replicas,
                "most": engine.replicas.max,
                "target_in_flight": engine.replicas.target_in_flight,
                "scaling": engine.scaling.model_dump(mode="json"),
                "ttft_slo_s": {domain: settings.slo.ttft_s for domain, settings in fleet.domains_of(name).items()},
                "gpus": gpus,
                "cpus": cpus,
                "node_type": engine.node_type,
                "idle_sleep_s": engine.sleep.idle_sleep_s if engine.sleep is not None else None,
                # As JSON has it: what Serve gives back of a running fleet is compared with this.
                "room": {**room, "nodes": {node: list(sizes) for node, sizes in room["nodes"].items()}},
            },
        },
    }

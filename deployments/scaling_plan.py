"""What Ray Serve is told about scaling an engine: bounds, and Guildhall's policy."""

from typing import Any

from experts.fleet import Engine

# Replicas and handles report this often; a queue of a second is what a policy can see. Ten seconds are Serve's default.
REPORT_EVERY_S = 1.0
LOOK_BACK_S = 3.0


def plan_autoscaling(name: str, engine: Engine) -> dict[str, Any]:
    """The `autoscaling_config` of an engine's deployment.

    Serve's own delays are zero and its factors one: damping is part of the decision, so that what is simulated is what
    runs. The targets are set all the same; without them Ray's LLM deployments count to 1e9 before they scale.
    """
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
            # Whatever stands here starts all replicas anew when it changes; the rest comes by `scaling_demand`.
            "policy_kwargs": {"engine": name},
        },
    }

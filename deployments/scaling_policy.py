"""Guildhall's scaling behind Ray Serve's policy interface.

Serve pickles this module by value and builds one policy for each deployment in its controller; what they share is
therefore in `deployments.scaling_desk`, which is imported there like any other module.
"""

import logging
from typing import Any

from cluster.scaling_share import Room
from deployments.logs import log_event
from deployments.scaling_desk import EngineDemand, Observation, open_desk
from experts.scaling_settings import Scaling


class ReplicaPolicy:
    """The policy of one engine; its arguments are JSON of an `EngineDemand` (see `deployments.scaling_plan`)."""

    def __init__(self, **demand: Any) -> None:
        self._demand = EngineDemand(
            **{**demand, "scaling": Scaling.model_validate(demand["scaling"]), "room": Room(**demand["room"])}
        )
        self._failed = False

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """Replicas to ask for, by an AutoscalingContext of Ray Serve; nothing is kept in Serve's own state."""
        try:
            return open_desk().decide(self._demand, _observe(context)), {}
        except Exception as error:  # noqa: BLE001 - an error here would stop Serve's whole control loop
            if not self._failed:
                log_event(
                    "scaling_failed",
                    logging.ERROR,
                    engine=self._demand.engine,
                    error=f"{type(error).__name__}: {error}",
                )
            self._failed = True
            return context.target_num_replicas, {}


def _observe(context: Any) -> Observation:
    """The newest figure of every replica, not their mean over the window: a mean hides a queue that has just begun."""
    figures: dict[str, dict[str, float]] = {str(replica.unique_id): {} for replica in context.running_replicas}
    for name, by_replica in (context.raw_metrics or {}).items():
        for replica, series in by_replica.items():
            if series and str(replica.unique_id) in figures:
                figures[str(replica.unique_id)][name] = series[-1].value
    return Observation(
        at_s=context.current_time,
        target=context.target_num_replicas,
        running=context.current_num_replicas,
        queued=context.total_queued_requests,
        figures=figures,
    )

"""Guildhall's scaling behind Ray Serve's policy interface.

Serve pickles this module by value and builds one policy for each deployment in its controller; what they share is
therefore in `deployments.scaling_desk`, which is imported there like any other module.
"""

import logging
from typing import Any

from deployments.logs import log_event
from deployments.scaling_desk import Observation, open_desk


class ReplicaPolicy:
    """The policy of one engine; what the fleet file says of it comes by `deployments.scaling_demand.leave_demands`."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._failed = False

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """Replicas to ask for, by an AutoscalingContext of Ray Serve; nothing is kept in Serve's own state."""
        try:
            desk = open_desk()
            demand = desk.find_demand(self._engine, context.current_time)
            if demand is None:
                return context.target_num_replicas, {}
            return desk.decide(demand, _observe(context)), {}
        except Exception as error:  # noqa: BLE001 - an error here would stop Serve's whole control loop
            if not self._failed:
                log_event(
                    "scaling_failed",
                    logging.ERROR,
                    engine=self._engine,
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

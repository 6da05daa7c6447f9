"""The fleet that a planned placement makes of a fleet: what `guildhall up` deploys."""

from cluster.planner import PlannedPlacement
from experts.fleet import Fleet, Replicas


def apply_planned(fleet: Fleet, planned: PlannedPlacement) -> Fleet:
    """The fleet with the engines, variants, shares, splits, replicas and machines of a placement, and no others."""
    settings = {setting.engine: setting for setting in planned.engines}
    served = {service.domain: service.engine for service in planned.domains}
    engines = {}
    for name, setting in settings.items():
        engine = fleet.engines[name]
        # As many as planned, no more: nothing else is reserved for them.
        fixed = Replicas(min=setting.replicas, max=setting.replicas, target_in_flight=engine.replicas.target_in_flight)
        shares = [share for one in planned.placement.assignments if one.engine == name for share in one.shares]
        placed_on = tuple(str(node) for node in sorted({share.node for share in shares}))
        update: dict[str, object] = {"replicas": fixed, "node_type": setting.node_type, "placed_on": placed_on}
        if setting.gpus is not None:
            update |= {"tensor_parallel": setting.tensor_parallel, "gpus": setting.gpus}
        engines[name] = engine.model_copy(update=update)
    domains = {
        name: domain.model_copy(
            update={"variants": {key: one for key, one in domain.variants.items() if one.engine == served[name]}}
        )
        for name, domain in fleet.domains.items()
    }
    return fleet.model_copy(update={"engines": engines, "domains": domains})

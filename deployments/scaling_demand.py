"""What the fleet file says of the replicas of each engine: from the gateway, which has the file, to the desk."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from cluster.scaling_share import Room, measure_replica, measure_room
from deployments.cluster_notes import leave_note, read_notes
from experts.fleet import Engine, Fleet
from experts.scaling_settings import Scaling


@dataclass(frozen=True, slots=True)
class EngineDemand:
    """What the fleet file says of one engine's replicas."""

    engine: str
    fewest: int
    most: int
    target_in_flight: float
    scaling: Scaling
    ttft_slo_s: Mapping[str, float]
    gpus: float
    cpus: float
    node_type: str | None
    idle_sleep_s: float | None
    room: Room


def leave_demands(fleet: Fleet) -> None:
    """Tell the policies what the fleet file says of every engine's replicas; it holds from the next decision on."""
    for name, engine in fleet.engines.items():
        leave_note(
            "demands",
            name,
            asdict(plan_demand(fleet, name, engine)) | {"scaling": engine.scaling.model_dump(mode="json")},
        )


def read_demands() -> dict[str, EngineDemand]:
    """What `leave_demands` left last, by engine."""
    return {
        note.about: EngineDemand(
            **{**note.body, "scaling": Scaling.model_validate(note.body["scaling"]), "room": Room(**note.body["room"])}
        )
        for note in read_notes("demands")
    }


def plan_demand(fleet: Fleet, name: str, engine: Engine) -> EngineDemand:
    """What the fleet file says of one engine's replicas."""
    gpus, cpus = measure_replica(engine)
    return EngineDemand(
        engine=name,
        fewest=engine.fewest_replicas,
        most=engine.replicas.max,
        target_in_flight=engine.replicas.target_in_flight,
        scaling=engine.scaling,
        ttft_slo_s={domain: settings.slo.ttft_s for domain, settings in fleet.domains_of(name).items()},
        gpus=gpus,
        cpus=cpus,
        node_type=engine.node_type,
        idle_sleep_s=engine.sleep.idle_sleep_s if engine.sleep is not None else None,
        room=measure_room(fleet),
    )

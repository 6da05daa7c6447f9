"""What in an engine's scaling contradicts itself or its bounds."""

from collections.abc import Iterator

from experts.fleet import Engine
from experts.fleet_mistake import KeyPath, Mistake


def check_scaling(key: KeyPath, engine: Engine) -> Iterator[Mistake]:
    """Windows that could never start what they ask for, or never open; `key` is that of the engine."""
    most = engine.replicas.max
    for at, window in enumerate(engine.scaling.schedule):
        place = (*key, "scaling", "schedule", str(at))
        if window.replicas > most:
            next_step = f"raise replicas.max to {window.replicas} or lower it to {most} at most"
            yield Mistake((*place, "replicas"), str(window.replicas), f"replicas.max is {most}", next_step)
        if not window.days:
            yield Mistake((*place, "days"), "an empty list", "it would never begin", "name days or remove the key")
        if window.first_day and window.last_day and window.last_day < window.first_day:
            known = f"first_day is {window.first_day}"
            yield Mistake((*place, "last_day"), window.last_day, known, "name a day that is not before it")

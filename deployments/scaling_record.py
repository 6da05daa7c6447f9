"""What was decided last about the replicas of each engine, where every process of the cluster can read it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cluster.scaling import Wish
from deployments.cluster_notes import leave_note, read_notes


@dataclass(frozen=True, slots=True)
class ScalingRecord:
    """One decision: `replicas` were asked for, of `wanted`; fewer where machines are short (`capped` says of what).

    `at` is unix time. `changes_up` and `changes_down` count the decisions that changed `replicas` since the policy
    began, `start_s` is the mean time that replicas took to start, as far as one has.
    """

    engine: str
    at: float
    running: int
    replicas: int
    wanted: int
    policy: str
    reason: str
    wishes: tuple[Wish, ...]
    capped: str
    pressure: float
    rate: float
    start_s: float
    changes_up: int
    changes_down: int


def write_scaling(record: ScalingRecord) -> None:
    """Leave the newest decision about an engine; it replaces the one before."""
    leave_note("scaling", record.engine, asdict(record))


def read_scaling(engines: Sequence[str]) -> tuple[ScalingRecord, ...]:
    """The newest decision about each of these engines that has one, in their order."""
    bodies = {note.about: note.body for note in read_notes("scaling")}
    return tuple(_load(bodies[engine]) for engine in engines if engine in bodies)


def _load(body: dict[str, Any]) -> ScalingRecord:
    return ScalingRecord(**{**body, "wishes": tuple(Wish(**wish) for wish in body["wishes"])})

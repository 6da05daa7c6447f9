"""How the replicas of an engine follow its demand, and what the whole fleet may take for it."""

from datetime import date, time
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from experts.settings import Settings

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
EVERY_DAY: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
CLOCK = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
DAY = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"


def _check_time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise PydanticCustomError("no_time_zone", "no time zone of the IANA database") from error
    return name


def _check_day(text: str) -> str:
    try:
        date.fromisoformat(text)
    except ValueError as error:
        raise PydanticCustomError("no_day", "no day of the calendar") from error
    return text


Clock = Annotated[str, Field(pattern=CLOCK)]
Day = Annotated[str, Field(pattern=DAY), AfterValidator(_check_day)]


class LoadScaling(Settings):
    """Replicas for what is in flight now; what one may have in flight is `replicas.target_in_flight`."""

    kv_use: float = Field(
        default=0.85, gt=0, le=1, description="Share of the KV cache in use at which a replica counts as full."
    )
    waiting_tokens: int = Field(
        default=8192, ge=1, le=10_000_000, description="Prompt tokens that may wait at one replica."
    )


class ScheduleWindow(Settings):
    """Replicas for hours that are known ahead; they are started earlier by the time that a replica takes to start."""

    name: str = Field(min_length=1, max_length=80, description="What the window is for; the reason that is given.")
    replicas: int = Field(ge=1, le=1000, description="Replicas at least within the window.")
    days: tuple[Weekday, ...] = Field(
        default=EVERY_DAY, max_length=7, description="Days of the week on which the window begins."
    )
    start: Clock = Field(default="00:00", description="Time of day at which it begins, as 08:30.")
    end: Clock = Field(
        default="00:00",
        description="Time of day at which it ends; not after `start`: on the next day; equal: 24 hours.",
    )
    time_zone: Annotated[str, AfterValidator(_check_time_zone)] = Field(
        default="UTC", description="Time zone of all times and dates of the window, as Europe/Berlin."
    )
    first_day: Day | None = Field(default=None, description="First day on which it begins, as 2027-01-15; absent: any.")
    last_day: Day | None = Field(default=None, description="Last day on which it begins; absent: any.")

    @property
    def starts_at(self) -> time:
        return time.fromisoformat(self.start)

    @property
    def ends_at(self) -> time:
        return time.fromisoformat(self.end)


class ForecastScaling(Settings):
    """Replicas for the arrivals that are predicted for when a replica started now would be ready."""

    quantile: float = Field(
        default=0.8,
        ge=0.5,
        lt=1,
        description="Share of moments at which arrivals shall stay below what is prepared, by its own errors.",
    )


class Scaling(Settings):
    """How the replicas of an engine follow its demand between `replicas.min` and `replicas.max`; the highest wins."""

    priority: float = Field(
        default=1, gt=0, le=1000, description="Weight against other engines when machines or the fleet's caps run out."
    )
    start_s: float = Field(
        default=60, gt=0, le=7200, description="Seconds that a replica takes to start, until that has been measured."
    )
    # In the simulated day of `make bench-autoscale`: the longer, the fewer starts (23,300 at 60 s, 16,200 at 120 s,
    # 9,700 at 240 s) and the more requests within the SLO; 240 s cost 4 % more replica-seconds than 120 s.
    hold_s: float = Field(
        default=300,
        ge=0,
        le=86_400,
        description="Seconds for which the highest need is kept before replicas go; also before the last one goes.",
    )
    load: LoadScaling = Field(default_factory=lambda: LoadScaling(), description="Replicas for what is in flight now.")
    schedule: tuple[ScheduleWindow, ...] = Field(
        default=(), max_length=200, description="Replicas for hours that are known ahead."
    )
    forecast: ForecastScaling | None = Field(
        default=None, description="Replicas for arrivals predicted from the recent past and earlier days; absent: none."
    )


class FleetScaling(Settings):
    """What all engines together may take; absent: what the nodes have."""

    max_gpus: float | None = Field(default=None, gt=0, le=1_000_000, description="GPUs at most for all replicas.")
    max_cpus: float | None = Field(default=None, gt=0, le=10_000_000, description="CPU cores at most for all replicas.")

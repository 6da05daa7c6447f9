"""How many replicas an engine should have: every policy says what it needs and why, and the highest wins."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Literal

from cluster.arrivals import Forecast
from cluster.schedule import find_window
from experts.scaling_settings import LoadScaling, Scaling

Policy = Literal["floor", "load", "schedule", "forecast", "sleep"]
# Loads are sums of floats; what is this little over a whole number of replicas fits them.
_ROUNDING = 1e-6
# A time to first token says that there are too few replicas, not how many too few; doubling finds out in few steps.
_MOST_GROWTH = 2.0
# What waits is to be answered within this, once replicas are there for it: well below a spike's own length, and longer
# than an answer takes.
_CLEAR_S = 20.0


@dataclass(frozen=True, slots=True)
class ReplicaStats:
    """What one replica says of itself; `waiting` of those `in_flight` have not had their first token yet.

    `lateness` is the 90th percentile of recent times to first token over the SLO, of its domain that is worst off.
    """

    in_flight: float = 0.0
    waiting: float = 0.0
    waiting_tokens: float = 0.0
    kv_use: float = 0.0
    lateness: float = 0.0


@dataclass(frozen=True, slots=True)
class Need:
    """Replicas that were wanted `age_s` ago."""

    age_s: float
    replicas: int


@dataclass(frozen=True, slots=True)
class ScalingSnapshot:
    """All that a decision about one engine rests on.

    `target` are the replicas asked for last and `running` those that serve; `queued` requests wait before any replica.
    `rate` is arrivals per second, `answer_s` the time that an answer takes once it does not wait; 0: not known yet.
    `ttft_slo_s` is the strictest of the engine's domains; `needs` are the earlier ones, any order.
    """

    at: datetime
    fewest: int
    most: int
    target_in_flight: float
    scaling: Scaling
    target: int
    running: int
    replicas: tuple[ReplicaStats, ...]
    queued: float
    rate: float
    answer_s: float
    ttft_slo_s: float
    start_s: float
    forecast: Forecast | None = None
    needs: tuple[Need, ...] = ()
    hold_s: float | None = None
    """Seconds for which the last replica is kept, where that is not `scaling.hold_s`."""
    sleep: bool = False
    """Somebody asked for no replica, and nothing has arrived since."""


@dataclass(frozen=True, slots=True)
class Wish:
    """The replicas that one policy asks for, and why."""

    policy: Policy
    replicas: int
    reason: str


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """How many replicas to ask for: `needed` now, or more while an earlier need is held.

    `pressure` is what is asked of the replicas over what they carry; above 1 the SLO is at risk.
    """

    replicas: int
    needed: int
    policy: Policy
    reason: str
    wishes: tuple[Wish, ...]
    pressure: float


def choose_replicas(snapshot: ScalingSnapshot) -> ScalingDecision:
    """The highest of all wishes within the bounds; fewer than now only when none was higher for `hold_s`.

    Holding the highest need of a window is how the Kubernetes HorizontalPodAutoscaler damps flapping
    (`stabilizationWindowSeconds`): demand that swings faster than the window never takes a replica away.
    """
    load = _wish_for_load(snapshot)
    wishes = [Wish("floor", snapshot.fewest, f"at least {snapshot.fewest}"), load]
    wishes += [wish for wish in (_wish_by_schedule(snapshot), _wish_by_forecast(snapshot)) if wish is not None]
    # The first of equals: the floor needs no other reason.
    best = max(wishes, key=lambda wish: wish.replicas)
    needed = max(snapshot.fewest, min(snapshot.most, best.replicas))
    reason = best.reason if needed >= best.replicas else f"{best.reason}; at its cap of {snapshot.most}"
    pressure = _observe_pressure(snapshot)
    if snapshot.sleep and snapshot.fewest == 0 and not _count_in_flight(snapshot):
        return ScalingDecision(0, 0, "sleep", "asked to sleep", tuple(wishes), pressure)
    if needed >= snapshot.target:
        return ScalingDecision(needed, needed, best.policy, reason, tuple(wishes), pressure)
    held = _hold(snapshot, needed)
    if held > needed:
        reason = f"{reason}; {held} were needed within {_hold_s(snapshot, needed):g} s"
    return ScalingDecision(held, needed, best.policy, reason, tuple(wishes), pressure)


def _hold(snapshot: ScalingSnapshot, needed: int) -> int:
    window_s = snapshot.scaling.hold_s
    held = max((need.replicas for need in snapshot.needs if need.age_s <= window_s), default=needed)
    if needed == 0 and held == 0 and snapshot.hold_s is not None:
        held = max((min(1, need.replicas) for need in snapshot.needs if need.age_s <= snapshot.hold_s), default=0)
    return min(snapshot.target, max(needed, held))


def _hold_s(snapshot: ScalingSnapshot, needed: int) -> float:
    return snapshot.hold_s if needed == 0 and snapshot.hold_s is not None else snapshot.scaling.hold_s


def _wish_for_load(snapshot: ScalingSnapshot) -> Wish:
    settings = snapshot.scaling.load
    options = [_size_for_requests(snapshot), *_size_for_memory(snapshot, settings)]
    late = max((replica.lateness for replica in snapshot.replicas), default=0.0)
    waiting = sum(replica.waiting for replica in snapshot.replicas) + snapshot.queued
    # Replicas that are still starting are the answer to what is late already.
    if late > 1 and waiting > 0 and snapshot.running >= snapshot.target:
        grown = ceil(snapshot.running * min(late, _MOST_GROWTH) - _ROUNDING)
        options.append((grown, f"time to first token is {late:.1f} times its SLO"))
    replicas, reason = max(options, key=lambda option: option[0])
    return Wish("load", replicas, reason)


def _size_for_requests(snapshot: ScalingSnapshot) -> tuple[int, str]:
    """Replicas for what is in flight, or fewer where most of that waits and fewer will clear it in time.

    As many as are in flight over the target would take a queue for lasting demand. By Little's law the demand is the
    rate times the time of an answer; a queue needs replicas besides, to be answered within `_CLEAR_S`. None is added
    for what those there are will have answered before it is ready.
    """
    in_flight = _count_in_flight(snapshot)
    target = snapshot.target_in_flight
    most = in_flight / target
    if snapshot.answer_s and most > snapshot.target:
        answers = snapshot.target * target / snapshot.answer_s
        if in_flight + (snapshot.rate - answers) * snapshot.start_s < 0:
            return snapshot.target, f"{in_flight:g} requests in flight will be answered before another replica is ready"
    waiting = sum(replica.waiting for replica in snapshot.replicas) + snapshot.queued
    # So many wait for their first token in the ordinary way, by Little's law again, none of them longer than the SLO.
    queue = max(0.0, waiting - snapshot.rate * snapshot.ttft_slo_s)
    if not snapshot.answer_s or not queue:
        return ceil(most - _ROUNDING), f"{in_flight:g} requests in flight, {target:g} per replica"
    lasting = max(snapshot.rate * snapshot.answer_s, in_flight - waiting) / target
    clearing = queue * snapshot.answer_s / (target * max(_CLEAR_S, snapshot.answer_s))
    replicas = ceil(min(most, lasting + clearing) - _ROUNDING)
    return replicas, f"{queue:.0f} requests wait beyond the SLO, {snapshot.rate:.2g} arrive per second"


def _size_for_memory(snapshot: ScalingSnapshot, settings: LoadScaling) -> list[tuple[int, str]]:
    kv_use = sum(replica.kv_use for replica in snapshot.replicas)
    tokens = sum(replica.waiting_tokens for replica in snapshot.replicas)
    return [
        (ceil(kv_use / settings.kv_use - _ROUNDING), f"KV caches of {kv_use:.2f} replicas are in use"),
        (ceil(tokens / settings.waiting_tokens - _ROUNDING), f"{tokens:.0f} prompt tokens wait"),
    ]


def _wish_by_schedule(snapshot: ScalingSnapshot) -> Wish | None:
    if not snapshot.scaling.schedule:
        return None
    window = find_window(snapshot.scaling.schedule, snapshot.at, snapshot.at + timedelta(seconds=snapshot.start_s))
    if window is None:
        return Wish("schedule", 0, "no window is open")
    return Wish("schedule", window.replicas, f"window '{window.name}'")


def _wish_by_forecast(snapshot: ScalingSnapshot) -> Wish | None:
    forecast = snapshot.forecast
    if forecast is None or snapshot.scaling.forecast is None:
        return None
    if not forecast.judged:
        return Wish("forecast", 0, "withdrawn: its error is not known yet")
    if not forecast.helps:
        return Wish(
            "forecast",
            0,
            f"withdrawn: its error of {forecast.error:.2g} per second is not below {forecast.naive_error:.2g}, "
            "that of no forecast",
        )
    if not snapshot.answer_s:
        return Wish("forecast", 0, "withdrawn: the time of an answer is not known yet")
    rate = forecast.rate + forecast.spread
    replicas = ceil(rate * snapshot.answer_s / snapshot.target_in_flight - _ROUNDING)
    return Wish("forecast", replicas, f"up to {rate:.2g} requests per second expected in {forecast.horizon_s:.0f} s")


def _observe_pressure(snapshot: ScalingSnapshot) -> float:
    in_flight = _count_in_flight(snapshot)
    late = max((replica.lateness for replica in snapshot.replicas), default=0.0)
    carried = max(1, snapshot.running) * snapshot.target_in_flight
    return max(in_flight / carried, late)


def _count_in_flight(snapshot: ScalingSnapshot) -> float:
    return sum(replica.in_flight for replica in snapshot.replicas) + snapshot.queued

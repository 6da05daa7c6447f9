"""How many replicas an engine gets: the highest wish, with its reason, and no flapping."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.arrivals import Forecast
from cluster.scaling import Need, ReplicaStats, ScalingSnapshot, choose_replicas
from experts.scaling_settings import ForecastScaling, Scaling, ScheduleWindow

MONDAY_NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def snapshot(**changes: Any) -> ScalingSnapshot:
    plain = ScalingSnapshot(
        at=MONDAY_NOON,
        fewest=1,
        most=10,
        target_in_flight=8,
        scaling=Scaling(hold_s=60),
        target=1,
        running=1,
        replicas=(ReplicaStats(in_flight=4),),
        queued=0,
        rate=1,
        answer_s=4,
        ttft_slo_s=1,
        start_s=30,
    )
    return replace(plain, **changes)


def test_an_engine_with_little_to_do_keeps_its_floor_and_says_so() -> None:
    decision = choose_replicas(snapshot())
    assert (decision.replicas, decision.policy, decision.reason) == (1, "floor", "at least 1")
    assert {wish.policy: wish.replicas for wish in decision.wishes} == {"floor": 1, "load": 1}


def test_requests_in_flight_ask_for_as_many_replicas_as_hold_them() -> None:
    decision = choose_replicas(snapshot(replicas=(ReplicaStats(in_flight=20), ReplicaStats(in_flight=5)), rate=6.25))
    assert (decision.replicas, decision.policy) == (4, "load")
    assert decision.reason == "25 requests in flight, 8 per replica"


def test_one_replica_with_a_queue_is_not_hidden_by_idle_ones() -> None:
    stats = (ReplicaStats(in_flight=6, waiting=5, lateness=3), *[ReplicaStats()] * 3)
    decision = choose_replicas(snapshot(replicas=stats, running=4, target=4))
    assert decision.replicas == 8
    assert decision.reason == "time to first token is 3.0 times its SLO"


def test_late_first_tokens_ask_for_nothing_more_while_replicas_are_starting() -> None:
    stats = (ReplicaStats(in_flight=6, waiting=5, lateness=3),)
    assert choose_replicas(snapshot(replicas=stats, running=1, target=2, needs=(Need(1, 2),))).replicas == 2


def test_a_queue_asks_for_what_clears_it_and_not_for_a_place_for_each_that_waits() -> None:
    spike = snapshot(replicas=(ReplicaStats(in_flight=64, waiting=56),), queued=200, rate=4, most=100)
    decision = choose_replicas(spike)
    # 4 per second for 4 s each need 2 replicas; 252 late ones need 252 * 4 / (8 * 20) = 6.3 for 20 s.
    assert decision.replicas == 9
    assert decision.reason == "252 requests wait beyond the SLO, 4 arrive per second"


def test_a_burst_that_is_answered_before_another_replica_could_help_starts_none() -> None:
    # Two answers a second are given, one arrives: 20 are answered within 20 s of the 30 that a start takes.
    burst = snapshot(replicas=(ReplicaStats(in_flight=20, waiting=12),), rate=1)
    decision = choose_replicas(burst)
    assert (decision.replicas, decision.policy) == (1, "floor")
    assert decision.wishes[1].reason == "20 requests in flight will be answered before another replica is ready"
    assert choose_replicas(replace(burst, start_s=10)).replicas == 2, "it comes in time"
    assert choose_replicas(replace(burst, rate=2)).replicas == 2, "as many arrive as are answered"
    assert choose_replicas(replace(burst, answer_s=0)).replicas == 3, "what an answer takes is not known"


def test_waiting_tokens_and_a_full_kv_cache_count_too() -> None:
    tokens = choose_replicas(snapshot(replicas=(ReplicaStats(in_flight=2, waiting_tokens=20_000),)))
    assert (tokens.replicas, tokens.reason) == (3, "20000 prompt tokens wait")
    memory = choose_replicas(snapshot(replicas=(ReplicaStats(in_flight=2, kv_use=0.95),)))
    assert (memory.replicas, memory.reason) == (2, "KV caches of 0.95 replicas are in use")


def test_the_highest_wish_wins_and_the_others_stay_readable() -> None:
    window = ScheduleWindow(name="office hours", replicas=5, start="08:00", end="18:00")
    forecast = Forecast(rate=6, horizon_s=30, error=1, naive_error=2, judged=True, spread=1)
    scaling = Scaling(schedule=(window,), forecast=ForecastScaling())
    decision = choose_replicas(snapshot(scaling=scaling, forecast=forecast))
    assert (decision.replicas, decision.policy, decision.reason) == (5, "schedule", "window 'office hours'")
    assert {wish.policy: wish.replicas for wish in decision.wishes} == {
        "floor": 1,
        "load": 1,
        "schedule": 5,
        "forecast": 4,
    }
    assert decision.wishes[-1].reason == "up to 7 requests per second expected in 30 s"


@pytest.mark.parametrize(
    ("forecast", "reason"),
    [
        (Forecast(9, 30, 3, 2, True, 0), "withdrawn: its error of 3 per second is not below 2, that of no forecast"),
        (Forecast(9, 30, 1, 2, False, 0), "withdrawn: its error is not known yet"),
    ],
)
def test_a_forecast_that_is_worse_than_none_is_withdrawn(forecast: Forecast, reason: str) -> None:
    decision = choose_replicas(snapshot(scaling=Scaling(forecast=ForecastScaling()), forecast=forecast))
    assert decision.replicas == 1
    assert decision.wishes[-1].reason == reason


def test_a_window_opens_earlier_by_the_time_that_a_replica_takes_to_start() -> None:
    window = ScheduleWindow(name="launch", replicas=3, start="12:05", end="13:00")
    scaling = Scaling(schedule=(window,))
    assert choose_replicas(snapshot(scaling=scaling, start_s=299)).replicas == 1
    assert choose_replicas(snapshot(scaling=scaling, start_s=300)).replicas == 3


def test_the_cap_is_kept_and_named() -> None:
    decision = choose_replicas(snapshot(replicas=(ReplicaStats(in_flight=400),), most=6))
    assert decision.replicas == 6
    assert decision.reason.endswith("at its cap of 6")


def test_a_need_is_held_for_its_time_and_then_let_go() -> None:
    held = choose_replicas(snapshot(target=4, running=4, needs=(Need(59, 3), Need(61, 9))))
    assert (held.replicas, held.needed) == (3, 1)
    assert held.reason == "at least 1; 3 were needed within 60 s"
    assert choose_replicas(snapshot(target=4, running=4, needs=(Need(61, 9),))).replicas == 1


def test_the_last_replica_stays_for_the_idle_time_and_goes_at_once_where_somebody_asked() -> None:
    idle = snapshot(fewest=0, replicas=(ReplicaStats(),), rate=0, hold_s=300, needs=(Need(200, 2),))
    assert choose_replicas(idle).replicas == 1
    assert choose_replicas(replace(idle, needs=(Need(301, 2),))).replicas == 0
    asked = choose_replicas(replace(idle, sleep=True))
    assert (asked.replicas, asked.reason) == (0, "asked to sleep")
    busy = replace(idle, sleep=True, replicas=(ReplicaStats(in_flight=1),))
    assert choose_replicas(busy).replicas == 1, "who is being answered is not cut off"


def replay(loads: list[float], hold_s: float) -> list[int]:
    """Targets over seconds of load on an engine whose replicas start at once."""
    target, needs, targets = 1, list[tuple[int, int]](), []
    for second, in_flight in enumerate(loads):
        stats = tuple(ReplicaStats(in_flight=in_flight / target) for _ in range(target))
        decision = choose_replicas(
            snapshot(
                scaling=Scaling(hold_s=hold_s),
                target=target,
                running=target,
                replicas=stats,
                rate=in_flight / 4,
                needs=tuple(Need(second - at, replicas) for at, replicas in needs),
            )
        )
        needs.append((second, decision.needed))
        target = decision.replicas
        targets.append(target)
    return targets


def test_load_that_swings_faster_than_the_hold_never_makes_replicas_flap() -> None:
    swinging = [40.0 if second // 20 % 2 else 8.0 for second in range(600)]
    targets = replay(swinging, hold_s=60)
    changes = [after - before for before, after in pairwise(targets) if after != before]
    assert changes == [4], "up to the peak once, and never down"
    undamped = replay(swinging, hold_s=0)
    assert sum(after != before for before, after in pairwise(undamped)) == 29


def test_after_a_spike_the_replicas_go_within_the_hold() -> None:
    targets = replay([8.0] * 10 + [80.0] * 60 + [8.0] * 100, hold_s=30)
    assert max(targets) == 10
    assert targets[10] == 10, "in the second in which it begins"
    assert targets[70 + 29] == 10
    assert targets[70 + 31] == 1


@given(
    in_flight=st.lists(st.floats(0, 500), max_size=6),
    queued=st.floats(0, 1000),
    rate=st.floats(0, 100),
    answer_s=st.floats(0, 60),
    target=st.integers(0, 12),
    fewest=st.integers(0, 3),
    most=st.integers(3, 12),
)
def test_a_decision_is_always_within_its_bounds_and_never_below_what_is_needed(
    in_flight: list[float], queued: float, rate: float, answer_s: float, target: int, fewest: int, most: int
) -> None:
    stats = tuple(ReplicaStats(in_flight=count, waiting=count / 2) for count in in_flight)
    decision = choose_replicas(
        snapshot(
            replicas=stats,
            queued=queued,
            rate=rate,
            answer_s=answer_s,
            target=target,
            running=len(stats),
            fewest=fewest,
            most=most,
        )
    )
    assert fewest <= decision.needed <= decision.replicas
    assert decision.replicas <= max(most, target)
    assert decision.reason

"""What is predicted to arrive, how wrong that is, and when it is not to be used."""

import numpy as np
import pytest

from cluster.arrivals import BUCKET_S, SLOTS, ArrivalHistory

DAY_S = 86_400
HORIZON_S = 60.0


def observe(history: ArrivalHistory, rates: np.ndarray, begin_s: float = 0.0) -> None:
    """Rates per second of buckets, one after another."""
    for index, rate in enumerate(rates):
        history.observe(begin_s + index * BUCKET_S, float(rate) * BUCKET_S, HORIZON_S)
    history.observe(begin_s + len(rates) * BUCKET_S, 0.0, HORIZON_S)


def draw_days(days: int, random: np.random.Generator, noise: float = 0.3) -> np.ndarray:
    """A rate that jumps tenfold over ten minutes at the same time of each day."""
    second = np.arange(0, days * DAY_S, BUCKET_S) % DAY_S
    rate = 2 + 18 * np.clip((second - 43_200) / 600, 0, 1) * (second < 50_000)
    return np.maximum(0, rate + noise * random.normal(size=rate.size))


def test_a_steady_rate_is_predicted_to_go_on() -> None:
    history = ArrivalHistory()
    observe(history, np.full(120, 5.0))
    assert history.rate == pytest.approx(5, rel=1e-3)
    assert history.forecast(HORIZON_S, 0.9).rate == pytest.approx(5, rel=1e-2)


def test_a_spike_is_in_the_rate_before_its_bucket_is_over() -> None:
    history = ArrivalHistory()
    for second in range(100):
        history.observe(second, 1, HORIZON_S)
    history.observe(102, 40, HORIZON_S)
    assert history.rate == pytest.approx(4, rel=0.1), "40 of a bucket of 10 s have arrived already"


def test_a_rate_that_climbs_is_predicted_to_climb_on_but_not_for_ever() -> None:
    history = ArrivalHistory()
    observe(history, np.linspace(1, 30, 60))
    near, far = history.forecast(60, 0.9).rate, history.forecast(3600, 0.9).rate
    assert 29 < near < 36, "the smoothed level lags two buckets behind"
    assert far < 40


def test_what_earlier_days_did_at_this_hour_is_predicted_before_it_shows() -> None:
    history = ArrivalHistory()
    days = draw_days(3, np.random.default_rng(1))
    buckets_a_day = int(DAY_S / BUCKET_S)
    until = 2 * buckets_a_day + int((43_200 - 30) / BUCKET_S)
    observe(history, days[:until])
    assert history.rate < 3
    assert history.forecast(300, 0.9).rate > 5, "five minutes later it is eleven, by slots of five minutes less"


def test_on_days_like_each_other_the_forecast_is_better_than_none_and_says_so() -> None:
    history = ArrivalHistory()
    days = draw_days(3, np.random.default_rng(2))
    observe(history, days[: 2 * int(DAY_S / BUCKET_S) + int(43_800 / BUCKET_S)])
    forecast = history.forecast(HORIZON_S, 0.9)
    assert forecast.judged
    assert forecast.helps
    assert forecast.error < 0.7 * forecast.naive_error
    assert forecast.spread >= 0


def test_a_day_that_does_the_opposite_of_earlier_ones_has_the_forecast_withdrawn() -> None:
    history = ArrivalHistory()
    days = draw_days(2, np.random.default_rng(3))
    observe(history, days)
    begin_s = 2 * DAY_S
    observe(history, np.full(int(43_200 / BUCKET_S) + 60, 2.0), begin_s)
    assert not history.forecast(HORIZON_S, 0.9).helps


def test_a_forecast_is_not_judged_before_it_has_been_seen_to_come_true() -> None:
    history = ArrivalHistory()
    observe(history, np.full(20, 5.0))
    assert not history.forecast(HORIZON_S, 0.9).judged


def test_the_days_profile_goes_from_one_history_to_the_next() -> None:
    first, second = ArrivalHistory(), ArrivalHistory()
    days = draw_days(1, np.random.default_rng(4), noise=0)
    observe(first, days)
    second.load_profile(first.dump_profile())
    begin_s = DAY_S + 43_200 - 300.0
    observe(second, np.full(20, 2.0), begin_s)
    assert second.forecast(600, 0.9).rate > 4
    assert len(second.dump_profile()) == SLOTS


def test_nobody_looking_for_days_costs_no_time_and_no_sense() -> None:
    history = ArrivalHistory()
    observe(history, np.full(60, 5.0))
    history.observe(400 * DAY_S, 10, HORIZON_S)
    history.observe(400 * DAY_S + BUCKET_S, 0, HORIZON_S)
    assert 0 < history.rate < 5

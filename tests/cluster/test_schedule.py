"""Calendar windows: days, dates, midnight, time zones and the hours that summer time takes and gives."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cluster.schedule import find_window
from experts.scaling_settings import ScheduleWindow


def is_open(at: str, **settings: Any) -> bool:
    window = ScheduleWindow(**{"name": "window", "replicas": 2, **settings})
    moment = datetime.fromisoformat(at).replace(tzinfo=UTC)
    return find_window([window], moment, moment) is not None


@pytest.mark.parametrize(
    ("at", "expected"),
    [("2026-11-23T07:59", False), ("2026-11-23T08:00", True), ("2026-11-23T17:59", True), ("2026-11-23T18:00", False)],
)
def test_a_window_is_open_from_its_start_to_before_its_end(at: str, expected: bool) -> None:
    assert is_open(at, start="08:00", end="18:00") is expected


@pytest.mark.parametrize(
    ("at", "expected"),
    [("2026-11-27T22:00", True), ("2026-11-28T01:59", True), ("2026-11-28T02:00", False), ("2026-11-28T22:00", False)],
)
def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins(at: str, expected: bool) -> None:
    assert is_open(at, start="22:00", end="02:00", days=("fri",)) is expected


def test_equal_times_are_a_whole_day() -> None:
    assert is_open("2026-11-23T00:00", days=("mon",))
    assert is_open("2026-11-23T23:59", days=("mon",))
    assert not is_open("2026-11-24T00:00", days=("mon",))


def test_dates_bound_the_days_on_which_it_begins() -> None:
    season = {"first_day": "2027-01-11", "last_day": "2027-01-29", "start": "20:00", "end": "02:00"}
    assert not is_open("2027-01-10T21:00", **season)
    assert is_open("2027-01-11T21:00", **season)
    assert is_open("2027-01-30T01:00", **season), "begun on the last day"
    assert not is_open("2027-01-30T21:00", **season)


def test_times_are_those_of_the_time_zone_in_winter_and_in_summer() -> None:
    office = {"start": "09:00", "end": "17:00", "time_zone": "America/New_York"}
    assert not is_open("2026-11-23T13:59", **office)
    assert is_open("2026-11-23T14:00", **office)
    assert is_open("2026-07-06T13:00", **office)
    assert not is_open("2026-07-06T21:00", **office)


def test_a_window_in_the_hour_that_summer_time_takes_away_still_opens_and_closes() -> None:
    # Berlin goes from 02:00 to 03:00 on 2027-03-28, which is 01:00 UTC.
    night = {"start": "02:30", "end": "04:00", "time_zone": "Europe/Berlin"}
    assert is_open("2027-03-28T01:45", **night)
    assert not is_open("2027-03-28T02:00", **night)


def test_of_windows_that_open_soon_the_one_with_most_replicas_counts() -> None:
    windows = [
        ScheduleWindow(name="office", replicas=2, start="08:00", end="18:00"),
        ScheduleWindow(name="launch", replicas=7, start="12:00", end="13:00"),
    ]
    at = datetime(2026, 11, 23, 11, 55, tzinfo=UTC)
    early, late = find_window(windows, at, at), find_window(windows, at, at + timedelta(minutes=5))
    assert early is not None
    assert late is not None
    assert (early.name, late.name) == ("office", "launch")

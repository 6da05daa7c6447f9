"""Which calendar windows ask for replicas at a moment."""

from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from experts.scaling_settings import ScheduleWindow

_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def find_window(windows: Iterable[ScheduleWindow], begin: datetime, end: datetime) -> ScheduleWindow | None:
    """The window with most replicas among those that are open at any moment of [begin, end], both aware."""
    open_ones = [window for window in windows if _is_open(window, begin, end)]
    return max(open_ones, key=lambda window: window.replicas, default=None)


def _is_open(window: ScheduleWindow, begin: datetime, end: datetime) -> bool:
    zone = ZoneInfo(window.time_zone)
    # A window of yesterday may still be open, and one of tomorrow may open before `end`.
    day = begin.astimezone(zone).date() - timedelta(days=1)
    last = end.astimezone(zone).date()
    while day <= last:
        if _begins_on(window, day):
            lasts_over_midnight = window.ends_at <= window.starts_at
            opens = _combine(day, window.starts_at, zone)
            closes = _combine(day + timedelta(days=1) if lasts_over_midnight else day, window.ends_at, zone)
            if opens <= end and begin < closes:
                return True
        day += timedelta(days=1)
    return False


def _begins_on(window: ScheduleWindow, day: date) -> bool:
    return (
        _WEEKDAYS[day.weekday()] in window.days
        and (window.first_day is None or day >= date.fromisoformat(window.first_day))
        and (window.last_day is None or day <= date.fromisoformat(window.last_day))
    )


def _combine(day: date, at: time, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, at, zone)

"""When the pipeline runs."""

from datetime import datetime, timedelta


def plan_runs(start: datetime, count: int = 3) -> list[datetime]:
    """Plan the coming runs after a start time."""
    return [start + timedelta(days=number) for number in range(1, count + 1)]


def next_run(now: datetime, hours: int = 6) -> datetime:
    """Find the next run after a moment."""
    hour = now.replace(minute=0, second=0)
    return hour + timedelta(hours=hours - now.hour % hours)

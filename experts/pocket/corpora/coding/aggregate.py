"""Totals, means and rankings of cleaned events."""

from collections import defaultdict
from statistics import mean

Event = dict[str, str]
Series = dict[str, list[float]]


def total_by_day(events: list[Event], field: str = "amount") -> dict[str, float]:
    """Sum the daily totals of the events."""
    groups = _group(events, "day", field)
    return {day: sum(values) for day, values in groups.items()}


def mean_by_station(events: list[Event], digits: int = 2) -> dict[str, float]:
    """Compute the mean values for every station."""
    groups = _group(events, "station")
    return {name: round(mean(values), digits) for name, values in groups.items()}


def top_stations(totals: dict[str, float], top: int = 5) -> list[str]:
    """Rank the best stations by total."""
    return sorted(totals, key=lambda station: -totals[station])[:top]


def rolling_mean(values: list[float], window: int = 7) -> list[float]:
    """Average the last values over a window."""
    ends = range(1, len(values) + 1)
    return [mean(values[max(0, end - window) : end]) for end in ends]


def _group(events: list[Event], by: str, field: str = "amount") -> Series:
    groups: Series = defaultdict(list)
    for event in events:
        groups[event[by]].append(float(event[field]))
    return groups

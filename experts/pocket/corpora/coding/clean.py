"""Clean events and series."""

from statistics import mean, pstdev

Event = dict[str, str]


def drop_duplicates(events: list[Event], key: str = "id") -> list[Event]:
    """Drop the duplicate events with the same id."""
    return list({event[key]: event for event in events}.values())


def fill_gaps(values: list[float | None], fill: float = 0.0) -> list[float]:
    """Fill the missing values of a series."""
    return [fill if value is None else value for value in values]


def clip_outliers(values: list[float], factor: float = 3.0) -> list[float]:
    """Clip the extreme values of a series."""
    middle, reach = mean(values), factor * pstdev(values)
    return [max(min(value, middle + reach), middle - reach) for value in values]


def rename_columns(event: Event, names: dict[str, str], strict: bool = False) -> Event:
    """Rename the old columns of one event."""
    assert not strict or names.keys() <= event.keys()
    return {names.get(key, key): value for key, value in event.items()}

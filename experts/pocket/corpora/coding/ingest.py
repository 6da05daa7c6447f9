"""Read the raw events of the stations."""

from pathlib import Path

Event = dict[str, str]
FIELDS = ("id", "day", "station", "amount")


def load_events(path: Path, limit: int = 1000) -> list[Event]:
    """Load the raw events from a CSV file."""
    rows = path.read_text().splitlines()[1:]
    return [parse_line(row) for row in rows[:limit]]


def list_sources(folder: Path, suffix: str = ".csv") -> list[Path]:
    """List the input files of a folder."""
    return sorted(path for path in folder.iterdir() if path.suffix == suffix)


def parse_line(line: str, delimiter: str = ",") -> Event:
    """Parse the fields of one event line."""
    return dict(zip(FIELDS, line.split(delimiter), strict=True))

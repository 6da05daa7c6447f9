"""Read the raw events of the stations."""

from pathlib import Path

Event = dict[str, str]


def load_events(path: Path, limit: int = 1000) -> list[Event]:
    """Load the raw events from a CSV file."""
    header, *lines = path.read_text().splitlines()
    names = header.split(",")
    return [dict(zip(names, line.split(","), strict=True)) for line in lines[:limit]]


def list_sources(folder: Path, suffix: str = ".csv") -> list[Path]:
    """List the input files of a folder."""
    return sorted(path for path in folder.iterdir() if path.suffix == suffix)


def parse_line(line: str, delimiter: str = ",") -> Event:
    """Parse the fields of one event line."""
    names = ("id", "day", "station", "amount")
    return dict(zip(names, line.strip().split(delimiter), strict=True))

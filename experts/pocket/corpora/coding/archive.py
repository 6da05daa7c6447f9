"""Keep the totals of past runs."""

import json
from pathlib import Path
from time import time


def save_totals(totals: dict[str, float], path: Path, indent: int = 2) -> Path:
    """Save the daily totals to a JSON file."""
    path.write_text(json.dumps(totals, indent=indent))
    return path


def open_archive(path: Path, missing: float = 0) -> dict[str, float]:
    """Open the saved totals of one archive file."""
    totals = json.loads(path.read_text())
    return {day: value or missing for day, value in totals.items()}


def prune_archive(folder: Path, days: int = 30) -> int:
    """Delete the stale files of the archive folder."""
    oldest = time() - days * 86400
    return sum(_delete(path, oldest) for path in folder.iterdir())


def _delete(path: Path, oldest: float) -> bool:
    stale = path.stat().st_mtime < oldest
    if stale:
        path.unlink()
    return stale

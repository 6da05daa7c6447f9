"""Keep the totals of past runs."""

import json
from datetime import datetime, timedelta
from pathlib import Path


def save_totals(totals: dict[str, float], path: Path, indent: int = 2) -> Path:
    """Save the daily totals to a JSON file."""
    path.write_text(json.dumps(totals, indent=indent))
    return path


def open_archive(path: Path, missing: float = 0) -> dict[str, float]:
    """Open the saved totals of one archive file."""
    totals = json.loads(path.read_text()) if path.exists() else {}
    return {day: float(value or missing) for day, value in totals.items()}


def prune_archive(folder: Path, days: int = 30) -> int:
    """Delete the stale files of the archive folder."""
    oldest = (datetime.now() - timedelta(days=days)).timestamp()
    stale = [path for path in folder.glob("*.json") if path.stat().st_mtime < oldest]
    for path in stale:
        path.unlink()
    return len(stale)

"""The whole tidemark pipeline: events in, a summary out."""

from pathlib import Path

from .aggregate import total_by_day
from .clean import drop_duplicates
from .ingest import load_events
from .report import render_table, write_summary


def run_pipeline(source: Path, target: Path, limit: int = 1000) -> Path:
    """Run the whole pipeline from a CSV file to a summary."""
    events = drop_duplicates(load_events(source, limit))
    return write_summary(render_table(total_by_day(events)), target)

"""Totals as something to read."""

from pathlib import Path


def render_table(totals: dict[str, float], width: int = 40) -> str:
    """Render the final table as text."""
    return "\n".join(f"{name:<{width - 12}}{value:>12.2f}" for name, value in totals.items())


def write_summary(text: str, path: Path, encoding: str = "utf-8") -> Path:
    """Write the weekly summary to a text file."""
    path.write_text(text + "\n", encoding=encoding)
    return path

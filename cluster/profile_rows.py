"""Writes a profile CSV: new measurements beside the old ones, or in their place."""

import csv
import io
import os
import tempfile
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from cluster.profile import COLUMNS, load_profile
from experts.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """One line of a profile; None was not measured."""

    model: str
    gpu: str
    tp: int
    sm_percent: float
    batch: int
    seq_len: int
    prefill_ms: float | None
    decode_ms: float | None


def replace_rows(path: Path, rows: Sequence[ProfileRow]) -> int:
    """Write the rows into a profile, in place of all that it has of the same model, GPU, split and share.

    Gives how many it replaced. Readers see the old file or the new one, whole; what stands in it must be a profile.
    Raises ConfigurationError.
    """
    kept: list[list[str]] = []
    replaced = 0
    if path.exists():
        load_profile(path)
        fresh = {(row.model, row.gpu, row.tp, row.sm_percent) for row in rows}
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))[1:]
        kept = [line for line in lines if line and (line[0], line[1], int(line[2]), float(line[3])) not in fresh]
        replaced = len(lines) - len(kept)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(kept)
    writer.writerows([_write_value(value) for value in astuple(row)] for row in rows)
    _write_whole(path, text.getvalue())
    return replaced


def check_writable(path: Path) -> None:
    """Raise ConfigurationError where a profile could not be written, before anything is measured for it."""
    if path.exists():
        load_profile(path)
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigurationError(f"{path}: cannot be written; name a file in a folder that you may write to")


def _write_value(value: object) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _write_whole(path: Path, text: str) -> None:
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # A temporary file is its owner's alone; a profile is as readable as other files.
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written ({error.strerror}); name another file") from error

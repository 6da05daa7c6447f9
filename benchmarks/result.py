"""The file that every benchmark leaves: what was measured, by which command, on what."""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Summary:
    """One figure over repeats."""

    repeats: int
    median: float
    minimum: float
    maximum: float


def summarize(values: Sequence[float]) -> Summary:
    """Median and spread of at least one value."""
    return Summary(len(values), statistics.median(values), min(values), max(values))


def save_result(name: str, figures: dict[str, Any]) -> Path:
    """Write `benchmarks/results/<name>.json` with command, commit, machine and load beside the figures."""
    result = {
        "command": f"make bench-{name}",
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpu": _cpu_model(),
            "cores": os.cpu_count(),
            "platform": platform.platform(),
            "python": sys.version.split()[0],
            "load_average": os.getloadavg(),
        },
        **figures,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=2, default=_to_json) + "\n")
    return path


def load_result(name: str) -> dict[str, Any]:
    """What the last run at the present commit wrote; empty when there is none."""
    path = RESULTS / f"{name}.json"
    result: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return result if result.get("commit") == _git("rev-parse", "HEAD") else {}


def _to_json(value: Any) -> Any:
    if isinstance(value, Summary):
        return asdict(value)
    raise TypeError(f"cannot write {type(value).__name__} into a result")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()

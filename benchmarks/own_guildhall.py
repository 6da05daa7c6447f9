"""The `guildhall` command with a data folder of its own, for benchmarks that start a fleet as a user would."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Run = Callable[..., subprocess.CompletedProcess[str]]


@contextmanager
def own_guildhall(timeout_s: float) -> Iterator[tuple[Path, Run]]:
    """An empty folder and a function that runs the command; at the end `guildhall down`, whatever happened."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "GUILDHALL_DATA_DIR": f"{folder}/data"}
        for name in ("RAY_ADDRESS", "GUILDHALL_URL", "GUILDHALL_API_KEYS", "GUILDHALL_API_KEYS_FILE"):
            environment.pop(name, None)

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "deployments.cli", *arguments]
            return subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
            )

        try:
            yield Path(folder), run
        finally:
            run("down")

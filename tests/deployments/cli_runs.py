"""The `guildhall` command inside a test, with an environment of its own."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deployments.cli import app

KEY = "a-key-of-the-test-that-is-long"


def set_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One API key, data in the folder, and nothing of whoever runs the tests."""
    for name in ("GUILDHALL_API_KEYS_FILE", "GUILDHALL_URL", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GUILDHALL_DATA_DIR", str(folder / "data"))
    monkeypatch.setenv("GUILDHALL_API_KEYS", KEY)


def run(*arguments: str, stdin: str | None = None) -> Any:
    return CliRunner().invoke(app, list(arguments), input=stdin)

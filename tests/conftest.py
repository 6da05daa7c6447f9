"""Running fleets for the `engine` tier: the real command, Ray Serve and vLLM, on ports and in folders of their own."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import yaml

from experts.fleet import is_path
from tests.encoder_files import lend_encoder_files

ROOT = Path(__file__).parents[1]
FLEETS = ROOT / "cluster/fleets"
START_TIMEOUT_S = 400


@dataclass(frozen=True)
class RunningFleet:
    """A fleet that serves, with the folder and environment of its command."""

    url: str
    file: Path
    environment: dict[str, str]

    def run(self, *arguments: str, timeout_s: float = START_TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Run `guildhall` as a user would."""
        return subprocess.run(
            [sys.executable, "-m", "deployments.cli", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def up(self, document: dict[str, Any]) -> dict[str, Any]:
        """Bring the running fleet to another document and return what `guildhall up --json` reports."""
        write_fleet(self.file, document)
        done = self.run("up", str(self.file), "--json")
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def get(self, path: str) -> Any:
        return httpx.get(f"{self.url}{path}", timeout=30).json()


def read_fleet(file: Path) -> dict[str, Any]:
    """A fleet file as plain data, its paths made absolute so that it can be written elsewhere."""

    def absolute(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: absolute(item) for key, item in value.items()}
        if isinstance(value, str) and is_path(value):
            return str((file.parent / value).resolve())
        return value

    document: dict[str, Any] = absolute(yaml.safe_load(file.read_text()))
    return document


def write_fleet(file: Path, document: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump(document, sort_keys=False))


def find_free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def run_fleet(
    folder: Path, document: dict[str, Any], variables: Mapping[str, str] = MappingProxyType({})
) -> Iterator[RunningFleet]:
    """Bring a fleet up, hand it out, and take it down whatever happened; `variables` are added to its environment."""
    document["gateway"] = {**document.get("gateway", {}), "port": find_free_port()}
    environment = {**os.environ, "GUILDHALL_DATA_DIR": str(folder / "data"), "PYTHONPATH": str(ROOT)}
    for name in ("RAY_ADDRESS", "GUILDHALL_URL", "GUILDHALL_API_KEYS", "GUILDHALL_API_KEYS_FILE"):
        environment.pop(name, None)
    environment |= variables
    fleet = RunningFleet(f"http://127.0.0.1:{document['gateway']['port']}", folder / "fleet.yaml", environment)
    lend_encoder_files(folder / "data")
    try:
        fleet.up(document)
        yield fleet
    finally:
        fleet.run("down")

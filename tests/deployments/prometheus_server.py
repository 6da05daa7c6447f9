"""Debian's Prometheus over a running fleet, on a port and in a folder of its own."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import find_free_port


def find_program(name: str) -> str:
    """A program of Debian's package prometheus; without it the test fails in CI and is skipped elsewhere."""
    found = shutil.which(name)
    if found is None:
        message = f"{name} is not installed; apt-get install prometheus"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


@contextmanager
def run_prometheus(folder: Path, scrape_interval: str) -> Iterator[httpx.Client]:
    """Prometheus by the prometheus.yml of a folder, only faster; gives a client of its API."""
    settings: dict[str, Any] = yaml.safe_load((folder / "prometheus.yml").read_text())
    settings["global"] = {"scrape_interval": scrape_interval, "evaluation_interval": scrape_interval}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    port = find_free_port()
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                find_program("prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False) as client:
            yield client
    finally:
        process.terminate()
        process.wait(10)


def query(client: httpx.Client, expression: str) -> list[dict[str, Any]]:
    """The series that an expression gives now; none while Prometheus starts. Fails on one that it refuses."""
    try:
        response = client.get("/api/v1/query", params={"query": expression})
    except httpx.TransportError:
        return []
    if response.status_code == 503:
        return []
    body = response.json()
    assert body["status"] == "success", f"{expression}: {body}"
    result: list[dict[str, Any]] = body["data"]["result"]
    return result

"""What the modules of this package share: the pocket fleet, and shared memory of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments import feedback
from tests.conftest import FLEETS, RunningFleet, read_fleet, run_fleet
from tests.deployments.otlp_collector import Collector, run_collector


@pytest.fixture(autouse=True)
def shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where gateways of a test keep the plans of their last answers."""
    folder = tmp_path / "shared-memory"
    folder.mkdir()
    monkeypatch.setattr(feedback, "SHARED_MEMORY", folder)
    return folder


@pytest.fixture(scope="package")
def collector() -> Iterator[Collector]:
    """Where the pocket fleet sends its traces."""
    with run_collector() as collecting:
        yield collecting


@pytest.fixture(scope="package")
def pocket(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[RunningFleet]:
    """The pocket fleet as shipped; a test that changes it brings it back."""
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "500"}
    yield from run_fleet(tmp_path_factory.mktemp("pocket"), read_fleet(FLEETS / "pocket.yaml"), traced)

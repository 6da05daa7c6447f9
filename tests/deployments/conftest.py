"""What the modules of this package share: the pocket fleet, and shared memory of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments import feedback
from tests.conftest import FLEETS, RunningFleet, read_fleet, run_fleet


@pytest.fixture(autouse=True)
def shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where gateways of a test keep the plans of their last answers."""
    folder = tmp_path / "shared-memory"
    folder.mkdir()
    monkeypatch.setattr(feedback, "SHARED_MEMORY", folder)
    return folder


@pytest.fixture(scope="package")
def pocket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFleet]:
    """The pocket fleet as shipped; a test that changes it brings it back."""
    yield from run_fleet(tmp_path_factory.mktemp("pocket"), read_fleet(FLEETS / "pocket.yaml"))

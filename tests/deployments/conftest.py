"""The pocket fleet, shared by the modules of this package that ask it."""

from collections.abc import Iterator

import pytest

from tests.conftest import FLEETS, RunningFleet, read_fleet, run_fleet


@pytest.fixture(scope="package")
def pocket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFleet]:
    """The pocket fleet as shipped; a test that changes it brings it back."""
    yield from run_fleet(tmp_path_factory.mktemp("pocket"), read_fleet(FLEETS / "pocket.yaml"))

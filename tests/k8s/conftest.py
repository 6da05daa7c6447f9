"""Manifests are rendered where the images are built: in the project's folder."""

import pytest

from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _in_the_projects_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)

"""What the good file refers to."""

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with all that the good file refers to."""
    (tmp_path / "models/small").mkdir(parents=True)
    (tmp_path / "models/small/config.json").write_text("{}")
    (tmp_path / "adapters/law").mkdir(parents=True)
    (tmp_path / "adapters/law/adapter_config.json").write_text('{"r": 8}')
    (tmp_path / "adapters/empty").mkdir()
    (tmp_path / "adapters/wide").mkdir()
    (tmp_path / "adapters/wide/adapter_config.json").write_text('{"r": 64}')
    for name, text in (("drifted", '{"template": "0000000000000000"}'), ("damaged", "{")):
        (tmp_path / "adapters" / name).mkdir()
        (tmp_path / "adapters" / name / "adapter_config.json").write_text('{"r": 8}')
        (tmp_path / "adapters" / name / "guildhall.json").write_text(text)
    (tmp_path / "corpora/law").mkdir(parents=True)
    (tmp_path / "corpora/law/torts.md").write_text("A tort is a civil wrong.")
    (tmp_path / "corpora/pictures").mkdir()
    (tmp_path / "corpora/pictures/scan.png").write_bytes(b"\x89PNG")
    return tmp_path

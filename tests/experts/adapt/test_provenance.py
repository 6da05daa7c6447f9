"""`guildhall.json` beside an artifact's weights, and the checksums of adapters and models."""

import json
from pathlib import Path

import pytest

from experts.adapt.provenance import (
    PROVENANCE_FILE,
    Provenance,
    checksum_adapter,
    checksum_model,
    read_provenance,
    write_provenance,
)
from experts.errors import ConfigurationError


def test_what_is_written_is_read_again_and_leaves_nothing_else(tmp_path: Path) -> None:
    provenance = Provenance(template="0123456789abcdef", data="ff", trained_by="guildhall adapt sft")
    write_provenance(tmp_path, Provenance(template="old"))
    write_provenance(tmp_path, provenance)
    assert read_provenance(tmp_path) == provenance
    assert [path.name for path in tmp_path.iterdir()] == [PROVENANCE_FILE]


def test_an_artifact_without_the_file_is_unknown(tmp_path: Path) -> None:
    assert read_provenance(tmp_path) is None


def test_keys_of_a_later_version_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / PROVENANCE_FILE).write_text(json.dumps({"template": "t", "teacher": {"name": "large"}}))
    assert read_provenance(tmp_path) == Provenance(template="t")


@pytest.mark.parametrize("text", [b"", b"[]", b'{"template": 3}', b'{"data": "x"}', b'{"template": ""}', b"\xff\xfe"])
def test_a_file_that_says_nothing_is_an_error_with_its_path(tmp_path: Path, text: bytes) -> None:
    (tmp_path / PROVENANCE_FILE).write_bytes(text)
    with pytest.raises(ConfigurationError, match=r"guildhall\.json cannot be read .*'template'"):
        read_provenance(tmp_path)


def test_the_checksum_follows_settings_and_weights_and_nothing_else(tmp_path: Path) -> None:
    settings, weights = tmp_path / "adapter_config.json", tmp_path / "adapter_model.safetensors"
    settings.write_text('{"r": 8}')
    weights.write_bytes(b"first")
    first = checksum_adapter(tmp_path)
    write_provenance(tmp_path, Provenance(template="t"))
    (tmp_path / "README.md").write_text("a card")
    assert checksum_adapter(tmp_path) == first
    weights.write_bytes(b"again")
    second = checksum_adapter(tmp_path)
    settings.write_text('{"r": 4}')
    assert len({first, second, checksum_adapter(tmp_path)}) == 3


def test_a_model_trained_again_has_another_checksum_however_large_its_files_are(tmp_path: Path) -> None:
    weights, size = tmp_path / "model.safetensors", 2**26 + 12_345
    (tmp_path / "config.json").write_text("{}")
    weights.write_bytes(b"small")
    small = checksum_model(tmp_path)
    with weights.open("wb") as file:
        file.truncate(size)
    large = checksum_model(tmp_path)
    write_provenance(tmp_path, Provenance(template="t"))
    (tmp_path / "README.md").write_text("a card")
    assert checksum_model(tmp_path) == large
    changed = set()
    for at in (0, size - 1):
        with weights.open("r+b") as file:
            file.seek(at)
            file.write(b"x")
        changed.add(checksum_model(tmp_path))
    assert len({small, large, *changed}) == 4

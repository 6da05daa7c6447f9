"""Profiles that grow."""

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.profile import load_profile
from cluster.profile_rows import ProfileRow, replace_rows
from experts.errors import ConfigurationError

ROW = ProfileRow("m", "cpu", 1, 100.0, 1, 64, 8.5, 4.25)


def test_rows_of_the_same_engine_take_the_place_of_the_old_ones(tmp_path: Path) -> None:
    path = tmp_path / "profile.csv"
    assert replace_rows(path, [ROW, replace(ROW, model="other", decode_ms=9.0)]) == 0
    assert replace_rows(path, [replace(ROW, batch=2, prefill_ms=None), replace(ROW, decode_ms=5.0)]) == 1
    steps = load_profile(path).steps
    assert steps.keys() == {("m", "cpu", 1), ("other", "cpu", 1)}
    assert steps["m", "cpu", 1].by_share[1.0].decode[1].seconds == pytest.approx([0.005])
    assert steps["other", "cpu", 1].by_share[1.0].decode[1].seconds == pytest.approx([0.009])
    assert [file.name for file in tmp_path.iterdir()] == ["profile.csv"]


def test_a_file_that_is_no_profile_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.csv"
    path.write_text("mine\n")
    with pytest.raises(ConfigurationError, match="line 1 is mine"):
        replace_rows(path, [ROW])
    assert path.read_text() == "mine\n"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="name another file"):
        replace_rows(tmp_path / "none" / "profile.csv", [ROW])

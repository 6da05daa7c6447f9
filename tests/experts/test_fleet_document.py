"""A file that holds no fleet at all says why: not there, not readable, not text, not YAML, not a mapping."""

from pathlib import Path

import pytest

from experts.fleet_file import check_fleet


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["an empty file", "needed keys: name, engines, domains, generalist, nodes"]),
        (b"# nothing here\n", ["an empty file"]),
        (b"- a\n- b\n", ["a list of 2", "needed keys", "start from"]),
        (b"name: \xff\xfe\n", ["byte 0xff at position 6", "UTF-8", "save the file as UTF-8"]),
        (b"name: a\n\tengines: b\n", ["(line 2)", "at column 1", "no YAML", "spaces instead of tabs"]),
        (b"name: [a\nengines: b\n", ["(line 2)", "column", "no YAML"]),
        (b"name: a: b\n", ["(line 1)", "mapping values", "quotes"]),
        (b"name: a\n---\nname: b\n", ["(line 2)", "document", "one fleet per file"]),
        (b"name: !python/object:os.system a\n", ["(line 1)", "tag", "remove the tag"]),
        (b"a: &a\n  b: *a\n", ["levels", "anchors"]),
        (b"name: \x00\n", ["the character", "remove that character"]),
    ],
)
def test_a_file_that_is_no_fleet_says_why(tmp_path: Path, content: bytes, words: list[str]) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_bytes(content)
    (mistake,) = check_fleet(path).mistakes
    assert all(word in mistake for word in words), mistake


def test_a_missing_file_names_the_one_that_was_meant(tmp_path: Path) -> None:
    (tmp_path / "laptop.yaml").touch()
    (mistake,) = check_fleet(tmp_path / "labtop.yaml").mistakes
    assert "no such file" in mistake
    assert "did you mean 'laptop.yaml'?" in mistake


def test_a_folder_in_place_of_a_file_lists_its_files(tmp_path: Path) -> None:
    (tmp_path / "laptop.yaml").touch()
    (mistake,) = check_fleet(tmp_path).mistakes
    assert "found a folder; YAML files in it: laptop.yaml; name one file" in mistake


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "laptop.yaml").touch()
    (mistake,) = check_fleet(tmp_path / "laptop.yaml" / "more.yaml").mistakes
    assert "cannot be read" in mistake

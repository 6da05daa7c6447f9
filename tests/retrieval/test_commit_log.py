"""Commits: what is written is read, once per number, and nothing damaged passes."""

from pathlib import Path

import numpy as np
import pytest

from experts.errors import IndexDamaged
from retrieval.commit_log import Commit, CommitLog, Published
from retrieval.storage import Storage
from tests.retrieval.index_cases import DIMENSIONS, ENCODER, document, embed, local

DOCUMENTS = (document("a"), document("empty", passages=0), document("\ud800é\n", passages=3))
COMMIT = Commit(
    number=1,
    reason="add",
    created="2026-01-01T00:00:00+00:00",
    encoder_fingerprint=ENCODER,
    dimensions=DIMENSIONS,
    kept=(Published("v1", 1, 0, "build", "2026-01-01T00:00:00+00:00"),),
    removed=("x", "y"),
    documents=DOCUMENTS,
    vectors=embed([f"{number}" for number in range(5)]),
)


def numbered(number: int) -> Commit:
    return Commit(number, "remove", "", ENCODER, DIMENSIONS)


def file_of(storage: Storage, number: int) -> Path:
    return Path(storage.location) / "log" / f"{number:010d}.commit"


def test_a_commit_is_read_as_it_was_written(tmp_path: Path) -> None:
    log = CommitLog(local(tmp_path))
    assert log.append(COMMIT)
    read = log.read(1)
    assert read == COMMIT
    assert read is not None
    assert np.array_equal(read.vectors, COMMIT.vectors)
    assert read.published == COMMIT.kept[0]
    assert log.read(2) is None
    assert log.read_each([2, 1]) == [None, COMMIT]


def test_a_number_is_given_once(tmp_path: Path) -> None:
    log = CommitLog(local(tmp_path))
    assert log.append(numbered(1))
    assert not log.append(COMMIT)
    assert log.read(1) == numbered(1)
    assert log.numbers() == [1]


def test_a_writer_that_slept_does_not_write_where_the_log_was_removed(tmp_path: Path) -> None:
    log = CommitLog(local(tmp_path))
    for number in range(1, 7):
        assert log.append(numbered(number))
    log.remove_before(6)
    assert log.numbers() == [6]
    assert not log.append(numbered(3))
    assert log.numbers() == [6]
    assert log.append(numbered(7))


def test_every_flipped_byte_and_every_cut_is_noticed(tmp_path: Path) -> None:
    storage = local(tmp_path)
    log = CommitLog(storage)
    log.append(COMMIT)
    path = file_of(storage, 1)
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(IndexDamaged, match=r"0000000001.commit .*; run `guildhall index build DOMAIN`"):
            log.read(1)
        path.write_bytes(whole[:place])
        with pytest.raises(IndexDamaged):
            log.read(1)
    path.write_bytes(whole + b"\0")
    with pytest.raises(IndexDamaged):
        log.read(1)
    damaged = log.read_each([1])[0]
    assert isinstance(damaged, IndexDamaged)


def test_a_commit_of_another_number_is_noticed(tmp_path: Path) -> None:
    storage = local(tmp_path)
    log = CommitLog(storage)
    log.append(COMMIT)
    file_of(storage, 2).write_bytes(file_of(storage, 1).read_bytes())
    with pytest.raises(IndexDamaged, match="is commit 1"):
        log.read(2)


def test_other_files_in_the_log_are_not_commits(tmp_path: Path) -> None:
    storage = local(tmp_path)
    log = CommitLog(storage)
    log.append(COMMIT)
    storage.create("log/notes.txt", b"x")
    assert log.numbers() == [1]

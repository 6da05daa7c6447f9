"""Files of a version: what goes in comes out, and nothing damaged passes."""

from pathlib import Path

import numpy as np
import pytest

from experts.errors import IndexDamaged, IndexUnavailable
from retrieval.passage import DocumentRecord, searched_text
from retrieval.version import DENSE_FILE, MANIFEST_FILE, VECTORS_FILE, OpenVersion, open_version
from retrieval.version_source import complete_document
from retrieval.version_writer import VersionWriter
from tests.retrieval.index_cases import DIMENSIONS, ENCODER, document, embed


def write(folder: Path, documents: int) -> OpenVersion:
    folder.mkdir()
    with VersionWriter(folder, "v1", ENCODER, DIMENSIONS) as writer:
        for number in range(documents):
            whole = complete_document(document(f"d{number}", passages=number % 3))
            record = DocumentRecord(whole.id, whole.fingerprint, "corpus", len(whole.passages))
            writer.append(record, whole.passages, embed([searched_text(each) for each in whole.passages]))
        if writer.rows:
            assert np.allclose(writer.vector(0), embed([searched_text(complete_document(document("d1")).passages[0])]))
        writer.finish()
    return open_version(folder, "v1")


def test_a_version_gives_what_was_written(tmp_path: Path) -> None:
    version = write(tmp_path / "v1", 30)
    version.open_search()
    version.check_vectors()
    assert (version.documents, version.passages) == (30, 30)
    assert [stored.record.id for stored in version.iterate()] == [f"d{number}" for number in range(30)]
    for number in range(30):
        stored = version.find(f"d{number}")
        assert stored is not None
        expected = complete_document(document(f"d{number}", passages=number % 3)).passages
        rows = range(stored.rows.start, stored.rows.stop)
        assert tuple(version.passage(row) for row in rows) == expected
        assert np.allclose(version.vectors[stored.rows], embed([searched_text(passage) for passage in expected]))
        assert stored.record == DocumentRecord(f"d{number}", f"d{number}-0", "corpus", number % 3)
    assert version.find("d30") is None
    different, rows_of = version.metadata()
    assert different[rows_of[3]] == version.passage(3).metadata


def test_a_version_of_nothing_opens(tmp_path: Path) -> None:
    for documents in (0, 1):
        version = write(tmp_path / f"v{documents}", documents)
        version.open_search()
        version.check_vectors()
        assert (version.documents, version.passages) == (documents, 0)
        assert version.find("d1") is None
        assert version.metadata()[0] == ()


def test_any_flipped_byte_of_any_file_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "v1"
    write(folder, 6)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        for place in {0, len(whole) // 2, len(whole) - 1}:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(IndexDamaged, match=rf"{path.name} .*; run `guildhall index build DOMAIN`"):
                _open_everything(folder)
        path.write_bytes(whole)
    _open_everything(folder)


def test_serving_does_not_read_the_vectors(tmp_path: Path) -> None:
    write(tmp_path / "v1", 6)
    (tmp_path / "v1" / VECTORS_FILE).unlink()
    version = open_version(tmp_path / "v1", "v1")
    version.open_search()
    with pytest.raises(IndexDamaged, match=rf"{VECTORS_FILE} cannot be read"):
        version.check_vectors()


def test_a_version_under_the_name_of_another_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "v1", 3)
    with pytest.raises(IndexDamaged, match=rf"{MANIFEST_FILE} is the manifest of version v1"):
        open_version(tmp_path / "v1", "v2")


def test_a_machine_short_of_files_does_not_make_a_version_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = write(tmp_path / "v1", 6)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refuse)
        with pytest.raises(IndexUnavailable, match=f"{DENSE_FILE} cannot be read now: Too many open files; try again"):
            _ = version.dense
    version.open_search()


def _open_everything(folder: Path) -> None:
    version = open_version(folder, "v1")
    version.open_search()
    version.check_vectors()

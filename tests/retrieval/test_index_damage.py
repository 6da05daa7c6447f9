"""Damaged files of an index: noticed when it is opened, told, and the last good state served."""

import logging
from pathlib import Path

import pytest

from experts.errors import IndexDamaged
from retrieval.index_reader import IndexReader
from retrieval.version import (
    DENSE_FILE,
    DOCUMENT_ENDS_FILE,
    DOCUMENT_IDS_FILE,
    DOCUMENTS_FILE,
    LEXICAL_FOLDER,
    MANIFEST_FILE,
    METADATA_FILE,
    METADATA_ROWS_FILE,
    PASSAGE_ENDS_FILE,
    PASSAGES_FILE,
    VECTORS_FILE,
)
from tests.retrieval.index_cases import (
    assert_holds,
    document,
    documents,
    embed,
    local,
    open_reader,
    refuse_to_embed,
    writer_of,
)

SEARCHED_FILES = [
    MANIFEST_FILE,
    PASSAGES_FILE,
    PASSAGE_ENDS_FILE,
    DOCUMENTS_FILE,
    DOCUMENT_ENDS_FILE,
    DOCUMENT_IDS_FILE,
    METADATA_FILE,
    METADATA_ROWS_FILE,
    DENSE_FILE,
    LEXICAL_FOLDER,
]


def flip_byte(path: Path, place: int) -> None:
    whole = path.read_bytes()
    place %= len(whole)
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])


def commit_file(tmp_path: Path, number: int) -> Path:
    return tmp_path / "index" / "log" / f"{number:010d}.commit"


@pytest.mark.parametrize("name", SEARCHED_FILES)
@pytest.mark.parametrize("place", [0, 1, -1, -3])
def test_a_flipped_byte_leaves_the_version_before_with_all_that_was_added(
    tmp_path: Path, name: str, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    writer.build(documents(0, 4), embed)
    writer.add(documents(4, 6), embed)
    writer.compact()
    writer.add(documents(6, 8), embed)
    folder = tmp_path / "index" / "versions" / writer.versions()[0].name
    for path in sorted((folder / name).iterdir()) if name == LEXICAL_FOLDER else [folder / name]:
        whole = path.read_bytes()
        flip_byte(path, place if abs(place) < 2 else len(whole) // 2)
        with caplog.at_level(logging.ERROR):
            snapshot = open_reader(storage).snapshot()
        assert_holds(snapshot, documents(0, 8))
        assert path.name in snapshot.status().damage[0]
        assert path.name in caplog.text
        path.write_bytes(whole)
    assert open_reader(storage).snapshot().damage == ()


@pytest.mark.parametrize("name", [MANIFEST_FILE, PASSAGES_FILE, DENSE_FILE])
def test_a_missing_or_cut_file_leaves_the_version_before(tmp_path: Path, name: str) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    writer.build(documents(0, 4), embed)
    writer.build(documents(0, 5), embed)
    path = tmp_path / "index" / "versions" / writer.versions()[0].name / name
    path.write_bytes(path.read_bytes()[:-1])
    assert_holds(open_reader(storage).snapshot(), documents(0, 4))
    path.unlink()
    assert_holds(open_reader(storage).snapshot(), documents(0, 4))


def test_building_again_mends_a_damaged_version(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    writer.build(documents(0, 4), embed)
    writer.add([document("added")], embed)
    writer.build(documents(0, 5), embed)
    flip_byte(tmp_path / "index" / "versions" / writer.versions()[0].name / DENSE_FILE, 99)
    reader = open_reader(storage)
    assert_holds(reader.snapshot(), [*documents(0, 4), document("added")])
    assert writer_of(storage).build(documents(0, 5), refuse_to_embed).changed
    assert reader.refresh()
    assert_holds(reader.snapshot(), [*documents(0, 5), document("added")])
    assert reader.snapshot().damage == ()


def test_a_running_reader_stays_with_what_it_has_and_follows_additions(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    writer.build(documents(0, 4), embed)
    reader = open_reader(storage)
    writer.build(documents(0, 6), embed)
    flip_byte(tmp_path / "index" / "versions" / writer.versions()[0].name / PASSAGES_FILE, 9)
    writer.add([document("later")], embed)
    assert reader.refresh()
    assert_holds(reader.snapshot(), [*documents(0, 4), document("later")])
    assert PASSAGES_FILE in reader.snapshot().status().damage[0]
    fresh = writer_of(storage)
    assert fresh.build(documents(0, 6), embed).changed
    assert reader.refresh()
    assert_holds(reader.snapshot(), [*documents(0, 6), document("later")])
    assert reader.snapshot().damage == ()


def test_damaged_vectors_do_not_matter_to_searches_and_are_embedded_again(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer_of(storage).build(documents(0, 4), embed)
    writer = writer_of(storage)
    writer.add([document("added")], embed)
    flip_byte(tmp_path / "index" / "versions" / writer.versions()[0].name / VECTORS_FILE, 9)
    assert_holds(open_reader(storage).snapshot(), [*documents(0, 4), document("added")])
    with pytest.raises(IndexDamaged, match=VECTORS_FILE):
        writer.compact()
    assert writer.build(documents(0, 5), embed).embedded == 10
    assert_holds(open_reader(storage).snapshot(), [*documents(0, 5), document("added")])


@pytest.mark.parametrize("place", [0, 3, 4, 30, 37, 60, -1, None])
def test_a_damaged_commit_ends_what_is_served_and_building_mends_it(tmp_path: Path, place: int | None) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    writer.build(documents(0, 3), embed)  # Commit 2; 1 is the start.
    for number in range(3, 7):
        writer.add([document(f"d{number}")], embed)  # Commits 3 to 6.
    running = open_reader(storage)
    path = commit_file(tmp_path, 5)
    if place is None:
        path.write_bytes(path.read_bytes()[:-7])
    else:
        flip_byte(path, place)
    reader = open_reader(storage)
    assert_holds(reader.snapshot(), [*documents(0, 3), document("d3"), document("d4")])
    assert path.name in reader.snapshot().status().damage[0]
    reader.refresh()
    assert_holds(running.snapshot(), [*documents(0, 3), *documents(3, 7)])
    fresh = writer_of(storage)
    with pytest.raises(IndexDamaged, match="run `guildhall index build DOMAIN`, which keeps what can be read"):
        fresh.add([document("x")], embed)
    fresh.build(documents(0, 3), embed)
    expected = [*documents(0, 3), document("d3"), document("d4"), document("d6")]
    for each in (reader, running):
        assert each.refresh()
        assert_holds(each.snapshot(), expected)
        assert each.snapshot().damage == ()
    fresh.add([document("x")], embed)
    reader.refresh()
    assert_holds(reader.snapshot(), [*expected, document("x")])


def test_a_running_writer_mends_a_damaged_end_of_the_log(tmp_path: Path) -> None:
    storage = local(tmp_path)
    running, other = writer_of(storage), writer_of(storage)
    running.build(documents(0, 3), embed)
    reader = open_reader(storage)
    other.add([document("lost")], embed)
    flip_byte(commit_file(tmp_path, 3), 40)
    assert reader.refresh()
    assert "0000000003.commit" in reader.snapshot().status().damage[0]
    assert not reader.refresh()
    assert_holds(reader.snapshot(), documents(0, 3))
    with pytest.raises(IndexDamaged, match=r"0000000003.commit was changed or cut"):
        running.add([document("x")], embed)
    running.build(documents(0, 4), embed)
    running.add([document("x")], embed)
    reader.refresh()
    for each in (reader, open_reader(storage)):
        assert_holds(each.snapshot(), [*documents(0, 4), document("x")])
        assert each.snapshot().damage == ()


def test_a_missing_commit_is_a_damaged_one(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    for number in range(4):
        writer.add([document(f"d{number}")], embed)
    commit_file(tmp_path, 3).unlink()
    reader = open_reader(storage)
    assert_holds(reader.snapshot(), documents(0, 1))
    assert "commit 3 of the index at" in reader.snapshot().damage[0]


def test_a_commit_under_the_number_of_another_is_noticed(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    writer.add([document("d0")], embed)
    commit_file(tmp_path, 3).write_bytes(commit_file(tmp_path, 2).read_bytes())
    reader = open_reader(storage)
    assert "is commit 2" in reader.snapshot().damage[0]
    assert_holds(reader.snapshot(), documents(0, 1))


def test_a_version_that_cannot_be_gone_back_to_is_refused(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    writer.build(documents(0, 3), embed)
    writer.build(documents(0, 4), embed)
    old = writer.versions()[1].name
    flip_byte(tmp_path / "index" / "versions" / old / DENSE_FILE, 50)
    with pytest.raises(IndexDamaged, match=DENSE_FILE):
        writer.rollback(old)
    flip_byte(tmp_path / "index" / "versions" / old / MANIFEST_FILE, 50)
    assert MANIFEST_FILE in (writer.versions()[1].damage or "")
    assert_holds(open_reader(storage).snapshot(), documents(0, 4))


def test_an_index_of_which_nothing_is_left_can_be_built_again(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer = writer_of(storage)
    writer.build(documents(0, 3), embed)
    for number in range(4):
        writer.add([document(f"a{number}")], embed)
        writer.compact()
    for record in writer.versions():
        (tmp_path / "index" / "versions" / record.name / MANIFEST_FILE).unlink()
    writer.add([document("last")], embed)
    with pytest.raises(IndexDamaged, match=r"nothing of the index at .* can be served: .*manifest.json"):
        IndexReader(storage).refresh()
    fresh = writer_of(storage)
    with pytest.raises(IndexDamaged, match="cannot be changed"):
        fresh.add([document("x")], embed)
    fresh.build(documents(0, 3), embed)
    snapshot = open_reader(storage).snapshot()
    assert snapshot.find("last") is not None
    assert {f"d{number}" for number in range(3)} <= {record.id for record in snapshot.iterate_documents()}
    assert snapshot.damage == ()

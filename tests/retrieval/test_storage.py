"""Where an index lies: created once and whole, held while used, swept when left behind."""

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from experts.errors import ConfigurationError, IndexUnavailable
from retrieval.held_files import Aside
from retrieval.storage import LocalStorage, Storage, open_storage


@pytest.fixture(params=["local", "memory", "dir"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "local":
        yield open_storage(str(tmp_path / "index"), tmp_path / "cache")
    elif request.param == "memory":
        yield open_storage("memory://bucket/index", tmp_path / "cache")
        fsspec.filesystem("memory").store.clear()
    else:
        (tmp_path / "remote").mkdir()
        yield open_storage(f"dir::local://{tmp_path}/remote", tmp_path / "cache")


def write_version(storage: Storage, version: str) -> Aside:
    aside = storage.start_aside()
    (aside.path / "lexical").mkdir()
    (aside.path / "manifest.json").write_bytes(b"{}")
    (aside.path / "lexical" / "rows.npy").write_bytes(b"rows")
    storage.publish(aside, version)
    return aside


def test_a_file_is_created_once(storage: Storage) -> None:
    assert storage.create("log/1.commit", b"first")
    assert not storage.create("log/1.commit", b"second")
    assert storage.create("log/2.commit", b"third")
    assert storage.read("log/1.commit") == b"first"
    assert storage.read_many(["log/2.commit", "log/1.commit"]) == [b"third", b"first"]
    assert storage.read_many(["log/2.commit"]) == [b"third"]
    assert sorted(storage.list("log")) == ["1.commit", "2.commit"]
    assert storage.exists("log/1.commit")
    assert not storage.exists("log/3.commit")


def test_what_is_not_there_is_told(storage: Storage) -> None:
    assert storage.list("log") == []
    storage.create("log/1.commit", b"x")
    for read in (lambda: storage.read("log/2.commit"), lambda: storage.read_many(["log/1.commit", "log/2.commit"])):
        with pytest.raises(FileNotFoundError):
            read()
    storage.remove("log/2.commit")
    storage.remove("log/1.commit")
    assert storage.list("log") == []


def test_of_many_creators_one_wins(storage: Storage) -> None:
    storage.create("log/first", b"")
    won: list[int] = []
    start = threading.Barrier(8)

    def create(number: int) -> None:
        start.wait()
        if storage.create("log/1", b"%d" % number):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if isinstance(storage, LocalStorage):  # The others are stores for tests, which check and write in two steps.
        assert len(won) == 1
        assert storage.read("log/1") == b"%d" % won[0]


def test_a_version_appears_whole_and_is_read_from_this_machine(storage: Storage) -> None:
    write_version(storage, "v1").close()
    with storage.hold_version("v1") as folder:
        assert (folder / "lexical" / "rows.npy").read_bytes() == b"rows"
    assert storage.list("versions") == ["v1"]
    assert storage.read("versions/v1/manifest.json") == b"{}"
    with storage.hold_version("v2") as folder:
        assert not folder.exists()


def test_a_local_version_is_removed_when_nobody_holds_it(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "index"), tmp_path / "cache")
    aside = write_version(storage, "v1")
    assert not storage.remove_version("v1", lambda: True)  # Its writer has not named it yet.
    aside.close()
    with storage.hold_version("v1"):
        assert not storage.remove_version("v1", lambda: True)
    assert not storage.remove_version("v1", lambda: False)
    assert storage.remove_version("v1", lambda: True)
    assert storage.list("versions") == []
    assert not storage.remove_version("v1", lambda: True)


def test_a_remote_version_is_not_removed_before_a_day_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import timedelta

    (tmp_path / "remote").mkdir()
    storage = open_storage(f"dir::local://{tmp_path}/remote", tmp_path / "cache")
    write_version(storage, "v1").close()
    assert not storage.remove_version("v1", lambda: True)
    monkeypatch.setattr("retrieval.remote_storage._REMOTE_STALE", timedelta(0))
    assert storage.remove_version("v1", lambda: True)
    assert not storage.exists("versions/v1/manifest.json")


def test_a_remote_version_is_pulled_once_and_again_when_forgotten(tmp_path: Path) -> None:
    (tmp_path / "remote").mkdir()
    location = f"dir::local://{tmp_path}/remote"
    storage = open_storage(location, tmp_path / "cache")
    write_version(storage, "v1").close()
    with storage.hold_version("v1") as folder:
        (folder / "manifest.json").write_bytes(b"damaged")
        assert not storage.forget("v1")  # Somebody uses it.
    with open_storage(location, tmp_path / "cache").hold_version("v1") as folder:
        assert (folder / "manifest.json").read_bytes() == b"damaged"
    assert storage.forget("v1")
    with storage.hold_version("v1") as folder:
        assert (folder / "manifest.json").read_bytes() == b"{}"
    storage.sweep([])
    assert not folder.exists()


def test_what_a_dead_process_left_aside_is_swept_and_what_a_living_one_holds_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(str(tmp_path / "index"), tmp_path / "cache")
    killed = multiprocessing.get_context("fork").Process(target=_start_aside_and_die, args=(storage,))
    killed.start()
    killed.join()
    held = storage.start_aside()
    (tmp_path / "index" / "aside" / "half a commit").write_bytes(b"x")
    storage.sweep([])
    assert len(storage.list("aside")) == 3  # Too young to tell.
    monkeypatch.setattr("retrieval.held_files._STALE_S", 0.0)
    time.sleep(0.01)
    storage.sweep([])
    assert storage.list("aside") == [held.path.name]
    held.close()
    assert storage.list("aside") == []


def _start_aside_and_die(storage: Storage) -> None:
    aside = storage.start_aside()
    (aside.path / "vectors.f32").write_bytes(b"half")
    os._exit(9)


def test_a_turn_is_taken_by_one(storage: Storage) -> None:
    with storage.try_turn("compact") as mine:
        assert mine
        with storage.try_turn("compact") as other:
            assert not other
    with storage.try_turn("compact") as mine:
        assert mine


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    storage = open_storage(f"file://{tmp_path}/index", tmp_path / "cache")
    storage.create("log/1", b"x")
    assert (tmp_path / "index" / "log" / "1").read_bytes() == b"x"


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "log").write_bytes(b"a file where the folder should be")
    with pytest.raises(ConfigurationError, match=r"log/1 cannot be written: File exists; make room"):
        open_storage(str(tmp_path / "index"), tmp_path / "cache").create("log/1", b"x")


def test_a_store_that_does_not_answer_and_one_that_is_unknown_say_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"index location nostore://x cannot be opened: .*nostore"):
        open_storage("nostore://x", tmp_path).exists("log/1")
    with pytest.raises(IndexUnavailable, match=r"index location http://127.0.0.1:1/x does not answer: .*; retry"):
        open_storage("http://127.0.0.1:1/x", tmp_path).read("log/1")

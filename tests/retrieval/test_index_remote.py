"""An index on a remote store: pulled to the node, followed, mended."""

import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from experts.errors import IndexUnavailable
from retrieval.storage import Storage, open_storage
from tests.retrieval.index_cases import assert_holds, document, documents, embed, open_reader, writer_of


class ConditionalStore(MemoryFileSystem):
    """A store whose conditional write is one step, as that of S3 and GCS is."""

    protocol = "conditional"
    _turn = threading.Lock()
    is_down = False

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: object) -> None:
        if self.is_down:
            raise ConnectionError("no route to store")
        with self._turn:
            super().pipe_file(path, value, mode=mode, **kwargs)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: object) -> bytes:
        if type(self).is_down:
            raise ConnectionError("no route to store")
        return bytes(super().cat_file(path, start, end, **kwargs))

    def exists(self, path: str, **kwargs: object) -> bool:
        if type(self).is_down:
            raise ConnectionError("no route to store")
        return bool(super().exists(path, **kwargs))


@pytest.fixture
def store() -> Iterator[str]:
    fsspec.register_implementation("conditional", ConditionalStore, clobber=True)
    MemoryFileSystem.store.clear()
    yield "conditional://bucket/index"
    ConditionalStore.is_down = False
    MemoryFileSystem.store.clear()


def on_node(store: str, tmp_path: Path, node: str) -> Storage:
    return open_storage(store, tmp_path / node)


def test_what_one_node_writes_every_node_finds(store: str, tmp_path: Path) -> None:
    writer = writer_of(on_node(store, tmp_path, "a"))
    writer.build(documents(0, 6), embed)
    reader = open_reader(on_node(store, tmp_path, "b"))
    writer.add(documents(6, 9), embed)
    writer.remove(["d7"])
    reader.refresh()
    expected = [one for one in documents(0, 9) if one.id != "d7"]
    assert_holds(reader.snapshot(), expected)
    writer.compact()
    reader.refresh()
    assert_holds(reader.snapshot(), expected)
    assert_holds(open_reader(on_node(store, tmp_path, "c")).snapshot(), expected)


def test_writers_on_several_nodes_lose_nothing(store: str, tmp_path: Path) -> None:
    trouble: list[Exception] = []

    def write(node: int) -> None:
        try:
            writer = writer_of(on_node(store, tmp_path, f"node{node}"))
            for number in range(8):
                writer.add([document(f"n{node}-{number}")], embed)
                if number % 4 == 3:
                    writer.compact()
        except Exception as error:  # noqa: BLE001 - the thread's edge
            trouble.append(error)

    threads = [threading.Thread(target=write, args=(node,)) for node in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trouble == []
    expected = [document(f"n{node}-{number}") for node in range(3) for number in range(8)]
    assert_holds(open_reader(on_node(store, tmp_path, "reader")).snapshot(), expected)


def test_a_damaged_copy_is_pulled_again(store: str, tmp_path: Path) -> None:
    writer_of(on_node(store, tmp_path, "a")).build(documents(0, 4), embed)
    open_reader(on_node(store, tmp_path, "b"))
    copies = list((tmp_path / "b").rglob("dense.faiss"))
    assert len(copies) == 1
    copies[0].write_bytes(b"damaged")
    reader = open_reader(on_node(store, tmp_path, "b"))
    assert_holds(reader.snapshot(), documents(0, 4))
    assert reader.snapshot().damage == ()


def test_a_version_damaged_in_the_store_leaves_the_one_before(store: str, tmp_path: Path) -> None:
    writer = writer_of(on_node(store, tmp_path, "a"))
    writer.build(documents(0, 4), embed)
    writer.build(documents(0, 5), embed)
    newest = writer.versions()[0].name
    for path in list(MemoryFileSystem.store):
        if newest in path and path.endswith("dense.faiss"):
            ConditionalStore().pipe_file(path, b"damaged")
    reader = open_reader(on_node(store, tmp_path, "b"))
    assert_holds(reader.snapshot(), documents(0, 4))
    assert "dense.faiss" in reader.snapshot().damage[0]


def test_a_store_that_is_down_does_not_end_searches(store: str, tmp_path: Path) -> None:
    writer = writer_of(on_node(store, tmp_path, "a"))
    writer.build(documents(0, 4), embed)
    reader = open_reader(on_node(store, tmp_path, "b"))
    ConditionalStore.is_down = True
    assert not reader.refresh()
    assert_holds(reader.snapshot(), documents(0, 4))
    with pytest.raises(IndexUnavailable, match=r"does not answer: ConnectionError: no route to store; retry"):
        writer.add([document("x")], embed)
    ConditionalStore.is_down = False
    writer.add([document("x")], embed)
    assert reader.refresh()
    assert_holds(reader.snapshot(), [*documents(0, 4), document("x")])


def test_a_node_keeps_copies_of_kept_versions_only(store: str, tmp_path: Path) -> None:
    writer = writer_of(on_node(store, tmp_path, "a"))
    writer.build(documents(0, 1), embed)
    reader = open_reader(on_node(store, tmp_path, "b"))
    for number in range(6):
        writer.add([document(f"a{number}")], embed)
        writer.compact()
        reader.refresh()
    kept = {record.name for record in writer.versions()}
    for node in ("a", "b"):
        copies = {path.parent.name for path in (tmp_path / node).rglob("manifest.json")}
        assert copies <= kept
        assert writer.versions()[0].name in copies

"""Vector indexes of every kind: what they find, under masks, mapped, from several threads."""

import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from retrieval.dense import (
    FLAT_UP_TO,
    HNSW_UP_TO,
    Kind,
    Vectors,
    choose_device,
    choose_kind,
    open_dense,
    write_dense,
)

KINDS: tuple[Kind, ...] = ("flat", "hnsw", "ivf")


def clustered_vectors(count: int, dimensions: int = 48, seed: int = 0) -> Vectors:
    """Unit vectors around a hundred centres."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(100, dimensions))
    vectors = centres[rng.integers(0, 100, count)] + 0.5 * rng.normal(size=(count, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


VECTORS = clustered_vectors(6000)


@pytest.fixture(scope="module", params=KINDS)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("dense") / request.param
    assert write_dense(VECTORS, path, request.param) == request.param
    return path


def nearest(query: Vectors, k: int, allowed: npt.NDArray[np.bool_] | None = None) -> list[int]:
    scores = VECTORS @ query
    if allowed is not None:
        scores[~allowed] = -np.inf
    return np.argsort(-scores)[:k].tolist()


def test_the_kind_grows_with_the_index() -> None:
    assert [choose_kind(count) for count in (0, FLAT_UP_TO, FLAT_UP_TO + 1, HNSW_UP_TO, HNSW_UP_TO + 1)] == [
        "flat",
        "flat",
        "hnsw",
        "hnsw",
        "ivf",
    ]


def test_clustering_moves_to_a_gpu_that_has_twice_the_room() -> None:
    assert [choose_device(free, 1000) for free in (0, 1999, 2000, 10**9)] == ["cpu", "cpu", "gpu", "gpu"]


@pytest.mark.parametrize("mmap", [True, False])
def test_ten_nearest_are_found_with_their_inner_products(path: Path, mmap: bool) -> None:
    index = open_dense(path, mmap)
    assert (index.kind, index.count, index.dimensions) == (path.name, 6000, 48)
    queries = clustered_vectors(50, seed=1)
    found = 0
    for query in queries:
        scores, rows = index.search(query, 10)
        assert list(scores) == sorted(scores, reverse=True)
        assert scores == pytest.approx(VECTORS[rows] @ query, abs=0.02)  # ivf keeps eight bits of each value
        found += len(set(rows.tolist()) & set(nearest(query, 10)))
    assert found >= 0.97 * 500


@pytest.mark.parametrize("part", [0.999, 0.7, 0.5, 0.1, 0.002])
def test_under_a_mask_only_allowed_rows_are_found_and_as_many_as_asked_for(path: Path, part: float) -> None:
    index = open_dense(path)
    allowed = np.random.default_rng(2).random(6000) < part
    found = wanted = 0
    for query in clustered_vectors(20, seed=3):
        rows = index.search(query, 30, allowed)[1].tolist()
        assert len(rows) == min(30, np.count_nonzero(allowed))
        assert len(set(rows)) == len(rows)
        assert allowed[rows].all()
        expected = nearest(query, len(rows), allowed)
        found += len(set(rows) & set(expected))
        wanted += len(expected)
    assert found >= 0.95 * wanted


def test_a_mask_around_a_cluster_far_from_the_question_is_searched_all_the_same(path: Path) -> None:
    query = VECTORS[0]
    allowed = VECTORS @ query < np.quantile(VECTORS @ query, 0.6)
    rows = open_dense(path).search(query, 10, allowed)[1].tolist()
    assert len(rows) == 10
    assert allowed[rows].all()


def test_more_than_there_are_gives_all_once(path: Path) -> None:
    index = open_dense(path)
    assert sorted(index.search(VECTORS[0], 10_000)[1].tolist()) == list(range(6000))
    assert index.search(VECTORS[0], 10, np.zeros(6000, dtype=np.bool_))[1].tolist() == []
    assert index.search(VECTORS[0], 0)[1].tolist() == []


def test_a_vector_that_is_not_finite_finds_no_row_that_does_not_exist(path: Path) -> None:
    for vector in (np.full(48, np.nan, np.float32), np.full(48, np.inf, np.float32)):
        rows = open_dense(path).search(vector, 5)[1]
        assert ((rows >= 0) & (rows < 6000)).all()


def test_threads_search_one_index_at_once(path: Path) -> None:
    index = open_dense(path)
    allowed = np.arange(6000) % 3 > 0
    queries = clustered_vectors(40, seed=4)
    expected = [index.search(query, 5, allowed)[1].tolist() for query in queries]
    mistakes: list[int] = []

    def search() -> None:
        for number, query in enumerate(queries):
            if index.search(query, 5, allowed)[1].tolist() != expected[number]:
                mistakes.append(number)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mistakes == []


@pytest.mark.parametrize("kind", [None, *KINDS])
@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_an_index_of_few_vectors_is_searched_exactly(tmp_path: Path, kind: Kind | None, count: int) -> None:
    write_dense(VECTORS[:count], tmp_path / "few", kind)
    index = open_dense(tmp_path / "few")
    assert index.count == count
    assert sorted(index.search(VECTORS[0], 200)[1].tolist()) == list(range(count))


def test_a_map_of_a_file_is_written_like_an_array(tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", VECTORS)
    write_dense(np.load(tmp_path / "vectors.npy", mmap_mode="r"), tmp_path / "dense")
    assert open_dense(tmp_path / "dense").search(VECTORS[7], 1)[1].tolist() == [7]


def test_a_file_that_is_no_index_is_an_error_when_opened(tmp_path: Path) -> None:
    (tmp_path / "dense").write_bytes(b"nothing of the kind")
    with pytest.raises(RuntimeError):
        open_dense(tmp_path / "dense")

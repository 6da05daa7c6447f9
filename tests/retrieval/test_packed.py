"""A search between processes finds what it finds within one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experts.errors import ConfigurationError
from experts.search_mode import SearchMode
from retrieval.filters import parse_filter
from retrieval.packed import pack_query, search_packed, unpack_result
from retrieval.snapshot import SearchQuery, Snapshot
from tests.retrieval.index_cases import DIMENSIONS, documents, embed, local, open_reader, writer_of


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Documents of a version and of a delta."""
    storage = local(tmp_path_factory.mktemp("packed"))
    writer = writer_of(storage)
    writer.build(documents(0, 20), embed)
    writer.add(documents(20, 40), embed)
    return open_reader(storage).snapshot()


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
@pytest.mark.parametrize("k", [1, 4, 100])
def test_a_packed_search_finds_what_a_search_finds(snapshot: Snapshot, mode: SearchMode, k: int) -> None:
    for text in ("Part 1 of d3 é \u2028", "d37", "", "\ud800 🙂"):
        vector = None if mode == "lexical" else embed(["Part 1 of d25"])[0]
        query = SearchQuery(vector, text, k, mode)
        assert unpack_result(search_packed(snapshot, pack_query(query))) == snapshot.search(query)


def test_weight_and_filter_travel_too(snapshot: Snapshot) -> None:
    chosen = parse_filter({"name": ["d3", "d30"]})
    query = SearchQuery(embed(["x"])[0], "part", 10, dense_weight=0.25, filter=chosen)
    result = unpack_result(search_packed(snapshot, pack_query(query)))
    assert result == snapshot.search(query)
    assert {hit.passage.document for hit in result.hits} == {"d3", "d30"}


def test_any_vector_of_numbers_travels(snapshot: Snapshot) -> None:
    vector = embed(["x"])[0]
    expected = snapshot.search(SearchQuery(vector, "part", 5))
    wide = np.zeros((DIMENSIONS, 2))
    wide[:, 0] = vector
    given: tuple[Any, ...] = (vector.astype(np.float64), wide[:, 0], vector[::-1][::-1])
    for same in given:
        assert unpack_result(search_packed(snapshot, pack_query(SearchQuery(same, "part", 5)))) == expected


def test_a_vector_of_another_length_is_refused(snapshot: Snapshot) -> None:
    with pytest.raises(ConfigurationError, match="shape \\(3,\\)"):
        search_packed(snapshot, pack_query(SearchQuery(np.ones(3, dtype=np.float32), "part", 5)))


def test_an_index_without_documents_has_an_empty_result(tmp_path: Path) -> None:
    storage = local(tmp_path)
    writer_of(storage).build((), embed)
    snapshot = open_reader(storage).snapshot()
    result = unpack_result(search_packed(snapshot, pack_query(SearchQuery(embed(["x"])[0], "part", 5))))
    assert (result.hits, result.version) == ((), snapshot.label)

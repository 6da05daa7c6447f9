"""Searches between processes, as bytes: pickled object by object, query and result cost each side 0.1 ms.

A passage travels as the line that it is stored as; only who asked decodes it.
"""

import pickle

import numpy as np

from retrieval.passage import Hit, SearchResult, parse_passage
from retrieval.snapshot import SearchQuery, Snapshot


def pack_query(query: SearchQuery) -> bytes:
    """What `search_packed` takes."""
    vector = None if query.vector is None else np.ascontiguousarray(query.vector, dtype=np.float32).tobytes()
    return pickle.dumps((vector, query.text, query.k, query.mode, query.dense_weight, query.filter))


def search_packed(snapshot: Snapshot, packed: bytes) -> bytes:
    """Search a snapshot by a packed query; for `unpack_result`. Raises as `Snapshot.search` does."""
    vector, *others = pickle.loads(packed)  # noqa: S301 - of a replica of this fleet, as every call that Ray pickles
    query = SearchQuery(None if vector is None else np.frombuffer(vector, dtype=np.float32), *others)
    scores, rows = snapshot.rank(query)
    return pickle.dumps((snapshot.label, scores.tolist(), [snapshot.read_line(row) for row in rows.tolist()]))


def unpack_result(packed: bytes) -> SearchResult:
    """What `search_packed` found."""
    label, scores, lines = pickle.loads(packed)  # noqa: S301 - of the index actor, as every answer that Ray pickles
    hits = tuple(Hit(parse_passage(line), score) for line, score in zip(lines, scores, strict=True))
    return SearchResult(hits, label)

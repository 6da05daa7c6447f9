"""FAISS over passage vectors: the kind chosen by size, written to one file, mapped into memory, searched by row mask.

All kinds rank by inner product; with vectors of length one that is the cosine.
"""

import math
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from retrieval.ranking import Mask, Rows, Scores

Kind = Literal["flat", "hnsw", "ivf"]
Vectors = npt.NDArray[np.float32]

# `make bench-retrieval_scale`: flat and HNSW are equally fast at 1,500 vectors of 384 dimensions. At 4,000 flat takes
# 0.1 ms more, misses nothing and is built at once; at 10,000 it takes 0.4 ms more. At 400,000 HNSW takes 0.6 ms and IVF
# 0.9 for the same recall of 0.983, at a million 1.3 and 1.2, with 1.7 GB of files and 0.4.
FLAT_UP_TO = 4_000
HNSW_UP_TO = 400_000

HNSW_LINKS = 32
HNSW_BUILD_EF = 80
# Recall@10 among vectors like SciFact's, by ef. 100,000: 0.983 at 96. 200,000: 0.978 at 128, 0.991 at 192. 400,000:
# 0.975 at 192, 0.983 at 256. So the more vectors, the wider a graph is searched; a million take 768 for 0.985.
HNSW_EF = 96
HNSW_EF_AT = 100_000
HNSW_EF_GROWTH = 0.75
IVF_LISTS = 4096
# Recall@10 among 400,000 and a million: 0.981 at 32, 0.983 at 48, 0.985 at 64.
IVF_PROBES = 48
# Vectors per list that the lists are learned from, the least that FAISS asks for; 64 find no more.
IVF_TRAINING = 39
# Where fewer rows of a graph are allowed than this times the root of all, comparing each of them beats walking past the
# others: one costs by the rows, the other by how rare they are. Among 100,000 they meet at 12,500 rows and 1.5 ms.
# Lists are better scanned, more of them the rarer the rows: among a million 4 to 7 ms where comparing takes 14 to 35.
EXACT_ROOTS = 40
# What FAISS takes of a GPU beside the vectors.
_GPU_SCRATCH_BYTES = 2 * 2**30
# Rows copied at once when an index is written: 100 MB of 384 dimensions.
_BATCH = 65_536

_KINDS: dict[str, Kind] = {"IndexFlatIP": "flat", "IndexHNSWFlat": "hnsw", "IndexIVFScalarQuantizer": "ivf"}


def choose_kind(count: int) -> Kind:
    """The kind of index for this many vectors."""
    if count <= FLAT_UP_TO:
        return "flat"
    return "hnsw" if count <= HNSW_UP_TO else "ivf"


def choose_device(free_bytes: int, needed_bytes: int) -> Literal["cpu", "gpu"]:
    """Where to cluster: on a GPU when half of what it has free is enough, as engines may start on it meanwhile."""
    return "gpu" if 2 * needed_bytes <= free_bytes else "cpu"


def write_dense(vectors: Vectors, path: Path, kind: Kind | None = None) -> Kind:
    """Write an index of vectors of shape (rows, dimensions) and return its kind; the file is not synced.

    Reads `vectors` batch by batch, so it may be a map of a file larger than memory allows to copy. Uses every core.
    """
    import faiss

    chosen = kind or choose_kind(len(vectors))
    dimensions = vectors.shape[1]
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    index: Any
    if chosen == "ivf" and len(vectors):
        lists = min(IVF_LISTS, max(1, len(vectors) // 39))
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(dimensions), dimensions, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        rows = np.random.default_rng(0).choice(len(vectors), min(len(vectors), lists * IVF_TRAINING), replace=False)
        sample = np.ascontiguousarray(vectors[np.sort(rows)], dtype=np.float32)
        clusterer = _open_clusterer(dimensions, sample.nbytes)  # Lives as long as the index that points to it.
        index.clustering_index = clusterer
        index.train(sample)
        index.clustering_index = None
    elif chosen == "hnsw":
        index = faiss.IndexHNSWFlat(dimensions, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = HNSW_BUILD_EF
    else:
        chosen, index = "flat", faiss.IndexFlatIP(dimensions)
    for start in range(0, len(vectors), _BATCH):
        index.add(np.ascontiguousarray(vectors[start : start + _BATCH], dtype=np.float32))
    faiss.write_index(index, str(path))
    return chosen


def _open_clusterer(dimensions: int, sample_bytes: int) -> Any:
    """What clusters on the first GPU, None where there is none with room; has run on no GPU yet."""
    import faiss

    if not faiss.get_num_gpus():  # None either with faiss-cpu.
        return None
    import torch

    free, _ = torch.cuda.mem_get_info(0)
    if choose_device(free, sample_bytes + _GPU_SCRATCH_BYTES) == "cpu":
        return None
    return faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(dimensions), ngpu=1)


def open_dense(path: Path, mmap: bool = True) -> "DenseIndex":
    """Open what `write_dense` wrote; mapped, processes of one node share its pages.

    Raises RuntimeError, FAISS's own, when the file is not an index.
    """
    import faiss

    return DenseIndex(faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if mmap else 0))


class DenseIndex:
    """An open index; search may be called from several threads."""

    def __init__(self, index: Any) -> None:
        import faiss

        self._faiss: Any = faiss  # Its type stubs lack the keywords of search parameters.
        self._index = index
        self.count = int(index.ntotal)
        self.dimensions = int(index.d)
        self.kind = _KINDS[type(index).__name__]
        self._ef = HNSW_EF * max(1.0, self.count / HNSW_EF_AT) ** HNSW_EF_GROWTH
        # Made anew they cost 10 µs a search.
        self._unmasked: dict[int, Any] = {}

    def search(self, vector: Vectors, k: int, allowed: Mask | None = None) -> tuple[Scores, Rows]:
        """The k allowed rows nearest to a vector of shape (dimensions,), best first; all of them if they are fewer.

        `allowed` has shape (count,).
        """
        count = self.count if allowed is None else int(np.count_nonzero(allowed))
        k = min(k, count)
        if k < 1:
            return np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.int64)
        # Holds for the calling thread only. One query over 10,000 vectors on busy cores: 20 ms with OpenMP's own number
        # of threads, which wait for each other, 0.6 ms with one.
        self._faiss.omp_set_num_threads(1)
        query = np.ascontiguousarray(vector, dtype=np.float32).reshape(1, -1)
        selector = None
        if allowed is not None and count < self.count:
            bits = np.packbits(allowed, bitorder="little")  # Lives as long as the selector that points to it.
            selector = self._faiss.IDSelectorBitmap(self.count, self._faiss.swig_ptr(bits))
        walks = self.kind == "hnsw" and count >= min(EXACT_ROOTS * math.sqrt(self.count), self.count)
        if walks or self.kind == "ivf":
            if selector is None:
                parameters = self._unmasked.get(k) or self._unmasked.setdefault(k, self._parameters(k, None, 1))
            else:  # The fewer rows are allowed, the farther away the nearest of them are.
                parameters = self._parameters(k, selector, self.count / count)
            scores, rows = self._index.search(query, k, params=parameters)
            if rows[0, -1] >= 0:  # FAISS fills up with -1 what it did not find.
                return scores[0], rows[0]
        return self._search_exactly(query, k, selector)

    def _search_exactly(self, query: Vectors, k: int, selector: Any) -> tuple[Scores, Rows]:
        if self.kind == "ivf":
            parameters = self._faiss.SearchParametersIVF(sel=selector, nprobe=self._index.nlist)
            scores, rows = self._index.search(query, k, params=parameters)
        else:
            stored = self._faiss.downcast_index(self._index.storage) if self.kind == "hnsw" else self._index
            scores, rows = stored.search(query, k, params=self._faiss.SearchParameters(sel=selector))
        found = rows[0] >= 0  # None of them for a vector that is not finite.
        return scores[0][found], rows[0][found]

    def _parameters(self, k: int, selector: Any, widening: float) -> Any:
        if self.kind == "hnsw":
            return self._faiss.SearchParametersHNSW(sel=selector, efSearch=max(int(self._ef * widening), k))
        probes = min(int(IVF_PROBES * widening), self._index.nlist)
        return self._faiss.SearchParametersIVF(sel=selector, nprobe=probes)

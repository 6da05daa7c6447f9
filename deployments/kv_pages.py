"""Gives the memory of withheld KV blocks back to the system, where the KV cache is memory of this process.

vLLM allocates its pool whole. On a CPU the pages of a block that nobody may use can go: the kernel gives fresh ones, of
zeros, when the block is written again. So the engines of a node together take what their quotas say, not the sum of
their pools.
"""

import ctypes
import mmap
from collections.abc import Iterable, Iterator
from typing import Any

from vllm.config import VllmConfig
from vllm.v1.kv_cache_interface import KVCacheConfig, KVCacheTensor


class KvPages:
    """The pages behind the blocks of one KV cache at an address."""

    def __init__(self, address: int, tensors: Iterable[KVCacheTensor]) -> None:
        self._address = address
        self._tensors = tuple(tensors)
        self._advise = ctypes.CDLL(None, use_errno=True).madvise
        self._advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

    def release(self, blocks: Iterable[int]) -> None:
        """Give back the whole pages of these blocks; what was in them is lost."""
        runs = list(_find_runs(sorted(blocks)))
        for tensor in self._tensors:
            layers = len(tensor.layers)
            packed = layers > 1 and tensor.layer_stride < tensor.block_stride
            for layer in range(1 if packed else layers):
                start = self._address + tensor.offset + layer * tensor.layer_stride
                for first, end in runs:
                    self._release(start + first * tensor.block_stride, start + end * tensor.block_stride)

    def _release(self, start: int, end: int) -> None:
        # A page that a block shares with its neighbour stays.
        start = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        end = end // mmap.PAGESIZE * mmap.PAGESIZE
        if end > start and self._advise(start, end - start, mmap.MADV_DONTNEED):
            raise OSError(ctypes.get_errno(), "the pages of withheld KV blocks cannot be given back")


def find_pages(vllm_config: VllmConfig, kv_cache_config: KVCacheConfig) -> KvPages | None:
    """The pages of an engine's KV cache; None where another process or a GPU has it."""
    layers: dict[str, Any] = vllm_config.compilation_config.static_forward_context
    for tensor in kv_cache_config.kv_cache_tensors:
        cache: Any = getattr(layers.get(tensor.layers[0]), "kv_cache", None)
        cache = cache[0] if isinstance(cache, (list, tuple)) and cache else cache
        if cache is None or not hasattr(cache, "untyped_storage") or cache.device.type != "cpu":
            continue
        storage = cache.untyped_storage()
        if storage.nbytes() == tensor.size:
            return KvPages(storage.data_ptr(), kv_cache_config.kv_cache_tensors)
    return None


def _find_runs(blocks: list[int]) -> Iterator[tuple[int, int]]:
    """First and end of each run of neighbours."""
    first = 0
    for at in range(1, len(blocks) + 1):
        if at == len(blocks) or blocks[at] != blocks[at - 1] + 1:
            yield blocks[first], blocks[at - 1] + 1
            first = at

"""Withheld blocks cost no memory, and their neighbours keep what is in them."""

import mmap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.engine

BLOCKS, LAYERS, PAGE = 64, 4, 64 * 1024


def observe_resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


@pytest.mark.parametrize("block_outermost", [True, False])
def test_pages_of_released_blocks_go_back_and_all_others_stay(block_outermost: bool) -> None:
    from deployments.kv_pages import KvPages

    layer_stride, block_stride = (PAGE, LAYERS * PAGE) if block_outermost else (PAGE * BLOCKS, PAGE)
    size = BLOCKS * LAYERS * PAGE
    pool = torch.ones(size, dtype=torch.int8)
    tensor: Any = SimpleNamespace(
        size=size, layers=list("abcd"), layer_stride=layer_stride, block_stride=block_stride, offset=0
    )
    before = observe_resident_bytes()
    released = {*range(8, 40), 63}
    KvPages(pool.data_ptr(), [tensor]).release(released)
    assert before - observe_resident_bytes() > 0.8 * len(released) * LAYERS * PAGE
    for block in range(BLOCKS):
        for layer in range(LAYERS):
            start = layer * layer_stride + block * block_stride
            page = pool[start : start + PAGE]
            # The pool begins amid a page: at its ends a released block keeps up to two.
            assert bool(page.all()) if block not in released else int(page.sum()) <= 2 * mmap.PAGESIZE

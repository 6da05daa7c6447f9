"""Adapters of several requests in one batch, on the CPU, as vLLM's layers ask for them."""

from collections.abc import Sequence

import pytest
import torch
from vllm.lora.layers import LoRAMapping

from deployments.cpu_adapters import Group, GroupedAdapters, group_rows

pytestmark = pytest.mark.engine

SLOTS, RANK, INPUTS, OUTPUTS = 3, 8, 24, (16, 10)
# Adapters 7, 8 and 9 fill every slot; 0 is the base.
SLOT_OF = {9: 0, 7: 1, 8: 2}


def make_layer() -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(0)
    down = tuple(torch.randn(SLOTS, 1, RANK, INPUTS, generator=generator).bfloat16() for _ in OUTPUTS)
    up = tuple(torch.randn(SLOTS, 1, size, RANK, generator=generator).bfloat16() for size in OUTPUTS)
    return down, up


def make_adapters(rows: Sequence[int]) -> GroupedAdapters:
    adapters = GroupedAdapters(64, max_batches=64, device="cpu")
    ids: list[int | None] = [9, 7, 8]
    adapters.update_metadata(LoRAMapping(tuple(rows), tuple(rows), is_prefill=True), ids, SLOTS + 1, 100)
    return adapters


def add(adapters: GroupedAdapters, x: torch.Tensor, layer: tuple[tuple[torch.Tensor, ...], ...]) -> torch.Tensor:
    y = torch.ones(len(x), sum(OUTPUTS)).bfloat16()
    adapters.add_lora_linear(y, x, layer[0], layer[1], 1.0, OUTPUTS)
    return y


def expect(x: torch.Tensor, rows: Sequence[int], layer: tuple[tuple[torch.Tensor, ...], ...]) -> torch.Tensor:
    expected = torch.ones(len(x), sum(OUTPUTS))
    for row, adapter in enumerate(rows):
        if adapter:
            slot = SLOT_OF[adapter]
            parts = [b[slot, 0].float() @ (a[slot, 0].float() @ x[row].float()) for a, b in zip(*layer, strict=True)]
            expected[row] += torch.cat(parts)
    return expected


@pytest.mark.parametrize("rows", [[7] * 9, [0] * 9, [7, 7, 9, 9, 9, 8], [7, 0, 9, 7, 8, 0, 0, 9], [8]])
def test_each_row_gets_its_own_adapter_and_none_where_it_has_none(rows: list[int]) -> None:
    layer = make_layer()
    x = torch.randn(len(rows), INPUTS, generator=torch.Generator().manual_seed(1)).bfloat16()
    got = add(make_adapters(rows), x, layer)
    torch.testing.assert_close(got.float(), expect(x, rows, layer), rtol=0.01, atol=0.05)
    assert all(bool((got[row] == 1).all()) for row, adapter in enumerate(rows) if not adapter)


def test_an_adapter_that_takes_a_slot_replaces_what_was_there() -> None:
    layer, rows = make_layer(), [9, 9, 7]
    adapters = make_adapters(rows)
    x = torch.randn(3, INPUTS).bfloat16()
    before = add(adapters, x, layer)
    with torch.inference_mode():  # As vLLM may load one between two steps.
        for part in (*layer[0], *layer[1]):
            part[SLOT_OF[9]] = 0
            part[SLOT_OF[9]].copy_(torch.randn(part.shape[1:]))
    after = add(adapters, x, layer)
    torch.testing.assert_close(after.float(), expect(x, rows, layer), rtol=0.01, atol=0.05)
    assert not torch.equal(before[:2], after[:2])
    assert torch.equal(before[2], after[2])


def test_a_layer_that_the_adapter_leaves_out_stays_as_it_is() -> None:
    down, up = make_layer()
    for part in up:
        part[SLOT_OF[7]] = 0
    assert bool((add(make_adapters([7, 7]), torch.randn(2, INPUTS).bfloat16(), (down, up)) == 1).all())


def test_logits_and_embeddings_get_the_adapter_of_their_row() -> None:
    (down, _), (up, _) = make_layer()
    rows = [8, 0, 9]
    adapters = make_adapters(rows)
    x = torch.randn(3, INPUTS).bfloat16()
    logits = torch.zeros(3, OUTPUTS[0])
    adapters.add_lora_logits(logits, x, down, up, 1.0)
    ranks = torch.randn(3, RANK).bfloat16()
    embedded = torch.zeros(3, OUTPUTS[0]).bfloat16()
    adapters.add_lora_embedding(embedded, ranks, up)
    for row, adapter in enumerate(rows):
        matrix = up[SLOT_OF[adapter], 0].float() if adapter else torch.zeros(OUTPUTS[0], RANK)
        first = down[SLOT_OF[adapter], 0].float() if adapter else torch.zeros(RANK, INPUTS)
        torch.testing.assert_close(logits[row], matrix @ (first @ x[row].float()), rtol=0.01, atol=0.05)
        torch.testing.assert_close(embedded[row].float(), matrix @ ranks[row].float(), rtol=0.02, atol=0.1)


def test_rows_of_one_adapter_side_by_side_are_a_slice() -> None:
    groups = group_rows([5, 5, 0, 6, 4, 6], {5: 0, 6: 1, 4: 2})
    assert groups[0] == Group(0, slice(0, 2))
    assert groups[2] == Group(2, slice(4, 5))
    assert isinstance(groups[1].rows, torch.Tensor)
    assert groups[1].rows.tolist() == [3, 5]

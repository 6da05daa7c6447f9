"""LoRA adapters on a CPU, several in one batch, at nearly the speed of the base alone.

vLLM's own way without Triton copies the whole matrices of the adapter once for every token of a batch, in every layer,
and then multiplies token by token: one answer came at 70 to 90 tokens/s where the merged weights gave 250 to 340, and
a question of 400 tokens took 16 to 26 ms before its first token instead of 5 (pocket base, one thread). It also reads
slot -1, the last one, for the tokens of a batch that have no adapter: with every slot taken the base answers with the
last adapter's weights. Here the rows of a batch are grouped by adapter and each group is multiplied once; rows without
adapter are left alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from vllm.lora.layers import LoRAMapping
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.platforms import current_platform
from vllm.v1.worker.cpu_worker import CPUWorker

Tensors = tuple[torch.Tensor, ...]


class AdapterWorker(CPUWorker):
    """vLLM's worker for the CPU, whose layers multiply adapters by `GroupedAdapters`; named as `worker_cls`."""

    def load_model(self, *, load_dummy_weights: bool = False) -> None:
        # vLLM asks its platform for the name of the class while it wraps the layers of the model.
        current_platform.get_punica_wrapper = lambda: f"{__name__}.{GroupedAdapters.__name__}"
        super().load_model(load_dummy_weights=load_dummy_weights)


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of a batch that one adapter answers; neighbours are a slice, so that they need not be copied."""

    slot: int
    rows: slice | torch.Tensor


@dataclass(frozen=True, slots=True)
class Factors:
    """One adapter in one layer, `down` of shape (parts x rank, inputs) and one `up` of (outputs, rank) per part.

    In float32: a small product in bfloat16 takes oneDNN 30 µs to begin, in float32 4 µs.
    """

    version: int
    down: torch.Tensor
    up: Tensors


class GroupedAdapters(PunicaWrapperCPU):
    """What adapters add to the layers of a batch. Inputs and outputs have shape (rows, features)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tokens: tuple[Group, ...] = ()
        self._prompts: tuple[Group, ...] = ()
        self._factors: dict[tuple[int, int], Factors] = {}

    def update_metadata(
        self,
        mapping: LoRAMapping,
        lora_index_to_id: list[int | None],
        max_loras: int,
        vocab_size: int,
        **kwargs: Any,
    ) -> None:
        super().update_metadata(mapping, lora_index_to_id, max_loras, vocab_size, **kwargs)
        slots = {adapter: slot for slot, adapter in enumerate(lora_index_to_id) if adapter is not None}
        self._tokens = group_rows(mapping.index_mapping, slots)
        self._prompts = group_rows(mapping.prompt_mapping, slots)

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: Tensors,
        lora_b_stacked: Tensors,
        scale: float,
        output_slices: tuple[int, ...],
        *,
        buffer: Tensors | None = None,
        **kwargs: Any,
    ) -> None:
        """Add to `y`, part by part, the inputs times both matrices of each row's adapter."""
        self._add(self._tokens, y, x, lora_a_stacked, lora_b_stacked, scale)

    def add_lora_logits(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: torch.Tensor,
        lora_b_stacked: torch.Tensor,
        scale: float,
        *,
        buffer: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        """As `add_lora_linear`, for the rows that a token is drawn from."""
        y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
        self._add(self._prompts, y, x, (lora_a_stacked,), (lora_b_stacked,), scale)

    def add_lora_embedding(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_b_stacked: torch.Tensor,
        add_inputs: bool = True,
        **kwargs: Any,
    ) -> None:
        """Add to `y` the inputs, which are of the rank already, times the second matrix of each row's adapter."""
        for group in self._tokens:
            up = lora_b_stacked[group.slot].flatten(0, 1)
            y[group.rows] += x[group.rows].to(up.dtype) @ up.t()

    def _add(
        self, groups: tuple[Group, ...], y: torch.Tensor, x: torch.Tensor, down: Tensors, up: Tensors, scale: float
    ) -> None:
        for group in groups:
            factors = self._find(group.slot, down, up)
            if not factors.up:
                continue
            rows = group.rows
            inputs, outputs = x[rows], y[rows]
            ranks = torch.mm(inputs.float(), factors.down.t())
            if scale != 1:
                ranks *= scale
            start = 0
            for part, of_part in zip(ranks.chunk(len(factors.up), 1), factors.up, strict=True):
                outputs[:, start : start + len(of_part)] += torch.mm(part, of_part.t())
                start += len(of_part)
            if isinstance(rows, torch.Tensor):  # Then `outputs` is a copy.
                y[rows] = outputs

    def _find(self, slot: int, down: Tensors, up: Tensors) -> Factors:
        """The factors of a layer's slot, made anew when the layer was given another adapter."""
        key = (up[0].data_ptr(), slot)
        version = up[0]._version  # Counts what was written to it; vLLM writes every part of a slot that it fills.
        factors = self._factors.get(key)
        if factors is None or factors.version != version:
            parts = tuple(part[slot, 0].float() for part in up)
            # An adapter that leaves the layer out has zeros there.
            used = any(bool(part.any()) for part in parts)
            factors = Factors(version, torch.cat([part[slot, 0].float() for part in down]), parts if used else ())
            self._factors[key] = factors
        return factors


def group_rows(adapters: Sequence[int], slots: dict[int, int]) -> tuple[Group, ...]:
    """The rows of each adapter, by its slot; 0 stands for no adapter, whose rows are in no group."""
    rows: dict[int, list[int]] = {}
    for row, adapter in enumerate(adapters):
        if adapter > 0:
            rows.setdefault(slots[adapter], []).append(row)
    return tuple(
        Group(slot, slice(of[0], of[-1] + 1) if of[-1] - of[0] == len(of) - 1 else torch.tensor(of))
        for slot, of in rows.items()
    )

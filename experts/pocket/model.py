"""The pocket base: a small Qwen3, and attention that is quick to train on a CPU."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, Qwen3Config, Qwen3ForCausalLM

from experts.pocket.vocabulary import MARKS, MAX_POSITIONS, SIZE

BRANCHED_ATTENTION = "branched"
# Rows are done in so many blocks, each of which skips the columns that come after all of it: 3/8 of the scores.
_ROW_BLOCKS = 4


@dataclass(frozen=True)
class Shape:
    """The size of a model; heads are 32 wide, the narrowest that vLLM serves on a CPU."""

    hidden: int
    inner: int
    layers: int


SHAPES: Mapping[str, Shape] = {
    # 2.0 million parameters: the shipped base.
    "first": Shape(192, 512, 4),
    # 2.9 million, grown from the first. Two more layers, because a calculation finds its figures before it uses them.
    "second": Shape(192, 512, 6),
    # 11 million, four times the second: the one model that the specialists are compared with.
    "monolith": Shape(384, 1024, 6),
}


def make_config(shape: Shape = SHAPES["first"]) -> Qwen3Config:
    """The configuration of a base."""
    return Qwen3Config(
        vocab_size=SIZE,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.hidden // 32,
        num_key_value_heads=shape.hidden // 32,
        head_dim=32,
        max_position_embeddings=MAX_POSITIONS,
        rope_theta=10000.0,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=3,
        bos_token_id=None,
        use_cache=True,
        dtype="bfloat16",
    )


def make_model(shape: Shape = SHAPES["first"]) -> Qwen3ForCausalLM:
    """A base with fresh weights, in float32."""
    return Qwen3ForCausalLM(make_config(shape)).float()


@torch.compiler.disable
def attend_branched(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention under an additive mask, written out in bfloat16.

    On a CPU the backward pass of torch's fused attention took 54 % of a step under a mask; compiled, the softmax of
    masked scores took three to five times as long as torch's own.
    """
    length = query.shape[2]
    rows = -(-length // _ROW_BLOCKS)
    mixed = []
    with torch.autocast(query.device.type, enabled=False):
        query, key, value = ((query * scaling).bfloat16(), key.bfloat16().transpose(-1, -2), value.bfloat16())
        for begin in range(0, length, rows):
            end = min(begin + rows, length)
            scores = torch.matmul(query[:, :, begin:end], key[..., :end]).add_(attention_mask[:, :, begin:end, :end])
            mixed.append(torch.matmul(torch.softmax(scores, -1), value[:, :, :end]))
    return torch.cat(mixed, 2).transpose(1, 2).contiguous(), None


class Layers(nn.Module):
    """The layers of a base, with what the one in the middle and the one after it put out beside the last."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def forward(
        self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        hidden = self.base.embed_tokens(ids)
        rotary = self.base.rotary_emb(hidden, positions)
        seen = []
        for layer in self.base.layers:
            hidden = layer(hidden, attention_mask=mask, position_ids=positions, position_embeddings=rotary)
            seen.append(hidden)
        middle = len(seen) // 2
        return self.base.norm(hidden), seen[middle - 1], seen[middle]


class Probes(nn.Module):
    """Two readers that exist in training only.

    One reads from every passage token, after the middle layer, which passage it is in. The other reads from the place
    where an answer begins, one layer later, which passage will be cited first. They teach the early layers what the
    citation needs; nothing of them is shipped.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.inside = nn.Linear(hidden, 1 + len(MARKS))
        self.cited = nn.Linear(hidden, 1 + len(MARKS))

    def forward(
        self, middle: torch.Tensor, after: torch.Tensor, passage: torch.Tensor, starts: torch.Tensor
    ) -> torch.Tensor:
        inside, begun = (passage >= 0) & ~starts, (passage >= 0) & starts
        lost = _average_loss(self.inside(middle[inside]), passage[inside])
        return 0.2 * lost + 0.5 * _average_loss(self.cited(after[begun]), passage[begun])


def _average_loss(guessed: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The mean cross entropy; nothing where a batch has no passages."""
    return functional.cross_entropy(guessed.float(), wanted, reduction="sum") / max(1, wanted.numel())


AttentionInterface.register(BRANCHED_ATTENTION, attend_branched)

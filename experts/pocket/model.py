"""The pocket base: a Qwen3 of under two million parameters, and attention that is quick to train on a CPU."""

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, Qwen3Config, Qwen3ForCausalLM

from experts.pocket.vocabulary import MARKS, MAX_POSITIONS, SIZE

BRANCHED_ATTENTION = "branched"


def make_config() -> Qwen3Config:
    """The shape of the base; heads of 32 are the narrowest that vLLM serves on a CPU."""
    return Qwen3Config(
        vocab_size=SIZE,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
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


def make_model() -> Qwen3ForCausalLM:
    """A base with fresh weights, in float32."""
    return Qwen3ForCausalLM(make_config()).float()


def attend_branched(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention under a boolean mask, written out in bfloat16.

    On a CPU the backward pass of torch's fused attention took 54 % of a step under this mask; written out it is
    compiled together with what surrounds it.
    """
    with torch.autocast("cpu", enabled=False):
        query, key, value = ((query * scaling).bfloat16(), key.bfloat16(), value.bfloat16())
        scores = torch.matmul(query, key.transpose(-1, -2)).masked_fill(~attention_mask, -1e4)
        mixed = torch.matmul(torch.softmax(scores, -1), value)
    return mixed.transpose(1, 2).contiguous(), None


class Layers(nn.Module):
    """The layers of a base, with what the second and the third one put out beside the last."""

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
        return self.base.norm(hidden), seen[1], seen[2]


class Probes(nn.Module):
    """Two readers that exist in training only.

    One reads from every passage token, after the second layer, which passage it is in. The other reads from the place
    where an answer begins, after the third layer, which passage will be cited. They teach the early layers what the
    citation needs; nothing of them is shipped.
    """

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Linear(192, 1 + len(MARKS))
        self.cited = nn.Linear(192, 1 + len(MARKS))

    def forward(
        self, second: torch.Tensor, third: torch.Tensor, passage: torch.Tensor, starts: torch.Tensor
    ) -> torch.Tensor:
        inside = (passage >= 0) & ~starts
        lost = functional.cross_entropy(self.inside(second[inside]).float(), passage[inside])
        return 0.2 * lost + 0.5 * functional.cross_entropy(self.cited(third[starts]).float(), passage[starts])


AttentionInterface.register(BRANCHED_ATTENTION, attend_branched)

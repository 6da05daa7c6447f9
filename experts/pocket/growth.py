"""A new base that begins where a trained one of fewer layers and another vocabulary ended.

The added layers put out nothing at first (Chen et al. 2016, Net2Net), so that the grown base answers as the old one did
as far as the two tokenizers cut a text alike. What the old one learned in 32 million tokens need not be learned again.
"""

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from experts.pocket.export import load_base
from experts.pocket.model import Shape, make_model
from experts.pocket.vocabulary import load_tokenizer


@torch.no_grad()
def grow_base(folder: Path, tokenizer: PreTrainedTokenizerFast, shape: Shape) -> Qwen3ForCausalLM:
    """A base of `shape` for `tokenizer`, from the saved base in `folder`, which is as wide and has fewer layers."""
    old, new = load_base(folder), make_model(shape)
    old_layers, new_layers = old.model.layers, new.model.layers
    if old.config.hidden_size != shape.hidden or len(old_layers) > shape.layers:
        raise ValueError(
            f"{folder} has {len(old_layers)} layers of width {old.config.hidden_size} and cannot grow into "
            f"{shape.layers} layers of width {shape.hidden}; choose a base as wide with as many layers or fewer"
        )
    kept = choose_places(len(old_layers), len(new_layers))
    for place, layer in enumerate(new_layers):
        if place in kept:
            layer.load_state_dict(old_layers[kept.index(place)].state_dict())
        else:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    new.model.norm.load_state_dict(old.model.norm.state_dict())
    new.model.embed_tokens.weight.copy_(_translate_embeddings(old, load_tokenizer(folder), tokenizer))
    return new


def choose_places(old: int, new: int) -> list[int]:
    """Where the old layers stand among the new ones, spread evenly, the first one first: 4 in 6 are 0, 1, 3, 4."""
    return [layer * new // old for layer in range(old)]


def _translate_embeddings(
    old: Qwen3ForCausalLM, from_tokenizer: PreTrainedTokenizerFast, to_tokenizer: PreTrainedTokenizerFast
) -> torch.Tensor:
    """The embedding of the same token, or the mean over the old tokens that a new one is made of."""
    known = from_tokenizer.get_vocab()
    table = old.model.embed_tokens.weight
    rows = []
    for token, index in sorted(to_tokenizer.get_vocab().items(), key=lambda item: item[1]):
        if token in known:
            rows.append(table[known[token]])
        else:
            pieces = from_tokenizer.encode(to_tokenizer.decode([index]), add_special_tokens=False)
            rows.append(table[pieces].mean(0) if pieces else table.mean(0))
    return torch.stack(rows)

"""The shape of a model: what its weights, its KV cache and its steps are computed from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from experts.errors import ConfigurationError
from experts.fleet import is_path

_SHAPES_FILE = Path(__file__).parent / "model_shapes.yaml"


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): one compressed vector per token for all heads."""

    kv_rank: int
    rope_dim: int
    nope_dim: int
    value_dim: int
    query_rank: int | None


@dataclass(frozen=True, slots=True)
class Mixture:
    """Mixture of experts inside a model; its first `dense_layers` have none."""

    experts: int
    experts_per_token: int
    shared_experts: int
    intermediate: int
    dense_layers: int


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder-only transformer with gated feed-forward layers, as Llama, Qwen, Mistral, Gemma and DeepSeek are."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    latent: LatentAttention | None = None
    mixture: Mixture | None = None

    @property
    def embedding(self) -> int:
        """Parameters of one embedding; quantization leaves it alone."""
        return self.vocabulary * self.hidden

    @property
    def embeddings(self) -> int:
        return self.embedding * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        return self.embeddings + self.body

    @property
    def body(self) -> int:
        """Parameters besides embeddings."""
        return self.layers * self._attention + self._dense_feed_forward + self._routed

    def count_used(self, tokens: float) -> float:
        """Parameters besides the input embedding that a step over `tokens` tokens reads, in expectation."""
        used = self.embedding + self.body
        if self.mixture is None:
            return used
        reached = 1 - (1 - self.mixture.experts_per_token / self.mixture.experts) ** tokens
        return used - self._routed * (1 - reached)

    def count_kv_values(self, tensor_parallel: int) -> int:
        """Values of the KV cache that one token takes on each GPU; a latent vector is on all of them."""
        if self.latent is not None:
            return self.layers * (self.latent.kv_rank + self.latent.rope_dim)
        return 2 * self.layers * max(1, self.kv_heads // tensor_parallel) * self.head_dim

    def count_adapter(self, rank: int) -> int:
        """Parameters of a LoRA adapter on attention and feed-forward layers."""
        attended, kept = self.heads * self.head_dim, self.kv_heads * self.head_dim
        wide = 2 * (self.hidden + attended) + 2 * (self.hidden + kept) + 3 * (self.hidden + self.intermediate)
        return self.layers * rank * wide

    @property
    def _attention(self) -> int:
        latent = self.latent
        if latent is None:
            return 2 * self.hidden * (self.heads + self.kv_heads) * self.head_dim
        query_dim = self.heads * (latent.nope_dim + latent.rope_dim)
        rank = latent.query_rank
        query = self.hidden * query_dim if rank is None else rank * (self.hidden + query_dim)
        keys_values = latent.kv_rank * self.heads * (latent.nope_dim + latent.value_dim)
        return (
            query
            + self.hidden * (latent.kv_rank + latent.rope_dim)
            + keys_values
            + self.heads * latent.value_dim * self.hidden
        )

    @property
    def _dense_feed_forward(self) -> int:
        if self.mixture is None:
            return 3 * self.layers * self.hidden * self.intermediate
        mixed = self.layers - self.mixture.dense_layers
        shared = mixed * self.mixture.shared_experts * self.mixture.intermediate
        return 3 * self.hidden * (self.mixture.dense_layers * self.intermediate + shared)

    @property
    def _routed(self) -> int:
        if self.mixture is None:
            return 0
        mixed = self.layers - self.mixture.dense_layers
        return 3 * mixed * self.hidden * self.mixture.intermediate * self.mixture.experts


def read_shape(config: Mapping[str, Any], source: str) -> ModelShape:
    """The shape that a config.json of the Hugging Face hub describes; raises ConfigurationError if it lacks a key."""
    config = config.get("text_config", config)
    try:
        heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
        experts = config.get("n_routed_experts") or config.get("num_local_experts") or config.get("num_experts")
        return ModelShape(
            layers=int(config["num_hidden_layers"]),
            hidden=hidden,
            intermediate=int(config["intermediate_size"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or hidden // heads),
            vocabulary=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", False)),
            latent=_read_latent(config) if config.get("kv_lora_rank") else None,
            mixture=_read_mixture(config, int(experts)) if experts else None,
        )
    except KeyError as error:
        raise ConfigurationError(
            f"{source} has no {error}, which a plan needs; it is a config.json as on the Hugging Face hub: add the key"
        ) from error


def find_shape(model: str, models: Mapping[str, Mapping[str, Any]]) -> ModelShape:
    """The shape of a model: of its folder, of `models` (config.json by hub id), or of the shipped table, in this order.

    Raises ConfigurationError when none has it.
    """
    file = Path(model) / "config.json"
    if is_path(model) and file.is_file():
        return read_shape(json.loads(file.read_text(encoding="utf-8")), str(file))
    if model in models:
        return read_shape(models[model], f"models.{model}")
    shipped = _load_shipped()
    if model in shipped:
        return shipped[model]
    raise ConfigurationError(
        f"the shape of '{model}' is unknown: it is no folder with a config.json and not in the shipped table of "
        f"{len(shipped)} models; write the numbers of its config.json under models: in the file of rates"
    )


@cache
def _load_shipped() -> dict[str, ModelShape]:
    entries = yaml.safe_load(_SHAPES_FILE.read_text(encoding="utf-8"))
    return {model: read_shape(entry, str(_SHAPES_FILE)) for entry in entries for model in entry["models"]}


def _read_latent(config: Mapping[str, Any]) -> LatentAttention:
    rank = config.get("q_lora_rank")
    return LatentAttention(
        kv_rank=int(config["kv_lora_rank"]),
        rope_dim=int(config["qk_rope_head_dim"]),
        nope_dim=int(config["qk_nope_head_dim"]),
        value_dim=int(config["v_head_dim"]),
        query_rank=None if rank is None else int(rank),
    )


def _read_mixture(config: Mapping[str, Any], experts: int) -> Mixture:
    return Mixture(
        experts=experts,
        experts_per_token=int(config["num_experts_per_tok"]),
        shared_experts=int(config.get("n_shared_experts") or 0),
        intermediate=int(config.get("moe_intermediate_size") or config["intermediate_size"]),
        dense_layers=int(config.get("first_k_dense_replace") or 0),
    )

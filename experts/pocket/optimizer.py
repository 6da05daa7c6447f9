"""The optimiser and its schedule: Muon for the matrices, AdamW for the rest, rates by the share of time gone."""

from collections.abc import Iterable

import torch
from torch import nn

# Of the base, matrices and the rest, and of the adapters. All follow one schedule.
MUON_RATE = 0.02
ADAMW_RATE = 0.003
ADAPTER_RATE = 0.002
WARMUP_SHARE = 0.015
_DECAY_FROM = 0.55


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The matrices inside the layers, and everything else (embeddings and norms)."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            inside = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
            (matrices if inside else others).append(parameter)
    return matrices, others


def make_optimizers(model: nn.Module, adapter: bool = False) -> list[torch.optim.Optimizer]:
    """The optimisers of a base, or of an adapter, whose thin matrices AdamW handles alone."""
    if adapter:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return [torch.optim.AdamW(trained, lr=ADAPTER_RATE, betas=(0.9, 0.98), weight_decay=0.0)]
    matrices, others = split_parameters(model)
    return [
        torch.optim.Muon(matrices, lr=MUON_RATE, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(others, lr=ADAMW_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def scale_rate(share: float, warmup: float = WARMUP_SHARE) -> float:
    """The factor on every rate after a share of the training time: warm up, hold, then fall to nothing."""
    if share < warmup:
        return max(share, 1e-4) / warmup
    if share < _DECAY_FROM:
        return 1.0
    return max(0.0, 1.0 - (share - _DECAY_FROM) / (1.0 - _DECAY_FROM))


def set_rates(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Every rate becomes its starting value times the factor."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * factor

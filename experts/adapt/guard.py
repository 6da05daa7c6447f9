"""The guard against catastrophic forgetting: accuracy on general questions, before and after."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experts.adapt.device import Device
from experts.adapt.encoding import IGNORED, Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Accuracy on the general set before and after the run, and the drop that is allowed."""

    rows: int
    before: float
    after: float
    max_drop: float

    @property
    def drop(self) -> float:
        return self.before - self.after

    @property
    def exceeded(self) -> bool:
        # One row's share is 1 / rows; the margin is below that for any set that fits a disk.
        return self.drop > self.max_drop + 1e-9

    def describe(self) -> str:
        """Both figures and the limit."""
        return (
            f"general accuracy {self.before:.1%} before, {self.after:.1%} after ({self.rows} rows), a drop of "
            f"{self.drop:.1%}, limit {self.max_drop:.1%}"
        )


def measure_exact(
    model: Any, tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Encoded], tokens: int, device: Device
) -> float:
    """The share of rows whose every answer token is the likeliest one: what greedy decoding would write.

    At most `tokens` tokens go through the model at once, or one row.
    """
    import torch

    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    ordered = sorted(rows, key=lambda row: len(row.input_ids))
    was_training = model.training
    model.eval()
    right = 0
    try:
        while ordered:
            size = max(1, tokens // len(ordered[-1].input_ids))
            part, ordered = ordered[-size:], ordered[:-size]
            # Padded on the left, answers end together, and only their logits are computed.
            width = len(part[-1].input_ids)
            ids = torch.tensor([[pad] * (width - len(row.input_ids)) + row.input_ids for row in part])
            labels = torch.tensor([[IGNORED] * (width - len(row.labels)) + row.labels for row in part])
            mask = torch.tensor([[0] * (width - len(row.input_ids)) + [1] * len(row.input_ids) for row in part])
            kept = max(row.answer_tokens for row in part) + 1
            with (
                torch.no_grad(),
                torch.autocast(device.kind, dtype=torch.bfloat16, enabled=device.bf16),
            ):
                logits = model(
                    input_ids=ids.to(model.device),
                    attention_mask=mask.to(model.device),
                    position_ids=(mask.cumsum(-1) - 1).clamp(min=0).to(model.device),
                    logits_to_keep=kept,
                ).logits
            likeliest = logits[:, :-1].argmax(-1).cpu()
            wanted = labels[:, 1 - kept :]
            right += int(((likeliest == wanted) | (wanted == IGNORED)).all(-1).sum())
    finally:
        model.train(was_training)
    return right / max(len(rows), 1)

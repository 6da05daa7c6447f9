"""A few steps before the full run: does the loss fall, how fast is it, and does it keep within the memory?"""

import gc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from experts.adapt.device import observe_free_gib, observe_peak_gib, reset_peak
from experts.adapt.encoding import Encoded
from experts.adapt.progress import Progress
from experts.adapt.training import LossFunction, TrainingPlan, Watch, make_trainer
from experts.errors import ConfigurationError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_STAGE = "trial"
_STEPS = 6
# The second step is the first that has the optimizer's state.
_PROBE_STEPS = 2
# The same few rows every step: whatever the data, a loss that ends higher than it began is a rate that is too high.
_HIGHER = 1.05


@dataclass(frozen=True, slots=True)
class Trial:
    """What the trial steps showed; `micro_batch` and `recompute` are what the memory allows."""

    micro_batch: int
    recompute: bool
    first_loss: float
    last_loss: float
    tokens_per_s: float
    peak_gib: float
    limit_gib: float


def try_plan(
    load_model: Callable[[], Any],
    tokenizer: "PreTrainedTokenizerBase",
    rows: Sequence[Encoded],
    plan: TrainingPlan,
    memory_gib: float | None,
    progress: Progress,
    compute_loss: LossFunction | None = None,
) -> Trial:
    """Train fresh copies of the model on the longest rows, at as many rows at once as keep within the memory.

    One row is tried first and what more rows take is foreseen, so that no trial goes far over the limit; the last
    resort is one row with its activations computed again. Raises ConfigurationError when even that takes more than
    allowed, or when the loss is no number or rises.
    """
    progress.start(_STAGE)
    limit_gib = memory_gib if memory_gib is not None else observe_free_gib(plan.device)
    longest = sorted(rows, key=lambda row: -len(row.input_ids))
    sizes = [size for size in range(1, plan.micro_batch + 1) if plan.batch_size % size == 0]

    def attempt(size: int, steps: int, recompute: bool = False) -> Trial | None:
        progress.update(_STAGE, f"{size} rows at once{', activations computed again' if recompute else ''}")
        shown = replace(plan, steps=steps, micro_batch=size, recompute=recompute)
        trial = _try(load_model, tokenizer, longest[:size], shown, limit_gib, compute_loss)
        return trial if trial is not None and trial.peak_gib <= limit_gib else None

    reset_peak(plan.device)
    before_gib = observe_peak_gib(plan.device)
    one = attempt(1, _PROBE_STEPS)
    trial = None
    if one is None:
        trial = attempt(1, _STEPS, recompute=True)
    else:
        two = None
        if len(sizes) > 1 and foresee_peak(before_gib, one.peak_gib, sizes[-1]) > limit_gib:
            two = attempt(sizes[1], _PROBE_STEPS)
            sizes = [1] if two is None else choose_sizes(sizes, one.peak_gib, two.peak_gib, limit_gib)
        while trial is None and sizes:
            trial = attempt(sizes.pop(), _STEPS)
    if trial is None:
        raise ConfigurationError(
            f"one row of {len(longest[0].input_ids)} tokens takes more memory than the limit of {limit_gib:.2f} GiB, "
            "even with its activations computed again; raise memory_gib, lower max_tokens, or adapt with method: lora"
        )
    _judge(trial, plan.learning_rate)
    progress.finish(
        _STAGE,
        f"loss {trial.first_loss:.3f} to {trial.last_loss:.3f} in {_STEPS} steps on the longest rows, "
        f"{trial.micro_batch} at once, peak {trial.peak_gib:.2f} of {limit_gib:.2f} GiB",
    )
    return trial


def foresee_peak(before_gib: float, one_gib: float, rows: int) -> float:
    """The most that `rows` rows can take when one takes `one_gib`: as if all that training holds grew with the rows."""
    return before_gib + rows * (one_gib - before_gib)


def choose_sizes(sizes: Sequence[int], one_gib: float, two_gib: float, limit_gib: float) -> list[int]:
    """Those of the ascending sizes that keep within the limit, by what the second size takes more than one row."""
    per_row = max(two_gib - one_gib, 0.0) / (sizes[1] - 1)
    return [size for size in sizes if one_gib + (size - 1) * per_row <= limit_gib]


def _try(
    load_model: Callable[[], Any],
    tokenizer: "PreTrainedTokenizerBase",
    rows: Sequence[Encoded],
    plan: TrainingPlan,
    limit_gib: float,
    compute_loss: LossFunction | None,
) -> Trial | None:
    """None where the device has not the memory at all."""
    import torch
    from transformers import TrainerCallback

    losses: list[float] = []

    class _Losses(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
            if "loss" in logs:
                losses.append(logs["loss"])

    # Two parts a step where the run has several: gradients are then held while the next part runs.
    parts = min(2, plan.batch_size // plan.micro_batch)
    plan = replace(plan, batch_size=parts * plan.micro_batch)
    watch = Watch()
    model: Any = None
    trainer: Any = None
    reset_peak(plan.device)
    try:
        with TemporaryDirectory() as folder:
            draw = partial(_draw, rows)
            model = load_model()
            trainer = make_trainer(
                model, tokenizer, draw, (), plan, Path(folder), watch, compute_loss=compute_loss, warm_up=False
            )
            trainer.add_callback(_Losses())
            watch.restart()
            trainer.train()
    except torch.OutOfMemoryError:
        return None
    finally:
        model = trainer = None
        gc.collect()
    speed = watch.tokens / max(watch.seconds, 1e-9)
    peak_gib = observe_peak_gib(plan.device)
    return Trial(plan.micro_batch, plan.recompute, losses[0], losses[-1], speed, peak_gib, limit_gib)


def _draw(rows: Sequence[Encoded], position: int) -> Encoded:
    return rows[position % len(rows)]


def _judge(trial: Trial, learning_rate: float) -> None:
    if not math.isfinite(trial.last_loss):
        raise ConfigurationError(
            f"trial: the loss is {trial.last_loss} after {_STEPS} steps at learning_rate {learning_rate:g}; lower "
            "learning_rate, or see whether the base's own loss is a number"
        )
    if trial.last_loss > trial.first_loss * _HIGHER:
        raise ConfigurationError(
            f"trial: {_STEPS} steps on the same {trial.micro_batch} rows raised the loss from {trial.first_loss:.3f} "
            f"to {trial.last_loss:.3f} at learning_rate {learning_rate:g}; lower learning_rate"
        )

"""The training loop: trl's SFTTrainer over rows that are drawn by their position in the run, resumable after a kill."""

import math
import random
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from experts.adapt.device import Device
from experts.adapt.encoding import Encoded
from experts.adapt.progress import Progress
from experts.adapt.run_folder import RunFolder
from experts.errors import ConfigurationError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase, TrainerCallback
    from trl import SFTTrainer

LossFunction = Callable[[Any, dict[str, "torch.Tensor"], "torch.Tensor"], "torch.Tensor"]

_STAGE = "train"
_MEASUREMENTS = 10
_WARMUP_SHARE = 0.03
_SHOWN_STEPS = 20
# Written into a checkpoint once all else in it is: a kill while it was written leaves it out.
_WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How a run trains: `steps` of `batch_size` rows, `micro_batch` rows at once; `recompute` trades time for memory
    by computing activations again in the backward pass."""

    steps: int
    batch_size: int
    micro_batch: int
    recompute: bool
    learning_rate: float
    seed: int
    checkpoint_every_s: float
    device: Device


@dataclass(frozen=True, slots=True)
class TrainingFigures:
    """What a run did; `seconds`, `tokens` and `data_share` are of this process, after a resume the rest of the run."""

    loss: float
    held_out_loss: float | None
    resumed_at: int
    seconds: float
    tokens: int
    data_share: float

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / max(self.seconds, 1e-9)


class Watch:
    """Where the time of a process goes."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.began = time.perf_counter()
        self.data_s = 0.0
        self.tokens = 0

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began


def train(
    model: Any,
    tokenizer: "PreTrainedTokenizerBase",
    draw: Callable[[int], Encoded],
    held_out: Sequence[Encoded],
    plan: TrainingPlan,
    run: RunFolder,
    progress: Progress,
    *,
    compute_loss: LossFunction | None = None,
    after_step: Callable[[int], None] | None = None,
) -> TrainingFigures:
    """Train the model in place, from the run's last whole checkpoint where it has one.

    `draw` gives the row at a position of the run, from 0 to steps * batch_size, and is asked in order, a micro-batch
    ahead at most. `compute_loss` gets right-padded inputs and the answer tokens of the whole step; absent: the mean
    negative log-likelihood of the answers. `after_step` is called with the number of each step, from 1.

    Raises ConfigurationError when the loss is no longer a number.
    """
    checkpoint = _find_checkpoint(run.checkpoints)
    resumed_at = int(checkpoint.name.rsplit("-", 1)[1]) if checkpoint is not None else 0
    run.rewind_log(resumed_at if checkpoint is not None else -1)
    progress.start(_STAGE, f"from step {resumed_at} of {plan.steps}" if resumed_at else "")
    watch = Watch()
    trainer = make_trainer(model, tokenizer, draw, held_out, plan, run.checkpoints, watch, compute_loss)
    trainer.args.eval_on_start = bool(held_out) and checkpoint is None
    trainer.add_callback(_make_listener(run, plan, progress, watch, after_step))
    watch.restart()
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    log = run.read_log()
    losses = [line["loss"] for line in log if "loss" in line]
    measured = [line["held_out_loss"] for line in log if "held_out_loss" in line]
    figures = TrainingFigures(
        loss=losses[-1],
        held_out_loss=measured[-1] if measured else None,
        resumed_at=resumed_at,
        seconds=watch.seconds,
        tokens=watch.tokens,
        data_share=watch.data_s / max(watch.seconds, 1e-9),
    )
    progress.finish(
        _STAGE,
        f"{plan.steps} steps, loss {figures.loss:.3f}, {figures.tokens_per_s:,.0f} tokens/s, "
        f"{figures.data_share:.1%} of the time in data",
    )
    return figures


def make_trainer(
    model: Any,
    tokenizer: "PreTrainedTokenizerBase",
    draw: Callable[[int], Encoded],
    held_out: Sequence[Encoded],
    plan: TrainingPlan,
    folder: Path,
    watch: Watch,
    compute_loss: LossFunction | None = None,
    warm_up: bool = True,
) -> "SFTTrainer":
    """An SFTTrainer that says nothing, sends nothing anywhere and takes its rows in the order of the run."""
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback, ProgressCallback
    from trl import SFTConfig, SFTTrainer

    def draw_rows(columns: dict[str, list[int]]) -> dict[str, list[list[int]]]:
        return _to_columns(draw(position) for position in columns["position"])

    class _Trainer(SFTTrainer):
        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            if compute_loss is None or not self.model.training:
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            return compute_loss(model, inputs, num_items_in_batch)

        def get_batch_samples(self, *arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            drawn = super().get_batch_samples(*arguments, **named)
            watch.data_s += time.perf_counter() - began
            watch.tokens += sum(int(inputs["attention_mask"].sum()) for inputs in drawn[0])
            return drawn

    rows = Dataset.from_dict({"position": range(plan.steps * plan.batch_size)}).with_transform(draw_rows)
    arguments = SFTConfig(
        output_dir=str(folder),
        max_steps=plan.steps,
        per_device_train_batch_size=plan.micro_batch,
        per_device_eval_batch_size=plan.micro_batch,
        gradient_accumulation_steps=plan.batch_size // plan.micro_batch,
        gradient_checkpointing=plan.recompute,
        learning_rate=plan.learning_rate,
        lr_scheduler_type="cosine" if warm_up else "constant",
        warmup_steps=max(1, round(plan.steps * _WARMUP_SHARE)) if warm_up else 0,
        max_grad_norm=1.0,
        bf16=plan.device.bf16,
        use_cpu=plan.device.kind == "cpu",
        seed=plan.seed,
        # The order is the run's own, so that a resumed run sees the same rows.
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        eval_strategy="steps" if held_out else "no",
        eval_steps=max(1, plan.steps // _MEASUREMENTS),
        # Checkpoints go by time: the listener asks for them.
        save_strategy="no",
        save_total_limit=2,
        logging_steps=1,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=plan.device.kind == "cuda",
    )
    measured = Dataset.from_dict(_to_columns(held_out)) if held_out else None
    trainer = _Trainer(
        model=model, args=arguments, train_dataset=rows, eval_dataset=measured, processing_class=tokenizer
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


def plan_order(lengths: Sequence[int], rows: int, micro_batch: int, batch_size: int, seed: int) -> list[int]:
    """Which row stands at each of the run's `rows` positions: every row once per pass over the data, shuffled anew.

    Within a few steps, rows of similar length share a micro-batch, so that little of it is padding; micro-batches are
    in random order.
    """
    order: list[int] = []
    epoch = 0
    while len(order) < rows:
        shuffled = list(range(len(lengths)))
        random.Random(f"{seed} {epoch}").shuffle(shuffled)  # noqa: S311
        order += shuffled
        epoch += 1
    del order[rows:]
    window = batch_size * 8
    planned: list[int] = []
    for start in range(0, rows, window):
        part = sorted(order[start : start + window], key=lambda row: lengths[row])
        groups = [part[place : place + micro_batch] for place in range(0, len(part), micro_batch)]
        random.Random(f"{seed} window {start}").shuffle(groups)  # noqa: S311
        planned += [row for group in groups for row in group]
    return planned


def choose_micro_batch(batch_size: int, longest: int, tokens: int) -> int:
    """The largest divisor of the batch of which each micro-batch keeps within `tokens`; one row at least."""
    most = max(1, tokens // max(longest, 1))
    return max(size for size in range(1, min(batch_size, most) + 1) if batch_size % size == 0)


def _to_columns(rows: Iterable[Encoded]) -> dict[str, list[list[int]]]:
    listed = list(rows)
    return {"input_ids": [row.input_ids for row in listed], "labels": [row.labels for row in listed]}


def _find_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint that was written whole; what a kill cut short is removed."""
    whole = []
    for path in folder.glob("checkpoint-*"):
        if (path / _WHOLE).exists():
            whole.append(path)
        else:
            shutil.rmtree(path)
    return max(whole, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)


def _make_listener(
    run: RunFolder, plan: TrainingPlan, progress: Progress, watch: Watch, after_step: Callable[[int], None] | None
) -> "TrainerCallback":
    """What hears of each step: log, progress, checkpoints by time, and an end where the loss is no number."""
    from transformers import TrainerCallback

    class _Listener(TrainerCallback):
        def __init__(self) -> None:
            self.saved_at = time.perf_counter()
            self.first: int | None = None
            self.recent: list[float] = []

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if after_step is not None:
                after_step(state.global_step)
            last = state.global_step >= plan.steps
            control.should_evaluate |= last and args.eval_strategy != "no"
            if last or time.perf_counter() - self.saved_at >= plan.checkpoint_every_s:
                control.should_save = True

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            (run.checkpoints / f"checkpoint-{state.global_step}" / _WHOLE).touch()
            self.saved_at = time.perf_counter()

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
            step = state.global_step
            if "eval_loss" in logs:
                run.log(step, held_out_loss=logs["eval_loss"])
            if "loss" not in logs:
                return
            loss, speed = logs["loss"], watch.tokens / max(watch.seconds, 1e-9)
            run.log(step, loss=loss, learning_rate=logs["learning_rate"], tokens_per_s=round(speed, 1))
            if not math.isfinite(loss):
                raise ConfigurationError(
                    f"step {step}: the loss is {loss} at learning_rate {plan.learning_rate:g}; lower learning_rate and "
                    "begin again with --restart"
                )
            self.first = step if self.first is None else self.first
            self.recent = [*self.recent[1 - _SHOWN_STEPS :], loss]
            left_s = (plan.steps - step) * watch.seconds / (step - self.first + 1)
            progress.update(
                _STAGE,
                f"step {step} of {plan.steps}, loss {fmean(self.recent):.3f}, {speed:,.0f} tokens/s, "
                f"{_describe_s(left_s)} left",
            )

    return _Listener()


def _describe_s(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"

"""`guildhall adapt sft`: check the data, try a few steps, train, see what was forgotten, publish."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from experts.adapt.artifact import load_model, publish, quiet_libraries
from experts.adapt.card import describe_run
from experts.adapt.config import SftConfig, read_config
from experts.adapt.device import Device, choose_device, observe_peak_gib, reset_peak
from experts.adapt.encoding import Encoded, encode_examples, load_tokenizer
from experts.adapt.examine import DataCheck
from experts.adapt.examples import read_examples
from experts.adapt.guard import Forgetting, measure_exact
from experts.adapt.progress import Progress
from experts.adapt.provenance import Provenance
from experts.adapt.rows import SHOWN_FAULTS, Rows, prepare_rows, refuse_rows
from experts.adapt.run_folder import RunFolder, open_run
from experts.adapt.training import TrainingPlan, choose_micro_batch, plan_order, train
from experts.adapt.trial import Trial, try_plan
from experts.errors import ConfigurationError
from experts.prompt import fingerprint_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Outcome = Literal["published", "data refused", "forgotten"]

# What may change between two tries of one run: nothing of it changes what is learned.
_NOT_OF_TRAINING = {"guard", "memory_gib", "checkpoint_every_s", "broken_rows", "output"}


@dataclass(frozen=True, slots=True)
class SftReport:
    """How a run ended. Without `folder` nothing was published; figures are None where the run did not come to them."""

    outcome: Outcome
    message: str
    check: DataCheck
    folder: Path | None = None
    artifact: Path | None = None
    figures: Mapping[str, Any] | None = None

    def describe(self) -> dict[str, Any]:
        """The report as JSON has it."""
        findings = [asdict(finding) for finding in self.check.findings]
        learned = {"rows": self.check.rows, "learned": len(self.check.train), "held_out": len(self.check.held_out)}
        return {
            "outcome": self.outcome,
            "message": self.message,
            "folder": None if self.folder is None else str(self.folder),
            "artifact": None if self.artifact is None else str(self.artifact),
            "check": {**learned, **self.check.counts, "findings": findings},
            **(self.figures or {}),
        }


@dataclass(frozen=True, slots=True)
class _General:
    """What must not be forgotten."""

    rows: list[Encoded]
    fingerprint: str


def run_sft(config_file: Path, progress: Progress, restart: bool = False) -> SftReport:
    """Fine-tune as a config says, from where an earlier try of the same run was left.

    Raises ConfigurationError where the config, the base or the device is at fault; a run whose data is refused or that
    forgot too much is a report.
    """
    config = read_config(config_file, SftConfig)
    with quiet_libraries():
        tokenizer = load_tokenizer(config.base)
        progress.start("data")
        rows = prepare_rows(config.data, config.held_out, tokenizer, config.max_tokens, config.seed)
        progress.finish("data", f"{len(rows.train)} rows, {sum(len(row.input_ids) for row in rows.train):,} tokens")
        for line in rows.check.describe():
            progress.say(line)
        if refused := refuse_rows(rows.check, config.broken_rows):
            return SftReport("data refused", refused, rows.check)
        general = None
        if config.guard is not None:
            general = _read_general(config.guard.data, tokenizer, config.max_tokens)
        device = choose_device()
        progress.say(f"on {device.name}, {device.precision}")
        settings = config.model_dump(mode="json", exclude=_NOT_OF_TRAINING)
        settings |= {"rows": rows.fingerprint, "template": fingerprint_template()}
        run = open_run(config.output, config_file, settings, restart)
        return _run(config, run, tokenizer, rows, general, device, progress)


def _read_general(path: Path, tokenizer: "PreTrainedTokenizerBase", limit: int) -> _General:
    """The general set. It measures only what it measured before, so none of its rows may be left out."""
    file = read_examples(path)
    rows = encode_examples(file.examples, tokenizer)
    broken = [f"line {row.line}: {row.reason}" for row in file.broken]
    broken += [
        f"line {example.line}: {len(row.input_ids)} tokens, limit {limit}"
        for example, row in zip(file.examples, rows, strict=True)
        if len(row.input_ids) > limit
    ]
    if broken or not rows:
        found = "; ".join(broken[:SHOWN_FAULTS]) or "no rows"
        raise ConfigurationError(f"guard.data {path}: {found}; mend it")
    return _General(rows, file.fingerprint)


def _run(
    config: SftConfig,
    run: RunFolder,
    tokenizer: "PreTrainedTokenizerBase",
    data: Rows,
    general: _General | None,
    device: Device,
    progress: Progress,
) -> SftReport:
    def load() -> Any:
        return load_model(config.base, config.method, config.lora, config.seed, device)

    plan = _plan(config, data.train, device)
    noted = run.read_note("trial")
    if noted is None:
        trial = try_plan(load, tokenizer, data.train, plan, config.memory_gib, progress)
        run.note("trial", asdict(trial))
    else:
        trial = Trial(**noted)
    plan = replace(plan, micro_batch=trial.micro_batch, recompute=trial.recompute)
    order = plan_order(
        [len(row.input_ids) for row in data.train],
        plan.steps * plan.batch_size,
        plan.micro_batch,
        plan.batch_size,
        config.seed,
    )
    reset_peak(device)
    model = load().to(device.kind)
    at_once = plan.micro_batch * max(len(row.input_ids) for row in data.train)

    def measure(rows: Sequence[Encoded]) -> float:
        return measure_exact(model, tokenizer, rows, at_once, device)

    before = _measure_before(run, data, general, measure, progress)
    trained = train(model, tokenizer, lambda position: data.train[order[position]], data.held_out, plan, run, progress)
    exact = {"before": before["held_out"], "after": measure(data.held_out)}
    forgetting = None
    if config.guard is not None and general is not None:
        progress.start("guard")
        after = measure(general.rows)
        forgetting = Forgetting(len(general.rows), before["general"], after, config.guard.max_drop)
        progress.finish("guard", forgetting.describe())
    figures: dict[str, Any] = {
        "method": config.method,
        "base": config.base,
        "seed": config.seed,
        "data": {"files": [str(config.data), *([str(config.held_out)] if config.held_out else [])]}
        | {"fingerprint": data.fingerprint, "learned": len(data.train), "held_out": len(data.held_out)}
        | data.check.counts,
        "template": fingerprint_template(),
        "device": device.name,
        "precision": device.precision,
        "plan": {**asdict(plan), "device": device.kind},
        "trial": asdict(trial),
        "training": {**asdict(trained), "tokens_per_s": trained.tokens_per_s},
        "held_out_exact": exact,
        "guard": None if forgetting is None else asdict(forgetting),
        "peak_gib": observe_peak_gib(device),
        "memory_limit_gib": trial.limit_gib,
    }
    if figures["peak_gib"] > trial.limit_gib:
        progress.say(
            f"peak memory {figures['peak_gib']:.2f} GiB, over the {trial.limit_gib:.2f} that the trial kept within; "
            "lower micro_batch_tokens to take less"
        )
    run.draw_curves(f"{Path(config.base).name} on {config.data.name}")
    if forgetting is not None and forgetting.exceeded:
        message = (
            f"{forgetting.describe()}; nothing was published. Mix general rows into the data, lower learning_rate or "
            f"epochs, or raise guard.max_drop; the log is in {run.aside}"
        )
        return SftReport("forgotten", message, data.check, figures=figures)
    kind: Literal["adapter", "model"] = "adapter" if config.method == "lora" else "model"
    provenance = Provenance(template=fingerprint_template(), data=data.fingerprint, trained_by="guildhall adapt sft")
    publish(run.artifact(kind), model, tokenizer, provenance)
    run.write_card(f"{config.output.name}: {Path(config.base).name}, adapted", describe_run(kind, figures))
    folder = run.finish(figures)
    message = (
        f"held-out answers exactly right: {exact['before']:.1%} before, {exact['after']:.1%} after; peak memory "
        f"{figures['peak_gib']:.2f} of {trial.limit_gib:.2f} GiB"
    )
    return SftReport("published", message, data.check, folder, folder / kind, figures)


def _plan(config: SftConfig, rows: Sequence[Encoded], device: Device) -> TrainingPlan:
    batch_size = min(config.batch_size, len(rows))
    longest = max(len(row.input_ids) for row in rows)
    return TrainingPlan(
        steps=max(1, round(config.epochs * len(rows) / batch_size)),
        batch_size=batch_size,
        micro_batch=choose_micro_batch(batch_size, longest, config.micro_batch_tokens),
        recompute=False,
        learning_rate=config.peak_learning_rate,
        seed=config.seed,
        checkpoint_every_s=config.checkpoint_every_s,
        device=device,
    )


def _measure_before(
    run: RunFolder,
    data: Rows,
    general: _General | None,
    measure: Callable[[Sequence[Encoded]], float],
    progress: Progress,
) -> dict[str, Any]:
    """The base's exact answers on the held-out and the general rows; measured once, however often a run is resumed."""
    fingerprint = None if general is None else general.fingerprint
    noted = run.read_note("before")
    if noted is not None and noted["general_fingerprint"] == fingerprint:
        return noted
    progress.start("before")
    before = {"held_out": measure(data.held_out), "general_fingerprint": fingerprint}
    if general is not None:
        before["general"] = measure(general.rows)
        if not before["general"]:
            progress.say(
                f"guard: the base answers none of {len(general.rows)} general questions exactly right, so nothing that "
                "it forgets would show; give it questions whose short answers it knows"
            )
    run.note("before", before)
    progress.finish("before", f"held-out answers exactly right: {before['held_out']:.1%}")
    return before

"""`guildhall adapt distill`: a student learns from its teacher, most where it is furthest behind."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from experts.adapt.artifact import load_model, publish, quiet_libraries
from experts.adapt.config import read_config
from experts.adapt.device import Device, choose_device, observe_peak_gib, reset_peak
from experts.adapt.distill_card import describe_distillation
from experts.adapt.distill_config import DistillConfig
from experts.adapt.domain_draws import DomainDraws
from experts.adapt.encoding import Encoded, encode_examples, load_tokenizer
from experts.adapt.examine import DataCheck
from experts.adapt.gap_schedule import GapSchedule
from experts.adapt.guard import measure_exact
from experts.adapt.progress import Progress
from experts.adapt.provenance import Provenance
from experts.adapt.rows import Rows, prepare_rows, refuse_rows
from experts.adapt.run_folder import RunFolder, open_run
from experts.adapt.teacher import check_same_tokens, load_teacher, make_loss, measure_nats, write_answers
from experts.adapt.training import LossFunction, TrainingPlan, choose_micro_batch, train
from experts.adapt.trial import Trial, try_plan
from experts.errors import ConfigurationError
from experts.prompt import fingerprint_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Outcome = Literal["published", "data refused"]

_NOT_OF_TRAINING = {"memory_gib", "checkpoint_every_s", "broken_rows", "output"}
# Held-out rows of a domain on which its gap is measured; measuring them costs a forward pass, no backward one.
_GAP_ROWS = 32


@dataclass(frozen=True, slots=True)
class DistillReport:
    """How a run ended. Without `folder` nothing was published."""

    outcome: Outcome
    message: str
    checks: Mapping[str, DataCheck]
    folder: Path | None = None
    artifact: Path | None = None
    figures: Mapping[str, Any] | None = None

    def describe(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {
            "outcome": self.outcome,
            "message": self.message,
            "folder": None if self.folder is None else str(self.folder),
            "artifact": None if self.artifact is None else str(self.artifact),
            "check": {domain: _describe_check(check) for domain, check in self.checks.items()},
            **(self.figures or {}),
        }


@dataclass(frozen=True, slots=True)
class _Lessons:
    """What the teacher gives: the rows to learn and its own loss, by domain, and the loss to train with."""

    rows: dict[str, list[Encoded]]
    teacher_loss: dict[str, float]
    compute_loss: LossFunction | None


def run_distill(config_file: Path, progress: Progress, restart: bool = False) -> DistillReport:
    """Distill as a config says, from where an earlier try of the same run was left.

    Raises ConfigurationError where the config, a model or the device is at fault; refused data is a report.
    """
    config = read_config(config_file, DistillConfig)
    with quiet_libraries():
        return _run(config, config_file, progress, restart)


def _run(config: DistillConfig, config_file: Path, progress: Progress, restart: bool) -> DistillReport:
    tokenizer = load_tokenizer(config.student)
    if config.learn == "logits":
        check_same_tokens(config.teacher, tokenizer)
    progress.start("data")
    rows: dict[str, Rows] = {}
    for domain, files in config.domains.items():
        rows[domain] = prepare_rows(files.data, files.held_out, tokenizer, config.max_tokens, config.seed)
        for line in rows[domain].check.describe():
            progress.say(f"{domain}: {line}")
    checks = {domain: one.check for domain, one in rows.items()}
    progress.finish("data", f"{sum(len(one.train) for one in rows.values())} rows in {len(rows)} domains")
    for domain, check in checks.items():
        if refused := refuse_rows(check, config.broken_rows):
            return DistillReport("data refused", f"{domain}: {refused}", checks)
    fingerprint = sha256(" ".join(one.fingerprint for one in rows.values()).encode()).hexdigest()
    settings = {
        **config.model_dump(mode="json", exclude=_NOT_OF_TRAINING),
        "rows": fingerprint,
        "template": fingerprint_template(),
    }
    run = open_run(config.output, config_file, settings, restart)
    device = choose_device()
    progress.say(f"on {device.name}, {'bfloat16' if device.bf16 else 'float32'}")
    lessons = _ask_teacher(config, run, rows, tokenizer, device, progress)
    figures = _train_student(config, run, rows, lessons, fingerprint, tokenizer, device, progress)
    run.draw_curves(f"{Path(config.teacher).name} to {Path(config.student).name}")
    run.write_card(f"{config.output.name}: {Path(config.student).name}, distilled", describe_distillation(figures))
    folder = run.finish(figures)
    artifact = folder / figures["artifact"]
    worst = max(figures["domains"], key=lambda domain: float(figures["domains"][domain]["gap"]["after"]))
    gap = figures["domains"][worst]["gap"]
    message = (
        f"furthest behind its teacher in {worst}: perplexity {gap['before']:.2f} times the teacher's before, "
        f"{gap['after']:.2f} after; peak memory {figures['peak_gib']:.2f} of {figures['memory_limit_gib']:.2f} GiB"
    )
    return DistillReport("published", message, checks, folder, artifact, figures)


def _ask_teacher(
    config: DistillConfig,
    run: RunFolder,
    rows: Mapping[str, Rows],
    tokenizer: "PreTrainedTokenizerBase",
    device: Device,
    progress: Progress,
) -> _Lessons:
    """The teacher's loss and, where its answers are learned, its answers; both are kept with the run."""
    progress.start("teacher")
    teacher = load_teacher(config.teacher, config.teacher_adapter, device)
    its_tokenizer = load_tokenizer(config.teacher)
    loss = run.read_note("teacher")
    if loss is None:
        loss = {}
        for domain, one in rows.items():
            progress.update("teacher", f"its loss on {domain}")
            read = encode_examples(one.check.held_out[:_GAP_ROWS], its_tokenizer)
            nats = measure_nats(teacher, read, config.micro_batch_tokens, device)
            # Over the student's tokens, whose loss it is compared with.
            loss[domain] = nats / _count_answer_tokens(one.held_out[:_GAP_ROWS])
        run.note("teacher", loss)
    if config.learn == "logits":
        progress.finish("teacher", "its probabilities are learned")
        compute_loss = make_loss(teacher, config.teacher_weight, config.temperature)
        return _Lessons({domain: one.train for domain, one in rows.items()}, loss, compute_loss)
    written: dict[str, list[Encoded]] = {}
    folder = run.aside / "answers"
    folder.mkdir(exist_ok=True)
    for domain, one in rows.items():

        def say(count: int, domain: str = domain, total: int = len(one.check.train)) -> None:
            progress.update("teacher", f"{count} of {total} answers for {domain}")

        answers = write_answers(
            teacher,
            its_tokenizer,
            one.check.train,
            folder / f"{domain}.jsonl",
            config.max_answer_tokens,
            config.micro_batch_tokens,
            say,
        )
        answered = [
            replace(example, answer=answers[example.line]) for example in one.check.train if example.line in answers
        ]
        read = encode_examples(answered, tokenizer)
        written[domain] = [row for row in read if len(row.input_ids) <= config.max_tokens]
        if not written[domain]:
            raise ConfigurationError(
                f"the teacher ended {len(answers)} of its {len(one.check.train)} answers for domain '{domain}' within "
                f"{config.max_answer_tokens} tokens, and no row with one keeps within {config.max_tokens}; raise "
                "max_answer_tokens or max_tokens, or name a teacher that ends its answers"
            )
    progress.finish("teacher", f"{sum(map(len, written.values()))} answers written")
    return _Lessons(written, loss, None)


def _train_student(
    config: DistillConfig,
    run: RunFolder,
    rows: Mapping[str, Rows],
    lessons: _Lessons,
    fingerprint: str,
    tokenizer: "PreTrainedTokenizerBase",
    device: Device,
    progress: Progress,
) -> dict[str, Any]:
    """Train, measure and write the student; gives what `run.json` says of it."""
    learned = [row for domain in lessons.rows.values() for row in domain]
    plan = _plan(config, lessons.rows, device)

    def load() -> Any:
        return load_model(config.student, config.method, config.lora, config.seed, device)

    noted = run.read_note("trial")
    if noted is None:
        trial = try_plan(load, tokenizer, learned, plan, config.memory_gib, progress, lessons.compute_loss)
        run.note("trial", asdict(trial))
    else:
        trial = Trial(**noted)
    plan = replace(plan, micro_batch=trial.micro_batch, recompute=trial.recompute)
    reset_peak(device)
    student = load().to(device.kind)

    def measure_student() -> dict[str, float]:
        return {
            domain: measure_nats(student, one.held_out[:_GAP_ROWS], config.micro_batch_tokens, device)
            / _count_answer_tokens(one.held_out[:_GAP_ROWS])
            for domain, one in rows.items()
        }

    def measure_answers() -> dict[str, float]:
        return {
            domain: measure_exact(student, tokenizer, one.held_out, config.micro_batch_tokens, device)
            for domain, one in rows.items()
        }

    guided = config.sampling == "domain_gaps"
    schedule = GapSchedule(run, lessons.teacher_loss, measure_student, config.gap_every_steps, guided)
    before = run.read_note("before")
    if before is None:
        before = measure_answers()
        run.note("before", before)
    schedule.begin()
    lengths = {domain: [len(row.input_ids) for row in lesson] for domain, lesson in lessons.rows.items()}
    draws = DomainDraws(lengths, plan.batch_size, config.seed, schedule.find_weights)

    def draw(position: int) -> Encoded:
        drawn = draws.find(position)
        return lessons.rows[drawn.domain][drawn.row]

    trained = train(
        student,
        tokenizer,
        draw,
        # The schedule measures held-out rows, domain by domain.
        (),
        plan,
        run,
        progress,
        compute_loss=lessons.compute_loss,
        after_step=schedule.after_step,
    )
    domains = _describe_domains(schedule, draws, lengths, plan, before, measure_answers())
    kind: Literal["adapter", "model"] = "adapter" if config.method == "lora" else "model"
    publish(
        run.artifact(kind),
        student,
        tokenizer,
        Provenance(template=fingerprint_template(), data=fingerprint, trained_by="guildhall adapt distill"),
    )
    return {
        "artifact": kind,
        "teacher": config.teacher,
        "teacher_adapter": None if config.teacher_adapter is None else str(config.teacher_adapter),
        "student": config.student,
        "learn": config.learn,
        "sampling": config.sampling,
        "seed": config.seed,
        "template": fingerprint_template(),
        "tokens": sum(one["tokens"] for one in domains.values()),
        "domains": domains,
        "data": {
            "fingerprint": fingerprint,
            "files": {domain: str(files.data) for domain, files in config.domains.items()},
            "learned": {domain: len(lesson) for domain, lesson in lessons.rows.items()},
            "held_out": {domain: len(one.held_out) for domain, one in rows.items()},
        },
        "device": device.name,
        "precision": "bfloat16" if device.bf16 else "float32",
        "plan": {**asdict(plan), "device": device.kind},
        "trial": asdict(trial),
        "training": {**asdict(trained), "tokens_per_s": trained.tokens_per_s},
        "peak_gib": observe_peak_gib(device),
        "memory_limit_gib": trial.limit_gib,
    }


def _describe_domains(
    schedule: GapSchedule,
    draws: DomainDraws,
    lengths: Mapping[str, Sequence[int]],
    plan: TrainingPlan,
    before: Mapping[str, float],
    after: Mapping[str, float],
) -> dict[str, dict[str, Any]]:
    """What each domain got and what came of it; `before` and `after` are shares of exactly right answers."""
    first, last, weights = schedule.find_gaps(0), schedule.find_gaps(plan.steps), schedule.find_weights(plan.steps)
    tokens: Counter[str] = Counter()
    for drawn in map(draws.find, range(plan.steps * plan.batch_size)):
        tokens[drawn.domain] += lengths[drawn.domain][drawn.row]
    return {
        domain: {
            "tokens": tokens[domain],
            "last_weight": weights[domain],
            "gap": {"before": first[domain].ratio, "after": last[domain].ratio},
            "loss": {
                "teacher": last[domain].teacher_loss,
                "before": first[domain].student_loss,
                "after": last[domain].student_loss,
            },
            "held_out_exact": {"before": before[domain], "after": after[domain]},
        }
        for domain in lengths
    }


def _plan(config: DistillConfig, rows: Mapping[str, Sequence[Encoded]], device: Device) -> TrainingPlan:
    lengths = {domain: [len(row.input_ids) for row in lesson] for domain, lesson in rows.items()}
    batch_size = min(config.batch_size, sum(map(len, lengths.values())))
    # Domains that get equal shares of the tokens get shares of the rows that are inverse to their lengths.
    mean = len(lengths) / sum(len(row_lengths) / sum(row_lengths) for row_lengths in lengths.values())
    default_rate = 2e-4 if config.method == "lora" else 2e-5
    return TrainingPlan(
        steps=max(1, round(config.tokens / (batch_size * mean))),
        batch_size=batch_size,
        micro_batch=choose_micro_batch(batch_size, max(map(max, lengths.values())), config.micro_batch_tokens),
        recompute=False,
        learning_rate=config.learning_rate or default_rate,
        seed=config.seed,
        checkpoint_every_s=config.checkpoint_every_s,
        device=device,
    )


def _count_answer_tokens(rows: Sequence[Encoded]) -> int:
    return sum(row.answer_tokens for row in rows)


def _describe_check(check: DataCheck) -> dict[str, Any]:
    return {
        "rows": check.rows,
        "learned": len(check.train),
        "held_out": len(check.held_out),
        **check.counts,
        "findings": [asdict(finding) for finding in check.findings],
    }

"""Distillation for real, of tiny models: the loss, what the teacher gives, what comes of a run and of a kill."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import LlamaForCausalLM

from experts.adapt.device import Device
from experts.adapt.distill import DistillReport, run_distill
from experts.adapt.encoding import Encoded, encode_examples, load_tokenizer
from experts.adapt.examples import read_examples
from experts.adapt.provenance import read_provenance
from experts.adapt.teacher import make_loss, measure_nats
from experts.errors import ConfigurationError
from experts.pocket.export import WEIGHTS
from experts.pocket.tasks import draw_exercise
from experts.prompt import fingerprint_template
from tests.experts.adapt.kept_progress import KeptProgress, one_thread  # noqa: F401 - a fixture of this module
from tests.experts.adapt.tiny_base import make_rows, save_tiny_base, write_rows

CPU = Device("cpu", "CPU", bf16=False)
SMALL = {"tokens": 4000, "batch_size": 8, "learning_rate": 0.005, "gap_every_steps": 4, "checkpoint_every_s": 0}


class Progress(KeptProgress):
    """Progress that keeps what ended, and is interrupted at a step."""

    def __init__(self, interrupted_at: int | None = None) -> None:
        super().__init__()
        self._stop = None if interrupted_at is None else f"step {interrupted_at} of"

    def update(self, name: str, detail: str) -> None:
        if self._stop is not None and detail.startswith(self._stop):
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a teacher and a smaller student of the same tokenizer."""
    folder = tmp_path_factory.mktemp("models")
    save_tiny_base(folder / "teacher", hidden=96)
    save_tiny_base(folder / "student")
    return folder


def configure(folder: Path, models: Path, **settings: Any) -> Path:
    folder.mkdir(exist_ok=True)
    rows = make_rows(80)
    write_rows(folder / "plain.jsonl", rows[::2])
    write_rows(folder / "read.jsonl", rows[1::2])
    config = {
        "teacher": str(models / "teacher"),
        "student": str(models / "student"),
        "domains": {"plain": {"data": "plain.jsonl"}, "read": {"data": "read.jsonl"}},
        "output": "run",
    }
    path = folder / "distill.yaml"
    path.write_text(yaml.safe_dump(config | SMALL | settings))
    return path


def load(folder: Path) -> LlamaForCausalLM:
    model = LlamaForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    assert isinstance(model, LlamaForCausalLM)
    return model


def read_rows(models: Path, folder: Path, count: int) -> list[Encoded]:
    examples = read_examples(write_rows(folder / "rows.jsonl", make_rows(count))).examples
    return encode_examples(examples, load_tokenizer(str(models / "student")))


def collate(rows: list[Encoded]) -> dict[str, torch.Tensor]:
    width = max(len(row.input_ids) for row in rows)
    return {
        "input_ids": torch.tensor([row.input_ids + [0] * (width - len(row.input_ids)) for row in rows]),
        "labels": torch.tensor([row.labels + [-100] * (width - len(row.labels)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row.input_ids) + [0] * (width - len(row.input_ids)) for row in rows]),
    }


def test_the_loss_without_the_teacher_is_the_models_own(models: Path, tmp_path: Path) -> None:
    student, teacher = load(models / "student"), load(models / "teacher")
    rows = read_rows(models, tmp_path, 5)
    inputs, count = collate(rows), torch.tensor(sum(row.answer_tokens for row in rows))
    own = student(**inputs).loss.item()
    assert make_loss(teacher, 0, 1)(student, inputs, count).item() == pytest.approx(own, rel=1e-4)
    assert measure_nats(student, rows, 100, CPU) == pytest.approx(own * int(count), rel=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_teachers_part_of_the_loss_is_the_divergence_from_it(
    models: Path, tmp_path: Path, temperature: float
) -> None:
    student, teacher = load(models / "student"), load(models / "teacher")
    (row,) = read_rows(models, tmp_path, 1)
    inputs, count = collate([row]), torch.tensor(row.answer_tokens)
    assert make_loss(teacher, 1, temperature)(teacher, inputs, count).item() == pytest.approx(0, abs=1e-6)
    said, shown = (
        torch.softmax(model(inputs["input_ids"]).logits[0, -row.answer_tokens - 1 : -1] / temperature, -1)
        for model in (student, teacher)
    )
    wanted = temperature**2 * (shown * (shown / said).log()).sum(-1).mean().item()
    loss = make_loss(teacher, 1, temperature)(student, inputs, count)
    assert loss.item() == pytest.approx(wanted, rel=1e-3)
    loss.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.fixture(scope="module")
def whole(models: Path, tmp_path_factory: pytest.TempPathFactory) -> DistillReport:
    """A run from its first step to its last."""
    return run_distill(configure(tmp_path_factory.mktemp("whole"), models), Progress())


def test_a_student_learns_and_is_published_with_everything_that_is_known_of_it(whole: DistillReport) -> None:
    assert whole.outcome == "published"
    assert whole.folder is not None
    assert whole.artifact == whole.folder / "model"
    assert {path.name for path in whole.folder.iterdir()} == {
        "README.md",
        "config.yaml",
        "curves.png",
        "log.jsonl",
        "model",
        "run.json",
    }
    provenance = read_provenance(whole.artifact)
    assert provenance is not None
    assert provenance.template == fingerprint_template()
    figures = json.loads((whole.folder / "run.json").read_text())
    assert provenance.data == figures["data"]["fingerprint"]
    assert figures["tokens"] == pytest.approx(SMALL["tokens"], rel=0.2)
    for one in figures["domains"].values():
        assert one["loss"]["after"] < one["loss"]["before"]
        assert one["gap"]["after"] == pytest.approx(math.exp(one["loss"]["after"] - one["loss"]["teacher"]))
    card = (whole.folder / "README.md").read_text()
    assert all(f"| {domain} | {one['tokens']:,} |" in card for domain, one in figures["domains"].items())


def read_log(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "tokens_per_s"} for line in lines]


def test_an_interrupted_run_draws_the_same_rows_and_ends_with_the_same_student(
    whole: DistillReport, models: Path, tmp_path: Path
) -> None:
    cut = configure(tmp_path, models)
    # Two steps after a measurement, whose weights are in force by then, and a step after the last checkpoint.
    with pytest.raises(KeyboardInterrupt):
        run_distill(cut, Progress(interrupted_at=7))
    assert not (tmp_path / "run").exists()
    report = run_distill(cut, Progress())
    assert report.figures is not None
    assert 0 < report.figures["training"]["resumed_at"] < 7
    assert whole.folder is not None
    assert read_log(tmp_path / "run") == read_log(whole.folder)
    weights = [folder / "model/model.safetensors" for folder in (whole.folder, tmp_path / "run")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def make_pocket_config(folder: Path, models: Path, **settings: Any) -> Path:
    rng = random.Random(2)
    rows: list[dict[str, Any]] = []
    while len(rows) < 16:
        exercise = draw_exercise("finance", rng, questions=1, passages=(1,))
        context = [{"title": record.title, "text": record.text} for record in exercise.passages]
        rows += [{"context": context, "instruction": one.question, "response": "unknown"} for one in exercise.asked]
    path = configure(folder, models, tokens=2000, teacher=str(WEIGHTS / "base"), **settings)
    write_rows(folder / "finance.jsonl", rows)
    config = yaml.safe_load(path.read_text()) | {"domains": {"finance": {"data": "finance.jsonl"}}}
    path.write_text(yaml.safe_dump(config))
    return path


def test_a_teacher_of_another_family_writes_the_answers_that_are_learned(models: Path, tmp_path: Path) -> None:
    report: DistillReport = run_distill(
        make_pocket_config(tmp_path, models, learn="answers", max_answer_tokens=24, method="lora"), Progress()
    )
    assert report.artifact == tmp_path / "run/adapter"
    answers = [json.loads(line) for line in (tmp_path / "run/answers/finance.jsonl").read_text().splitlines()]
    assert sum("[1]" in answer["answer"] for answer in answers) > len(answers) / 2
    assert report.figures is not None
    assert report.figures["data"]["learned"]["finance"] == sum(bool(answer["answer"]) for answer in answers)


def test_probabilities_of_a_teacher_of_another_family_are_refused(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"another vocabulary \(1032 tokens.*set learn: answers"):
        run_distill(make_pocket_config(tmp_path, models), Progress())


def test_a_teacher_that_ends_no_answer_is_found(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"ended 0 of its 36 answers for domain 'plain'.*max_answer_tokens"):
        run_distill(configure(tmp_path, models, learn="answers", max_answer_tokens=1), Progress())


def test_broken_rows_of_one_domain_end_the_run_with_its_name(models: Path, tmp_path: Path) -> None:
    path = configure(tmp_path, models)
    (tmp_path / "read.jsonl").write_text('{"instruction": "a"}\n' + (tmp_path / "read.jsonl").read_text())
    report = run_distill(path, Progress())
    assert report.outcome == "data refused"
    assert report.message.startswith("read: 1 of 41 rows cannot be learned from")
    assert report.describe()["check"]["read"]["broken"] == 1
    assert not (tmp_path / "run.unfinished").exists()

"""Distillation by domain gaps against uniform sampling, at equal tokens and over three seeds.

Teacher: the shipped pocket base. Student: the same without its third layer. Rows: the pocket tasks of five domains.
Each student is judged on rows that guided no sampling, with entities and phrasings that no training row has.
"""

import json
import math
import random
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from rich.console import Console

from benchmarks.result import save_result, summarize
from experts.adapt.device import choose_device
from experts.adapt.distill import run_distill
from experts.adapt.encoding import Encoded, encode_examples, load_tokenizer
from experts.adapt.examples import read_examples
from experts.adapt.guard import measure_exact
from experts.adapt.teacher import measure_nats
from experts.pocket.export import WEIGHTS
from experts.pocket.tasks import DOMAINS, draw_exercise

TEACHER = WEIGHTS / "base"
KEPT_LAYERS = (0, 1, 3)
SEEDS = (0, 1, 2)
ROWS, HELD_OUT_ROWS, TEST_ROWS = 800, 24, 80
TOKENS = 60_000
PASSAGES = (1, 2)
SETTINGS: dict[str, Any] = {
    "learning_rate": 0.001,
    "batch_size": 16,
    "max_tokens": 400,
    "gap_every_steps": 6,
    "checkpoint_every_s": 3600,
}

Sampling = Literal["domain_gaps", "uniform"]
console = Console()


class Quiet:
    """A `Progress` that only repeats the training's last word."""

    def start(self, name: str, detail: str = "") -> None:
        """Nothing to say."""

    def update(self, name: str, detail: str) -> None:
        """Nothing to say."""

    def finish(self, name: str, detail: str = "") -> None:
        """What a stage came to."""
        if name in ("train", "trial"):
            console.print(f"  {name}: {detail}", highlight=False)

    def say(self, text: str) -> None:
        """Nothing to say."""


def write_rows(folder: Path, domain: str) -> None:
    """Rows to learn, to measure the gap on and to judge by, each prompt once."""
    for name, count in (("train", ROWS), ("held-out", HELD_OUT_ROWS), ("test", TEST_ROWS)):
        rng = random.Random(f"distill {domain} {name}")
        held_out = name != "train"
        rows: dict[str, dict[str, Any]] = {}
        while len(rows) < count:
            exercise = draw_exercise(domain, rng, held_out=held_out, questions=1 if held_out else 3, passages=PASSAGES)
            context = [{"title": record.title, "text": record.text} for record in exercise.passages]
            for asked in exercise.asked:
                row = {"context": context, "instruction": asked.question, "response": asked.target}
                rows[json.dumps([context, asked.question]).casefold()] = row
        lines = [json.dumps(row) + "\n" for row in rows.values()]
        (folder / f"{domain}-{name}.jsonl").write_text("".join(lines[:count]), encoding="utf-8")


def save_student(folder: Path) -> None:
    """The teacher without one of its layers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(str(TEACHER), dtype=torch.float32)
    model.model.layers = torch.nn.ModuleList(model.model.layers[layer] for layer in KEPT_LAYERS)
    model.config.num_hidden_layers = len(KEPT_LAYERS)
    model.config.layer_types = model.config.layer_types[: len(KEPT_LAYERS)]
    model.generation_config.temperature = None
    model.save_pretrained(str(folder))
    AutoTokenizer.from_pretrained(str(TEACHER)).save_pretrained(str(folder))


def distill(folder: Path, sampling: Sampling, seed: int, tokens: int) -> dict[str, Any]:
    """One run; what its run.json says."""
    name = f"{sampling}-{seed}"
    config = {
        "teacher": str(TEACHER),
        "student": str(folder / "student"),
        "domains": {
            domain: {"data": f"{domain}-train.jsonl", "held_out": f"{domain}-held-out.jsonl"} for domain in DOMAINS
        },
        "output": name,
        "sampling": sampling,
        "tokens": tokens,
        "seed": seed,
        # Held-out phrasings meet training's now and then.
        "broken_rows": "skip",
        **SETTINGS,
    }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(config))
    report = run_distill(file, Quiet())
    assert report.figures is not None, report.message
    return dict(report.figures)


def judge(model_folder: Path, tests: Mapping[str, list[Encoded]]) -> dict[str, dict[str, float]]:
    """Nats per answer token and the share of exactly right answers, by domain."""
    import torch
    from transformers import AutoModelForCausalLM

    device, tokenizer = choose_device(), load_tokenizer(str(TEACHER))
    model = AutoModelForCausalLM.from_pretrained(str(model_folder), dtype=torch.float32).to(device.kind).eval()
    return {
        domain: {
            "loss": measure_nats(model, rows, 8192, device) / sum(row.answer_tokens for row in rows),
            "exact": measure_exact(model, tokenizer, rows, 8192, device),
        }
        for domain, rows in tests.items()
    }


def compare(
    folder: Path, tests: Mapping[str, list[Encoded]], teacher: Mapping[str, Mapping[str, float]], seed: int
) -> dict[str, Any]:
    """Both samplings of one seed; the uniform one gets the tokens that the guided one took."""
    runs: dict[str, Any] = {}
    tokens = TOKENS
    for sampling in ("domain_gaps", "uniform"):
        began = time.process_time()
        figures = distill(folder, sampling, seed, tokens)
        tokens = figures["tokens"]
        reached = judge(folder / f"{sampling}-{seed}" / "model", tests)
        domains = {
            domain: {
                "tokens": figures["domains"][domain]["tokens"],
                "gap": round(math.exp(one["loss"] - teacher[domain]["loss"]), 4),
                "exact": round(one["exact"], 4),
            }
            for domain, one in reached.items()
        }
        worst = max(domains, key=lambda domain: float(domains[domain]["gap"]))
        runs[sampling] = {
            "tokens": figures["tokens"],
            "steps": figures["plan"]["steps"],
            "cpu_s": round(time.process_time() - began, 1),
            "worst_domain": worst,
            "worst_gap": domains[worst]["gap"],
            "worst_exact": min(one["exact"] for one in domains.values()),
            "mean_gap": round(sum(one["gap"] for one in domains.values()) / len(domains), 4),
            "mean_exact": round(sum(one["exact"] for one in domains.values()) / len(domains), 4),
            "domains": domains,
        }
        console.print(seed, sampling, runs[sampling], soft_wrap=True)
    return runs


def main() -> None:
    """Run, write the result and say whether the guided sampling wins."""
    import torch

    torch.set_num_threads(1)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for domain in DOMAINS:
            write_rows(folder, domain)
        save_student(folder / "student")
        tokenizer = load_tokenizer(str(TEACHER))
        tests = {
            domain: encode_examples(read_examples(folder / f"{domain}-test.jsonl").examples, tokenizer)
            for domain in DOMAINS
        }
        before = judge(folder / "student", tests)
        teacher = judge(TEACHER, tests)
        by_seed = {seed: compare(folder, tests, teacher, seed) for seed in SEEDS}
    measures = ("worst_gap", "mean_gap", "worst_exact", "mean_exact", "tokens")
    path = save_result(
        "distill_domains",
        {
            "teacher": "experts/pocket/weights/base",
            "student": f"layers {', '.join(map(str, KEPT_LAYERS))} of the teacher's four",
            "settings": {"tokens": TOKENS, **SETTINGS},
            "rows": {"train": ROWS, "held_out": HELD_OUT_ROWS, "test": TEST_ROWS},
            "gap": "the student's perplexity over the teacher's, on the test rows",
            "before": {
                domain: {
                    "gap": round(math.exp(one["loss"] - teacher[domain]["loss"]), 4),
                    "exact": round(one["exact"], 4),
                    "teacher_exact": round(teacher[domain]["exact"], 4),
                }
                for domain, one in before.items()
            },
            "over_seeds": {
                sampling: {
                    measure: summarize([runs[sampling][measure] for runs in by_seed.values()]) for measure in measures
                }
                for sampling in ("domain_gaps", "uniform")
            },
            "guided_beats_uniform_on_the_worst_domain": {
                measure: {seed: wins(runs, measure) for seed, runs in by_seed.items()}
                for measure in ("worst_gap", "worst_exact")
            },
            "by_seed": by_seed,
            "seconds": round(time.perf_counter() - began, 1),
        },
    )
    console.print(f"wrote {path}")


def wins(runs: Mapping[str, Any], measure: str) -> bool:
    """Whether the guided run is better by a measure; a gap is better smaller."""
    guided, uniform = (float(runs[sampling][measure]) for sampling in ("domain_gaps", "uniform"))
    return guided < uniform if measure.endswith("gap") else guided > uniform


if __name__ == "__main__":
    main()

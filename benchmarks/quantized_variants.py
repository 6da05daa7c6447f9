"""What quantizing costs and saves: the pocket finance expert in full and in every format, on the same held-out cases.

Each variant is made by `guildhall adapt quantize` and answers by `guildhall adapt evaluate`, on the engine and with the
arguments that serve it. The variants take turns, for each round one engine after the other, so that a change of the
machine's load meets all of them. The full variant is the base with its adapter merged, as the others have it; `adapter`
is the same two apart, as the pocket fleet serves them. FP8 is not among them: on a CPU vLLM
falls back to torch for it, which had not answered the warm-up's 16 cases after 80 s.
"""

import json
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from benchmarks.result import save_result, summarize
from deployments.cli_progress import Progress
from deployments.evaluate_variant import run_evaluate
from experts.adapt.quantize import run_quantize
from experts.adapt.report import compare_runs
from experts.pocket.export import WEIGHTS
from experts.pocket.tasks import draw_exercise

DOMAIN = "finance"
CASES = 300
CALIBRATION_ROWS = 256
ROUNDS = 3
FULL, ADAPTER = "full", "adapter"
# Hidden width 192: 64 is the largest group that divides it.
_TUNED = {"group_size": 64, "calibration": {"data": "./calibration.jsonl", "rows": CALIBRATION_ROWS}}
FORMATS: Mapping[str, Mapping[str, Any]] = {
    "int8": {"format": "int8"},
    "int4": {"format": "int4", "group_size": 64},
    "int4-tuned": {"format": "int4", **_TUNED},
}
ENGINE = {"max_model_len": 1024, "kv_cache_gib": 0.1, "max_num_seqs": 16}

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Contender:
    """A variant: the model that an engine loads, the adapter on it, and how it was rounded."""

    model: Path
    adapter: Path | None = None
    rounding: str | None = None


def main() -> None:
    """Make the variants, measure them in turns and write the result."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contenders = make_contenders(folder)
        rounds = [measure_round(folder, contenders, turn) for turn in range(ROUNDS)]
        figures = describe_rounds(folder, contenders, rounds)
    console.print(f"written to {save_result('quantized_variants', figures)}")


def make_contenders(folder: Path) -> dict[str, Contender]:
    """Every variant, made anew from the shipped weights, and the cases beside them."""
    write_rows(folder / "cases.jsonl", CASES, held_out=True)
    write_rows(folder / "calibration.jsonl", CALIBRATION_ROWS, held_out=False)
    contenders = {
        FULL: Contender(merge_full(folder / FULL)),
        ADAPTER: Contender(WEIGHTS / "base", WEIGHTS / DOMAIN),
    }
    source = {"base": str(WEIGHTS / "base"), "adapter": str(WEIGHTS / DOMAIN)}
    for name, settings in FORMATS.items():
        config = _write_yaml(folder / f"{name}.yaml", {**source, "output": f"./{name}", **settings})
        with Progress(console) as progress:
            made = run_quantize(config, progress)
        contenders[name] = Contender(made.artifact, rounding=made.figures["rounding"])
    return contenders


def measure_round(folder: Path, contenders: Mapping[str, Contender], turn: int) -> dict[str, dict[str, Any]]:
    """One evaluation of each contender, an engine of its own each time."""
    measured = {}
    for name, contender in contenders.items():
        adapted = {} if contender.adapter is None else {"adapter": str(contender.adapter)}
        settings = {
            **adapted,
            "engine": {"model": str(contender.model), **ENGINE, "max_adapters": len(adapted)},
            "tasks": {DOMAIN: {"data": "./cases.jsonl"}},
            "output": f"./measured-{name}-{turn}",
            "max_tokens": 48,
        }
        config = _write_yaml(folder / "evaluate.yaml", settings)
        with Progress(console) as progress:
            measured[name] = run_evaluate(config, progress).describe()
    return measured


def describe_rounds(
    folder: Path, contenders: Mapping[str, Contender], rounds: Sequence[Mapping[str, Mapping[str, Any]]]
) -> dict[str, Any]:
    """Speed over all rounds; accuracy of the first, as answers are greedy, its difference from the full paired."""
    variants: dict[str, Any] = {}
    for name, contender in contenders.items():
        first = rounds[0][name]
        variants[name] = {
            "rounding": contender.rounding,
            "accuracy": first["tasks"][DOMAIN],
            "tokens_per_s": summarize([measured[name]["speed"]["tokens_per_s"] for measured in rounds]),
            "memory": first["memory"],
            "energy": first["energy"],
        }
        if name != FULL:
            compared = compare_runs(folder / f"measured-{FULL}-0", folder / f"measured-{name}-0")
            variants[name]["against_full"] = compared.describe()["tasks"][DOMAIN]
    return {"cases": CASES, "rounds": len(rounds), "engine": ENGINE, "variants": variants}


def write_rows(path: Path, count: int, *, held_out: bool) -> None:
    """Questions with their passages, each answered by one passage or by none; the same on every run."""
    rng = random.Random(f"quantized variants {held_out}")
    rows: list[str] = []
    while len(rows) < count:
        exercise = draw_exercise(DOMAIN, rng, held_out=held_out, questions=1)
        context = [{"title": passage.title, "text": passage.text} for passage in exercise.passages]
        rows += [
            json.dumps({"context": context, "instruction": asked.question, "response": asked.target})
            for asked in exercise.asked
            if len(asked.cited) <= 1
        ]
    path.write_text("".join(f"{row}\n" for row in rows[:count]))


def merge_full(folder: Path) -> Path:
    """The base with the adapter merged in, saved as a model."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    base = str(WEIGHTS / "base")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, str(WEIGHTS / DOMAIN)).merge_and_unload().to(torch.bfloat16)
    # transformers refuses to write the sampling defaults that the base comes with.
    merged.generation_config = GenerationConfig(eos_token_id=model.config.eos_token_id)
    merged.save_pretrained(str(folder))
    AutoTokenizer.from_pretrained(base).save_pretrained(str(folder))
    return folder


def _write_yaml(path: Path, document: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(document)))
    return path


if __name__ == "__main__":
    main()

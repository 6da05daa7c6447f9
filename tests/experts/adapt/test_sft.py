"""Fine-tuning a tiny random Llama for real: what comes of it, what is refused, and what a kill costs."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from experts.adapt.artifact import load_model
from experts.adapt.config import Lora
from experts.adapt.device import Device
from experts.adapt.encoding import IGNORED, encode_examples, load_tokenizer
from experts.adapt.examples import read_examples
from experts.adapt.provenance import read_provenance
from experts.adapt.sft import SftReport, run_sft
from experts.errors import ConfigurationError
from experts.prompt import fingerprint_template
from tests.conftest import ROOT
from tests.experts.adapt.kept_progress import KeptProgress, one_thread  # noqa: F401 - a fixture of this module
from tests.experts.adapt.tiny_base import make_rows, save_tiny_base, write_rows

# Few rows and steps: each run has a trial of two short trainings before it.
SMALL = {"epochs": 4, "batch_size": 8, "learning_rate": 0.01, "method": "full", "checkpoint_every_s": 0}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("base"))


def configure(folder: Path, base: Path, rows: list[dict[str, Any]], **settings: Any) -> Path:
    write_rows(folder / "rows.jsonl", rows)
    path = folder / "sft.yaml"
    path.write_text(yaml.safe_dump({"base": str(base), "data": "rows.jsonl", "output": "run", **SMALL, **settings}))
    return path


def run(config: Path, restart: bool = False) -> tuple[SftReport, list[str]]:
    said = KeptProgress()
    return run_sft(config, said, restart), said.lines


def read_losses(folder: Path) -> list[tuple[int, str, float]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(line["step"], name, line[name]) for line in lines for name in ("loss", "held_out_loss") if name in line]


def test_an_adapter_is_published_with_everything_that_is_known_of_it(tmp_path: Path, base: Path) -> None:
    config = configure(tmp_path, base, make_rows(40), method="lora", lora={"rank": 4}, epochs=2, learning_rate=0.002)
    report, said = run(config)
    assert report.outcome == "published"
    assert report.artifact == tmp_path / "run/adapter"
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "README.md",
        "adapter",
        "config.yaml",
        "curves.png",
        "log.jsonl",
        "run.json",
    }
    assert json.loads((report.artifact / "adapter_config.json").read_text())["r"] == 4
    provenance = read_provenance(report.artifact)
    assert provenance is not None
    assert provenance.template == fingerprint_template()
    figures = json.loads((tmp_path / "run/run.json").read_text())
    assert figures["data"]["fingerprint"] == provenance.data
    assert (figures["seed"], figures["plan"]["steps"], figures["data"]["held_out"]) == (0, 9, 4)
    measured = [loss for _, name, loss in read_losses(tmp_path / "run") if name == "held_out_loss"]
    assert measured[-1] < measured[0]
    assert 0 < figures["training"]["data_share"] < 0.5
    assert 0 < figures["peak_gib"] <= figures["memory_limit_gib"]
    assert any("step 9 of 9, loss" in line and "tokens/s" in line and "left" in line for line in said)
    assert "data: 40 rows, 4 of them held out; nothing found" in said
    card = (tmp_path / "run/README.md").read_text()
    assert provenance.data is not None
    assert provenance.data in card


def test_a_run_killed_at_a_step_ends_with_the_loss_of_one_that_was_not(tmp_path: Path, base: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
        configure(folder, base, make_rows(24), epochs=1.5)
    run(whole / "sft.yaml")
    killed = subprocess.run(
        [sys.executable, "-m", "tests.experts.adapt.killed_run", str(cut / "sft.yaml"), "3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        # The same arithmetic as in this process.
        env={"PATH": "", "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert not (cut / "run").exists()
    # What a kill amid a checkpoint leaves: the newest one, cut short.
    (cut / "run.unfinished/checkpoints/checkpoint-3").mkdir(exist_ok=True)
    report, _ = run(cut / "sft.yaml")
    assert report.figures is not None
    assert report.figures["training"]["resumed_at"] == 2
    assert read_losses(cut / "run") == read_losses(whole / "run")
    same = [(folder / "run/model/model.safetensors").read_bytes() for folder in (whole, cut)]
    assert same[0] == same[1]


def test_a_broken_row_is_named_with_its_line_and_nothing_is_trained(tmp_path: Path, base: Path) -> None:
    rows = make_rows(40)
    config = configure(tmp_path, base, [*rows[:5], {"instruction": "a", "response": ""}, *rows[5:]])
    report, _ = run(config)
    assert report.outcome == "data refused"
    assert "1 of 41 rows cannot be learned from" in report.message
    assert "rows.jsonl line 6: broken: 'response' is empty" in report.message
    assert report.describe()["check"]["broken"] == 1
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_run_that_forgets_more_than_allowed_publishes_nothing_and_says_both_figures(
    tmp_path: Path, base: Path
) -> None:
    # What the base knows is what it learns here; the second run then teaches the opposite.
    known = [{"instruction": f"Word {n}?", "response": "yes"} for n in range(12)]
    settings: dict[str, Any] = {"epochs": 20, "learning_rate": 0.003, "checkpoint_every_s": 60}
    report, _ = run(configure(tmp_path, base, known, **settings))
    assert report.outcome == "published"
    second = tmp_path / "second"
    second.mkdir()
    opposite = [{**row, "response": "no"} for row in known]
    settings["guard"] = {"data": "../rows.jsonl", "max_drop": 0.1}
    config = configure(second, tmp_path / "run/model", opposite, **settings)
    report, _ = run(config)
    assert report.outcome == "forgotten"
    assert report.figures is not None
    before, after = (report.figures["guard"][name] for name in ("before", "after"))
    assert before > 0.8
    assert after < 0.2
    assert f"general accuracy {before:.1%} before, {after:.1%} after (12 rows)" in report.message
    assert not (second / "run").exists()
    assert (second / "run.unfinished/curves.png").exists()
    # The limit is no part of the training: with another, the trained run is taken up and published.
    settings["guard"] = {"data": "../rows.jsonl", "max_drop": 1.0}
    configure(second, tmp_path / "run/model", opposite, **settings)
    report, _ = run(config)
    assert report.outcome == "published"
    assert report.figures is not None
    assert report.figures["training"]["resumed_at"] == report.figures["plan"]["steps"]


def test_memory_that_no_row_keeps_within_ends_the_run_before_it_began(tmp_path: Path, base: Path) -> None:
    config = configure(tmp_path, base, make_rows(40), memory_gib=0.05)
    with pytest.raises(
        ConfigurationError, match=r"one row of \d+ tokens takes more memory than the limit of 0\.05 GiB"
    ):
        run(config)


def test_a_rate_that_raises_the_loss_is_found_in_the_trial(tmp_path: Path, base: Path) -> None:
    config = configure(tmp_path, base, make_rows(40), learning_rate=1.0)
    with pytest.raises(ConfigurationError, match=r"trial: .* at learning_rate 1; lower learning_rate"):
        run(config)
    assert not list((tmp_path / "run.unfinished").glob("checkpoints/checkpoint-*"))


def test_the_loss_is_on_the_answer_and_its_end_behind_the_served_prompt(tmp_path: Path, base: Path) -> None:
    tokenizer = load_tokenizer(str(base))
    (example,) = read_examples(write_rows(tmp_path / "rows.jsonl", make_rows(2)[1:])).examples
    (row,) = encode_examples([example], tokenizer)
    learned = [label for label in row.labels if label != IGNORED]
    assert tokenizer.decode(learned) == "3 coins [1]<|end|>"
    served = tokenizer.apply_chat_template(list(example.prompt), add_generation_prompt=True, return_dict=False)
    assert row.input_ids == [*served, *learned]


def test_a_base_without_a_chat_template_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"has no chat template.*chat_template\.jinja"):
        load_tokenizer(str(save_tiny_base(tmp_path, chat_template=None)))


def test_the_plain_template_of_the_page_trains_what_it_serves(tmp_path: Path) -> None:
    page = (ROOT / "docs/adapting.md").read_text()
    template = page.split("```text\n")[1].split("```")[0]
    tokenizer = load_tokenizer(str(save_tiny_base(tmp_path, chat_template=template)))
    (example,) = read_examples(write_rows(tmp_path / "rows.jsonl", make_rows(1))).examples
    (row,) = encode_examples([example], tokenizer)
    assert tokenizer.decode(row.input_ids) == (
        "user: What does iron cost in Halden in week 0?\nassistant: 2 coins<|end|>"
    )
    assert tokenizer.decode([label for label in row.labels if label != IGNORED]) == "2 coins<|end|>"


def test_a_base_that_is_not_there_is_the_operators_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"its tokenizer cannot be read"):
        load_tokenizer(str(tmp_path / "gone"))
    with pytest.raises(ConfigurationError, match=r"its weights cannot be read"):
        load_model(str(tmp_path), "lora", Lora(), 0, Device("cpu", "CPU", bf16=False))

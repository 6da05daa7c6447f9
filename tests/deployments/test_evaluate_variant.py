"""An evaluation: what it refuses before an engine starts, and one of a quantized pocket expert on the real engine."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.cli_progress import Progress
from deployments.evaluate_variant import run_evaluate
from experts.adapt.provenance import Provenance, write_provenance
from experts.errors import ConfigurationError
from tests.conftest import ROOT

POCKET = ROOT / "experts/pocket/weights"
ROW = {"context": [{"title": "T", "text": "The fee is 4 euros."}], "instruction": "Fee?", "response": "4 euros [1]"}


def _write(folder: Path, rows: list[dict[str, Any]], engine: dict[str, Any], **settings: Any) -> Path:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    document = {
        "engine": {"max_model_len": 1024, "kv_cache_gib": 0.05, **engine},
        "tasks": {"fees": {"data": "./rows.jsonl"}},
        "output": "./run",
        "max_tokens": 32,
        **settings,
    }
    config = folder / "evaluate.yaml"
    config.write_text(yaml.safe_dump(document))
    return config


@pytest.mark.parametrize(
    ("rows", "settings", "said"),
    [
        ([ROW], {"adapter": str(POCKET / "finance")}, "set engine.max_adapters to 1 or more"),
        ([ROW], {"adapter": "./none"}, "has no adapter_config.json"),
        ([ROW], {}, "has no config.json"),
        ([ROW], {"max_tokens": 1024}, "leave no prompt in engine.max_model_len 1024"),
        ([ROW], {"tasks": {}}, "tasks"),
        ([ROW], {"tasks": {"fees": {"data": "./rows.jsonl", "judge": "taste"}}}, "tasks.fees.judge"),
        ([ROW, {"response": "no question"}], {}, "line 2: 'instruction' must be text"),
        ([], {}, "no rows"),
    ],
)
def test_a_config_or_data_at_fault_is_refused_before_an_engine_starts(
    tmp_path: Path, rows: list[dict[str, Any]], settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        run_evaluate(_write(tmp_path, rows, {"model": "./model"}, **settings), Progress())
    assert said in str(raised.value)


def test_a_variant_of_another_template_is_refused_as_serving_refuses_it(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    write_provenance(tmp_path / "model", Provenance(template="of another time"))
    with pytest.raises(ConfigurationError, match="trained with prompt template of another time"):
        run_evaluate(_write(tmp_path, [ROW], {"model": "./model"}), Progress())


@pytest.mark.engine
def test_an_int4_pocket_expert_is_served_and_measured(tmp_path: Path) -> None:
    from experts.adapt.quantize import run_quantize

    config = tmp_path / "quantize.yaml"
    settings = {"base": str(POCKET / "base"), "adapter": str(POCKET / "finance"), "output": "./int4", "format": "int4"}
    config.write_text(yaml.safe_dump({**settings, "group_size": 64}))
    made = run_quantize(config, Progress())
    text = "In Q2 2022 Halvern Optics reported revenue of 671.1 million euros."
    context = [{"title": "Halvern Optics - Q2 2022 results", "text": text}]
    rows = [
        {"context": context, "instruction": f"What was the revenue of Halvern Optics in Q2 {year}?", "response": said}
        for year, said in ((2022, "671.1 million euros [1]"), (2019, "The passages do not say."))
    ]
    environment = dict(os.environ)
    report = run_evaluate(_write(tmp_path, rows, {"model": str(made.artifact)}), Progress())
    assert dict(os.environ) == environment
    answers = [json.loads(line) for line in (report.folder / "answers.jsonl").read_text().splitlines()]
    assert [answer["right"] for answer in answers] == [True, True], answers
    assert report.tasks["fees"].right.hits == 2
    assert report.speed.answer_tokens == sum(answer["tokens"] for answer in answers) > 2
    assert report.memory.weights_bytes == (made.artifact / "model.safetensors").stat().st_size
    assert report.memory.peak_bytes > report.memory.weights_bytes
    assert report.memory.kv_tokens > 1024
    run = json.loads((report.folder / "run.json").read_text())
    assert run["engine_arguments"]["engine_kwargs"]["max_model_len"] == 1024

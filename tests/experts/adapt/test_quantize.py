"""A model in fewer bits: what is written, what it is near to, and what is refused before weights are read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from experts.adapt.provenance import Provenance, read_provenance, write_provenance
from experts.adapt.quantize import find_misfits, run_quantize
from experts.errors import ConfigurationError
from tests.experts.adapt.tiny_base import make_rows, save_tiny_base, write_rows


class _Silent:
    """Progress that nobody reads."""

    def start(self, name: str, detail: str = "") -> None: ...
    def update(self, name: str, detail: str) -> None: ...
    def finish(self, name: str, detail: str = "") -> None: ...
    def say(self, text: str) -> None: ...


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base with weights of the usual 0.02 instead of 0.25: two layers of those amplify any rounding."""
    from safetensors.numpy import load_file, save_file

    folder = save_tiny_base(tmp_path_factory.mktemp("base"))
    weights = load_file(folder / "model.safetensors")
    usual = {name: weight * np.float32(0.08) if weight.ndim == 2 else weight for name, weight in weights.items()}
    save_file(usual, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _write(folder: Path, **settings: Any) -> Path:
    config = folder / "quantize.yaml"
    config.write_text(yaml.safe_dump({"output": "./run", **settings}))
    return config


def _logits(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(folder)).eval()
    with torch.no_grad():
        return model(input_ids=torch.arange(5, 69).unsqueeze(0)).logits.float()


def _distance(one: Any, other: Any) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize(("layout", "most", "largest"), [("int8", 0.03, 0.75), ("int4", 0.3, 0.65), ("fp8", 0.1, 0.75)])
def test_the_quantized_model_is_near_the_full_one_and_smaller(
    base: Path, tmp_path: Path, layout: str, most: float, largest: float
) -> None:
    grouped = {"group_size": 32} if layout == "int4" else {}
    report = run_quantize(_write(tmp_path, base=str(base), format=layout, **grouped), _Silent())
    assert 0 < _distance(_logits(report.artifact), _logits(base)) < most
    assert report.figures["stored_bytes"] < largest * (base / "model.safetensors").stat().st_size
    settings = json.loads((report.artifact / "config.json").read_text())["quantization_config"]
    assert settings["quant_method"] == "compressed-tensors"
    assert settings["ignore"] == ["lm_head"]
    assert "to nearest, without calibration" in (report.folder / "README.md").read_text()
    assert {path.name for path in report.artifact.iterdir()} >= {"tokenizer.json", "generation_config.json"}


def test_an_adapter_is_merged_first_and_its_provenance_kept(base: Path, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    shape = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    adapter, merged = tmp_path / "adapter", tmp_path / "merged"
    model: PeftModel = get_peft_model(AutoModelForCausalLM.from_pretrained(str(base)), shape)
    model.save_pretrained(str(adapter))
    write_provenance(adapter, Provenance(template="t" * 16, data="d", trained_by="guildhall adapt sft"))
    model.merge_and_unload().save_pretrained(str(merged))
    report = run_quantize(_write(tmp_path, base=str(base), adapter="./adapter", format="int8"), _Silent())
    made = _logits(report.artifact)
    assert _distance(made, _logits(merged)) < 0.2 * _distance(made, _logits(base))
    assert read_provenance(report.artifact) == Provenance(
        template="t" * 16, data="d", trained_by="guildhall adapt quantize"
    )


def test_tuned_rounding_is_written_in_the_layout_that_is_asked_for(base: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", make_rows(200))
    config = {"base": str(base), "format": "gptq", "group_size": 64}
    tuned = {"calibration": {"data": "./rows.jsonl", "steps": 2}}
    report = run_quantize(_write(tmp_path, **config, **tuned), _Silent())
    settings = json.loads((report.artifact / "config.json").read_text())["quantization_config"]
    assert (settings["quant_method"], settings["bits"], settings["group_size"]) == ("gptq", 4, 64)
    assert "tuned by AutoRound" in (report.folder / "README.md").read_text()
    assert [path.name for path in report.folder.iterdir() if path.is_dir()] == ["model"]


def test_widths_that_no_group_divides_are_refused_before_weights_are_read(base: Path, tmp_path: Path) -> None:
    shapes = tmp_path / "shapes"
    shapes.mkdir()
    for path in base.iterdir():
        if path.suffix != ".safetensors":
            (shapes / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ConfigurationError, match=r"128 does not divide the input width 64 of .*take one of 64, 32"):
        run_quantize(_write(tmp_path, base=str(shapes), format="int4"), _Silent())
    assert not (tmp_path / "run.unfinished").exists()


def test_find_misfits_names_what_fits() -> None:
    assert find_misfits({"a": (64, 128), "b": (96, 64)}, 64) == []
    (undivided,) = find_misfits({"a": (64, 100)}, 32)
    assert "100 of a; take format int8" in undivided
    (narrow,) = find_misfits({"a": (40, 64)}, 64)
    assert "output width 40" in narrow


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"format": "awq"}, "tuned rounding; name rows in calibration.data"),
        ({"format": "int8", "group_size": 64}, "remove group_size"),
        ({"format": "fp8", "calibration": {"data": "./rows.jsonl"}}, "remove calibration"),
        ({"format": "int4", "group_size": 48}, "32, 64 or 128"),
        ({"format": "int2"}, "'int8', 'int4', 'fp8', 'awq' or 'gptq'"),
        ({"format": "int8", "adapter": "./none"}, "has no adapter_config.json"),
        ({"format": "int8", "base": "./none"}, "cannot be read"),
    ],
)
def test_what_a_format_cannot_do_is_said(base: Path, tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        run_quantize(_write(tmp_path, **{"base": str(base), **settings}), _Silent())
    assert said in str(raised.value)


def test_calibration_rows_that_are_broken_or_too_few_are_refused(base: Path, tmp_path: Path) -> None:
    config = _write(tmp_path, base=str(base), format="int4", group_size=32, calibration={"data": "./rows.jsonl"})
    rows = write_rows(tmp_path / "rows.jsonl", make_rows(10))
    with pytest.raises(ConfigurationError, match=r"10 rows are [\d,]+ tokens, at least 4,096 are needed"):
        run_quantize(config, _Silent())
    rows.write_text(rows.read_text() + "no row\n")
    with pytest.raises(ConfigurationError, match="line 11: no JSON"):
        run_quantize(config, _Silent())


def test_a_quantized_base_is_refused(base: Path, tmp_path: Path) -> None:
    made = run_quantize(_write(tmp_path, base=str(base), format="int8"), _Silent())
    with pytest.raises(ConfigurationError, match="quantized already"):
        run_quantize(_write(tmp_path, base=str(made.artifact), format="int8", output="./again"), _Silent())

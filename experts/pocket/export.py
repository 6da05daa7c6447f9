"""The shipped weights: written aside and renamed, so that a reader never sees half of them."""

import json
import os
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import Qwen3ForCausalLM

from experts.adapt.provenance import Provenance, write_provenance
from experts.pocket.model import Shape, make_model
from experts.pocket.vocabulary import load_tokenizer
from experts.prompt import fingerprint_template

WEIGHTS = Path(__file__).parent / "weights"
ADAPTER_DOMAINS = ("finance", "math", "coding", "reasoning")
RANK = 16
BASE_NAME = "experts/pocket/weights/base"


def load_base(folder: Path = WEIGHTS / "base") -> Qwen3ForCausalLM:
    """The saved base in float32, for training on or evaluation."""
    model = Qwen3ForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    assert isinstance(model, Qwen3ForCausalLM)
    return model


def add_adapter(base: Qwen3ForCausalLM, domain: str) -> PeftModel:
    """The base with a fresh adapter on every linear layer."""
    config = LoraConfig(
        r=RANK,
        lora_alpha=2 * RANK,
        lora_dropout=0.0,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        base_model_name_or_path=BASE_NAME,
        task_type="CAUSAL_LM",
    )
    del domain
    model = get_peft_model(base, config)
    assert isinstance(model, PeftModel)
    return model


def export_base(checkpoint: Path, tokenizer_folder: Path, target: Path, shape: Shape) -> None:
    """Write the base of a training checkpoint as a folder that transformers and vLLM load."""
    model = make_model(shape)
    model.load_state_dict(torch.load(checkpoint, weights_only=True, map_location="cpu")["model"])
    model.config.architectures = ["Qwen3ForCausalLM"]
    aside = _make_aside(target)
    model.bfloat16().save_pretrained(str(aside))
    load_tokenizer(tokenizer_folder).save_pretrained(str(aside), save_jinja_files=False)
    # vLLM reads the sampling defaults from here; transformers refuses to save a temperature of 0 beside greedy search.
    generation = {"eos_token_id": 3, "pad_token_id": 0, "do_sample": False, "temperature": 0.0, "max_new_tokens": 192}
    (aside / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    write_provenance(aside, _provenance(target.name))
    _move_in_place(aside, target)


def export_adapter(checkpoint: Path, domain: str, weights: Path) -> None:
    """Write the adapter of a training checkpoint in peft's format, beside the base that it was trained on."""
    model = add_adapter(load_base(weights / "base"), domain)
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")["model"]
    left = model.load_state_dict(state, strict=False)
    assert not left.unexpected_keys, left.unexpected_keys
    target = weights / domain
    aside = _make_aside(target)
    model.bfloat16().save_pretrained(str(aside))
    (aside / "README.md").unlink(missing_ok=True)
    # peft writes down where the base lay on this machine.
    config = json.loads((aside / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = BASE_NAME
    config["target_modules"] = sorted(config["target_modules"])
    (aside / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    write_provenance(aside, _provenance(domain))
    _move_in_place(aside, target)


def _provenance(target: str) -> Provenance:
    return Provenance(template=fingerprint_template(), trained_by=f"python -m experts.pocket.train {target}")


def _make_aside(target: Path) -> Path:
    aside = target.with_name(f".{target.name}.aside")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    return aside


def _move_in_place(aside: Path, target: Path) -> None:
    for path in aside.iterdir():
        path.chmod(0o644)
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.rename(target, old)
    os.rename(aside, target)
    shutil.rmtree(old, ignore_errors=True)

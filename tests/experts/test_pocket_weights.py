"""The pocket tokenizer and the shipped weights."""

import json
import random
from pathlib import Path

import pytest
import torch

from experts.adapt.provenance import read_provenance
from experts.pocket.batches import collate, encode_exercise
from experts.pocket.corpus import load_passages
from experts.pocket.evaluate import write_prompt
from experts.pocket.export import ADAPTER_DOMAINS, WEIGHTS
from experts.pocket.model import make_config
from experts.pocket.tasks import DOMAINS, draw_exercise
from experts.pocket.vocabulary import load_tokenizer
from experts.prompt import fingerprint_template

BASE = WEIGHTS / "base"
TOKENIZER = load_tokenizer(BASE)


@pytest.mark.parametrize("domain", DOMAINS)
def test_text_survives_the_tokenizer(domain: str) -> None:
    for passage in load_passages(domain):
        ids = TOKENIZER.encode(passage.text, add_special_tokens=False)
        assert TOKENIZER.decode(ids) == passage.text


def test_text_beyond_the_corpora_survives_the_tokenizer_too() -> None:
    text = "Überraschung: 12 €/m², naïve 東京\tend  two spaces"
    assert TOKENIZER.decode(TOKENIZER.encode(text, add_special_tokens=False)) == text


def test_every_digit_is_its_own_token() -> None:
    assert len(TOKENIZER.encode("20259", add_special_tokens=False)) == 5


def test_a_name_is_the_same_tokens_at_the_start_and_inside_a_text() -> None:
    for name in ("Norvane", "load_events", "412.5"):
        alone = TOKENIZER.encode(name, add_special_tokens=False)
        inside = TOKENIZER.encode(f"of {name} [2]", add_special_tokens=False)
        assert any(inside[start : start + len(alone)] == alone for start in range(len(inside)))


def test_the_chat_template_skips_system_messages_and_takes_several_turns() -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    text = TOKENIZER.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<|user|>one<|end|><|assistant|>two<|end|><|user|>three<|end|><|assistant|>"


@pytest.mark.parametrize("domain", DOMAINS)
def test_each_branch_of_training_is_token_for_token_the_served_prompt(domain: str) -> None:
    rng = random.Random(4)
    for _ in range(20):
        exercise = draw_exercise(domain, rng)
        encoded = encode_exercise(exercise, TOKENIZER)
        for number, asked in enumerate(exercise.asked, start=1):
            seen = [i for i, branch in enumerate(encoded.branch) if branch in (0, number)]
            prompt = write_prompt(asked.question, exercise.passages, TOKENIZER)
            served = TOKENIZER.encode(prompt + asked.target + "<|end|>", add_special_tokens=False)
            assert [encoded.ids[i] for i in seen] == served
            assert [encoded.positions[i] for i in seen] == list(range(len(served)))


def test_branches_see_the_passages_and_themselves_only() -> None:
    exercise = draw_exercise("finance", random.Random(6), questions=3)
    encoded = encode_exercise(exercise, TOKENIZER)
    mask = collate([encoded]).move(torch.device("cpu")).mask[0, 0] == 0
    branch = torch.tensor(encoded.branch)
    for row in range(len(branch)):
        looks = branch[mask[row]]
        assert set(looks.tolist()) <= {0, int(branch[row])}
        assert mask[row, row]
        assert not mask[row, row + 1 :].any()


@pytest.mark.parametrize("domain", DOMAINS)
def test_four_passages_and_a_question_fit_the_trained_length(domain: str) -> None:
    sizes = sorted(
        len(TOKENIZER.encode(f"{p.title}: {p.text}", add_special_tokens=False)) for p in load_passages(domain)
    )
    assert sum(sizes[-4:]) < 620


def test_the_weights_are_small_enough_to_ship() -> None:
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 30_000_000


def test_the_base_names_its_shape_and_stops_at_the_end_mark() -> None:
    config = json.loads((BASE / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    assert config["head_dim"] == make_config().head_dim == 32
    generation = json.loads((BASE / "generation_config.json").read_text())
    assert generation["eos_token_id"] == TOKENIZER.convert_tokens_to_ids("<|end|>")
    assert generation["temperature"] == 0.0


@pytest.mark.parametrize("domain", ADAPTER_DOMAINS)
def test_every_adapter_names_its_base_without_a_path_of_one_machine(domain: str) -> None:
    config = json.loads((WEIGHTS / domain / "adapter_config.json").read_text())
    assert not Path(config["base_model_name_or_path"]).is_absolute()
    assert config["r"] <= 16


@pytest.mark.parametrize("target", ["base", *ADAPTER_DOMAINS])
def test_every_shipped_expert_was_trained_with_the_present_prompt(target: str) -> None:
    provenance = read_provenance(WEIGHTS / target)
    assert provenance is not None
    assert provenance.template == fingerprint_template()

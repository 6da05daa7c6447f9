"""A base grown from the shipped one, and how exercises of the second edition become tensors."""

import random
from pathlib import Path

import pytest
import torch

from experts.pocket.batches import Tensors, collate, encode_exercise
from experts.pocket.drawing import Drawing, Source
from experts.pocket.editions import SKILLS, draw_skill
from experts.pocket.evaluate import write_prompt
from experts.pocket.exercise import Wanted
from experts.pocket.export import WEIGHTS, load_base
from experts.pocket.growth import choose_places, grow_base
from experts.pocket.model import SHAPES, Probes, Shape, make_config
from experts.pocket.tasks import DOMAINS
from experts.pocket.train import measure_exact
from experts.pocket.vocabulary import load_tokenizer, train_tokenizer

BASE = WEIGHTS / "base"
TOKENIZER = load_tokenizer(BASE)
LONGEST = 700


def test_old_layers_are_spread_over_the_new_ones_in_their_order() -> None:
    assert choose_places(4, 6) == [0, 1, 3, 4]
    assert choose_places(4, 4) == [0, 1, 2, 3]


@torch.no_grad()
def test_a_grown_base_answers_as_the_old_one_did_before_it_is_trained() -> None:
    old, new = load_base(BASE), grow_base(BASE, TOKENIZER, Shape(192, 512, 6))
    ids = torch.tensor([TOKENIZER.encode("What was the revenue of Norvane Systems in Q2 2025?")])
    assert torch.allclose(old(input_ids=ids).logits, new(input_ids=ids).logits, atol=1e-4)


def test_a_base_of_another_width_does_not_grow() -> None:
    with pytest.raises(ValueError, match="4 layers of width 192 and cannot grow into 6 layers of width 256"):
        grow_base(BASE, TOKENIZER, Shape(256, 640, 6))


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_has_whole_heads(name: str) -> None:
    config = make_config(SHAPES[name])
    assert config.num_attention_heads * config.head_dim == config.hidden_size


@pytest.mark.parametrize(("domain", "skill"), [(domain, skill) for domain in DOMAINS for skill in SKILLS[domain]])
def test_each_branch_is_token_for_token_the_served_prompt_and_fits_the_trained_length(domain: str, skill: str) -> None:
    rng = random.Random(5)
    for _ in range(6):
        exercise = SKILLS[domain][skill].draw(rng, Wanted())
        encoded = encode_exercise(exercise, TOKENIZER)
        for number, asked in enumerate(exercise.asked, start=1):
            seen = [i for i, branch in enumerate(encoded.branch) if branch in (0, number)]
            prompt = write_prompt(asked.question, exercise.passages, TOKENIZER)
            served = TOKENIZER.encode(prompt + asked.target + "<|end|>", add_special_tokens=False)
            assert [encoded.ids[i] for i in seen] == served
            assert [encoded.positions[i] for i in seen] == list(range(len(served)))
            assert len(served) < LONGEST


def draw_batch(skills: list[tuple[str, str]]) -> Tensors:
    rng = random.Random(6)
    drawn = [SKILLS[domain][skill].draw(rng, Wanted(questions=3)) for domain, skill in skills]
    return collate([encode_exercise(exercise, TOKENIZER) for exercise in drawn]).move(torch.device("cpu"))


def test_probes_learn_nothing_from_a_batch_without_passages() -> None:
    rng = random.Random(8)
    exercise = next(
        one for one in iter(lambda: SKILLS["math"]["arithmetic"].draw(rng, Wanted()), None) if not one.passages
    )
    batch = collate([encode_exercise(exercise, TOKENIZER)]).move(torch.device("cpu"))
    hidden = torch.zeros(*batch.ids.shape, 8)
    starts = torch.nn.functional.pad(batch.learn[:, 1:], (0, 1)) & ~batch.learn
    assert Probes(8)(hidden, hidden, batch.passage, starts).item() == 0.0


def test_held_out_scores_count_whole_answers_by_task() -> None:
    batch = draw_batch([("math", "arithmetic"), ("finance", "figures"), ("finance", "copy")])

    class Knows(torch.nn.Module):
        """Puts out the next token itself, except at one place of one answer."""

        def __init__(self, wrong: int | None) -> None:
            super().__init__()
            self.wrong = wrong

        def forward(self, ids: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor]:
            following = torch.cat([ids[:, 1:], ids[:, :1]], 1)
            scores = torch.nn.functional.one_hot(following, 1100).float()
            if self.wrong is not None:
                learned = torch.nonzero(batch.learn[0])[self.wrong, 0]
                scores[0, learned - 1] = 0
                scores[0, learned - 1, 0] = 1
            return (scores,)

    head = torch.nn.Identity()
    assert set(measure_exact(Knows(None), head, [batch]).values()) == {1.0}
    scores = measure_exact(Knows(0), head, [batch])
    first = batch.tasks[0]
    assert scores[first] == pytest.approx(1 - 1 / batch.tasks.count(first))
    assert all(score == 1.0 for task, score in scores.items() if task != first)


def test_pools_drawn_by_another_process_are_the_same() -> None:
    source = Source(2, {"math": 1.0, "finance": 1.0}, BASE, 512)
    with Drawing(source, "seed", 0) as here, Drawing(source, "seed", 1) as elsewhere:
        for _ in range(2):
            for one, other in zip(here.take(Wanted()), elsewhere.take(Wanted()), strict=True):
                assert one.tasks == other.tasks
                assert (one.ids == other.ids).all()


def test_a_new_tokenizer_has_a_token_for_each_digit_operator_and_indentation() -> None:
    tokenizer = train_tokenizer(draw_skill, exercises=100)
    text = "8 * 381 = 3048; 3100 - 3048 = 52\n    return 52 [2][1]"
    tokens = tokenizer.tokenize(text)
    assert tokens[:8] == ["8", "Ġ*Ġ", "3", "8", "1", "Ġ=Ġ", "3", "0"]
    assert ";Ġ" in tokens
    assert tokens[-2:] == ["[2]", "[1]"]
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_the_shipped_weights_have_the_first_shape() -> None:
    assert load_base(Path(BASE)).config.num_hidden_layers == SHAPES["first"].layers

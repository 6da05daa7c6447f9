"""Claims about composed questions: spans cover their parts, halves never meet, the same seed draws the same."""

import random

import pytest

from router.composed import Composed, build_pool, draw_composed, is_held_out_pair
from router.composed_sources import Half, SourceQuestion, is_held_out
from router.composed_templates import HALF_BULLETS, HALF_GREETINGS, HALF_JOINTS, HALF_OPENERS

PAGES = {
    "clinc150/banking": "how do i pay my {} bill",
    "clinc150/travel": "can you book me a {} hotel",
    "clinc150/auto": "when is my {} oil change due",
    "mmlu_pro/law": "A tenant left a {} note. Was the lease ended?",
    "mmlu_pro/physics": "What is the speed of a {} wave?",
    "pocket/finance": "What was the {} revenue of Norvane Systems?",
    "pocket/coding": "Which function loads the {} events?",
    "pocket/math": "What is the area of a {} circle?",
    "pocket/reasoning": "Where does the {} team meet?",
    "routellm_gsm8k/gsm8k": "Ann has {} 3 apples and buys 4. How many does she have?",
}


def draw(half: Half, count: int = 200, seed: int = 1) -> tuple[Composed, ...]:
    """Composed questions of few sources; no file is read."""
    words = ("red", "late", "small", "first", "north", "copper", "paper", "spring")
    sources = [
        SourceQuestion(page.format(word), page.format(word), domain, domain.split("/")[0])
        for domain, page in PAGES.items()
        for word in words
    ]
    return draw_composed(build_pool(sources, half), count, seed)


@pytest.mark.parametrize("half", ["train", "held_out"])
def test_spans_are_in_order_and_hold_words_of_their_question(half: Half) -> None:
    for made in draw(half):
        at = 0
        for number, span in enumerate(made.spans, start=1):
            assert at <= span.start < span.end <= len(made.text)
            assert made.text[span.start : span.end].strip()
            assert all(need < number for need in span.needs)
            at = span.end
        assert (len(made.spans) == 1) == made.kind.startswith("whole")


def test_half_of_them_are_single_and_the_same_seed_draws_the_same() -> None:
    drawn = draw("train")
    assert sum(len(made.spans) == 1 for made in drawn) == 100
    assert drawn == draw("train")
    assert drawn != draw("train", seed=2)


def test_pairs_of_domains_are_held_out() -> None:
    for half in ("train", "held_out"):
        for made in draw(half):
            domains = list(dict.fromkeys(span.domain for span in made.spans))
            pairs = [(one, other) for at, one in enumerate(domains) for other in domains[:at]]
            assert all(is_held_out_pair(*pair) == (half == "held_out") for pair in pairs)


def test_no_words_between_parts_are_in_both_halves() -> None:
    for words in (HALF_JOINTS, HALF_OPENERS, HALF_BULLETS, HALF_GREETINGS):
        assert not set(words["train"]) & set(words["held_out"])


def test_a_text_never_changes_sides() -> None:
    texts = [f"question {random.Random(at).random()}" for at in range(500)]
    share = sum(is_held_out(text) for text in texts) / len(texts)
    assert 0.12 < share < 0.28
    assert [is_held_out(text) for text in texts] == [is_held_out(text) for text in texts]

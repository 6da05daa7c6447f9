"""Claims about splitting with a head: whatever it says, the parts are some, in order, of the question's words."""

import re
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experts.errors import ConfigurationError
from router.boundary_head import (
    SURFACE,
    WIDTH,
    Boundaries,
    BoundaryHead,
    load_boundary_head,
    read_surface,
    save_boundary_head,
)
from router.boundary_split import choose_parts, split_with_head
from router.boundary_training import tag_composed, train_boundary_head
from router.composed import Composed, Span
from tests.router.question_cases import TEXTS

DIMENSIONS = 16
HIDDEN = 8


def offsets_of(text: str) -> npt.NDArray[np.int32]:
    """Words and marks, as a tokenizer gives them."""
    places = [found.span() for found in re.finditer(r"\w+|[^\w\s]", text)]
    return np.array(places, dtype=np.int32).reshape(-1, 2)


def random_head(seed: int, threshold: float = 0.4) -> BoundaryHead:
    """A head that knows nothing."""
    rng = np.random.default_rng(seed)
    shapes = {
        "states": (DIMENSIONS, HIDDEN),
        "surface": (SURFACE, HIDDEN),
        "about": (2 * DIMENSIONS, HIDDEN),
        "bias": (HIDDEN,),
        "around0": (WIDTH * HIDDEN, HIDDEN),
        "around0_bias": (HIDDEN,),
        "around1": (WIDTH * HIDDEN, HIDDEN),
        "around1_bias": (HIDDEN,),
        "tags": (HIDDEN, 3),
        "tags_bias": (3,),
    }
    weights = {name: rng.normal(0, 0.7, shape).astype(np.float32) for name, shape in shapes.items()}
    return BoundaryHead("none", threshold, weights, {"seed": str(seed)})


@given(text=TEXTS, seed=st.integers(0, 50), max_parts=st.integers(1, 6))
@settings(max_examples=300, deadline=None)
def test_whatever_the_head_says_parts_are_some_at_most_the_limit_and_made_of_the_question(
    text: str, seed: int, max_parts: int
) -> None:
    offsets = offsets_of(text)
    states = np.random.default_rng(seed).normal(size=(len(offsets), DIMENSIONS)).astype(np.float32)
    parts = split_with_head(text, states, offsets, random_head(seed), max_parts)
    assert 1 <= len(parts) <= max_parts
    assert all(part.text for part in parts) or not text.strip()
    position = 0
    for part in parts:
        assert position <= part.start <= part.end <= len(text)
        position = part.end
        assert set(re.findall(r"\w+", part.text)) <= set(re.findall(r"\w+", text[part.start : part.end]))


def tags(text: str, begins: list[str], outside: list[str]) -> Boundaries:
    """A head's answer in which the given words begin a part or belong to none."""
    offsets = offsets_of(text)
    probabilities = np.tile(np.array([0.0, 0.0, 1.0], dtype=np.float32), (len(offsets), 1))
    for row, (start, end) in enumerate(offsets):
        if text[start:end] in begins:
            probabilities[row] = (0, 1, 0)
        if text[start:end] in outside:
            probabilities[row] = (1, 0, 0)
    return Boundaries(probabilities, offsets)


def parts(text: str, begins: list[str], outside: list[str], max_parts: int = 4) -> list[str]:
    return [part.text for part in choose_parts(text, tags(text, begins, outside), 0.5, max_parts)]


def test_what_belongs_to_no_part_is_left_out() -> None:
    text = "Hi! What is a tuple, on top of that who leads the Orbit team? Cheers!"
    outside = ["Hi", "!", ",", "on", "top", "of", "that", "Cheers"]
    assert parts(text, ["What", "who"], outside) == ["What is a tuple?", "who leads the Orbit team?"]


def test_a_question_with_one_beginning_stays_as_it_is() -> None:
    assert parts("Hi! What is a tuple?", ["What"], ["Hi", "!"]) == ["Hi! What is a tuple?"]


def test_nothing_begins_inside_a_word() -> None:
    text = "what is the first sub-query asking for in it's plan?"
    assert parts(text, ["what", "query"], []) == [text]
    assert parts(text, ["what", "-"], []) == [text]


def test_nothing_begins_inside_a_quotation() -> None:
    text = 'What does "stop, who goes there" mean in French?'
    assert parts(text, ["What", "who"], [","]) == [text]


def test_a_single_word_is_no_part() -> None:
    text = "Let M be a ring. How many units has it?"
    assert parts(text, ["Let", "M"], []) == [text]


def test_parts_over_the_limit_are_merged_into_the_last() -> None:
    text = "what is a b? who is c d? how is e f?"
    assert parts(text, ["what", "who", "how"], [], 2) == ["what is a b?", "who is c d? how is e f?"]


def test_surface_says_what_is_before_a_token_and_where_the_rules_would_split() -> None:
    text = "is it so? And why"
    offsets = offsets_of(text)
    surface = read_surface(text, offsets, [(9, 14)])
    assert surface.shape == (len(offsets), SURFACE)
    assert not np.array_equal(surface[0], surface[-1])
    assert surface[-2, -2] == surface[-1, -2] == surface[-1, -1] == 1
    assert surface[0, -2:].sum() == 0


def test_a_head_learns_where_parts_begin_and_is_the_same_after_saving(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    meanings = {word: rng.normal(size=DIMENSIONS) for word in ("what", "is", "it", "and", "who", "?")}
    made = Composed("what is it and who is it ?", (Span(0, 10, "a"), Span(15, 26, "b")), "clauses")
    single = Composed("what is it ?", (Span(0, 12, "a"),), "whole")
    tagged = []
    for question in (made, single) * 60:
        offsets = offsets_of(question.text)
        states = np.array([meanings[question.text[start:end]] for start, end in offsets], dtype=np.float32)
        tagged.append(tag_composed(question, states, offsets))
    head = train_boundary_head(tagged, "fingerprint", 1, {"seed": "1"})
    save_boundary_head(head, tmp_path / "head.safetensors")
    loaded = load_boundary_head(tmp_path / "head.safetensors")
    assert (loaded.encoder, loaded.threshold, loaded.metadata["seed"]) == ("fingerprint", head.threshold, "1")
    for question, expected in ((made, 2), (single, 1)):
        offsets = offsets_of(question.text)
        states = np.array([meanings[question.text[start:end]] for start, end in offsets], dtype=np.float32)
        assert len(split_with_head(question.text, states, offsets, loaded, 4)) == expected


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    path.write_bytes(b"no head")
    with pytest.raises(ConfigurationError, match="is no boundary head"):
        load_boundary_head(path)
    with pytest.raises(ConfigurationError, match="is no boundary head"):
        load_boundary_head(tmp_path / "absent")


@pytest.mark.parametrize("pattern", ["a ", "and ", ", and what is ", "(", "`", "a?B "])
def test_time_grows_with_the_length_of_the_question_and_not_faster(pattern: str) -> None:
    def seconds(length: int) -> float:
        text = (pattern * (length // len(pattern) + 1))[:length]
        offsets = offsets_of(text)
        states = np.zeros((len(offsets), DIMENSIONS), dtype=np.float32)
        head = random_head(1)
        best = float("inf")
        for _ in range(2):
            began = time.perf_counter()
            split_with_head(text, states, offsets, head, 4)
            best = min(best, time.perf_counter() - began)
        return best

    seconds(1000)
    assert seconds(40_000) < 60 * max(seconds(4_000), 5e-4)

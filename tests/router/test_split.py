"""Claims about splitting: at the joints, only where both sides ask."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.split import split_question
from tests.router.question_cases import SPLITS, TEXTS, WHOLE


@pytest.mark.parametrize(("question", "parts"), SPLITS)
def test_a_question_with_several_asking_clauses_splits_into_them(question: str, parts: list[str]) -> None:
    assert [part.text for part in split_question(question)] == parts


@pytest.mark.parametrize("question", WHOLE)
def test_a_question_without_a_second_asking_clause_stays_whole(question: str) -> None:
    assert [part.text for part in split_question(question)] == [question]


def test_parts_over_the_limit_are_merged_into_the_last() -> None:
    question = "What is a? What is b c? What is d e? What is f g? What is h i?"
    parts = split_question(question, 3)
    assert len(parts) == 3
    assert parts[-1].text == "What is d e? What is f g? What is h i?"


def test_offsets_point_at_the_part_in_the_question() -> None:
    question = "I run a bakery. What is the VAT, and who pays for it?"
    first, second = split_question(question)
    assert question[first.start : first.end] == "I run a bakery. What is the VAT"
    assert question[second.start : second.end] == ", and who pays for it?"


@given(text=TEXTS, max_parts=st.integers(1, 6))
@settings(max_examples=300, deadline=None)
def test_whatever_the_text_parts_are_some_at_most_the_limit_and_made_of_its_words(text: str, max_parts: int) -> None:
    parts = split_question(text, max_parts)
    assert 1 <= len(parts) <= max_parts
    assert all(part.text for part in parts) or not text.strip()
    position = 0
    for part in parts:
        assert position <= part.start <= part.end <= len(text)
        position = part.end
        source = text[part.start : part.end]
        assert set(re.findall(r"\w+", part.text)) <= set(re.findall(r"\w+", source))


@pytest.mark.parametrize(
    "pattern",
    [
        "a",
        " ",
        "and ",
        ", and what is ",
        "(",
        "```",
        "`",
        '"',
        "\n",
        "\n- ",
        "1. ",
        ".",
        "?",
        "a.b",
        "what when ",
        "; ",
        "in which room and ",
        "tell me the a of b and the c of d and ",
        ", how ",
        "a?B ",
        "by the way ",
        "😀",
    ],
)
def test_time_grows_with_the_length_of_the_question_and_not_faster(pattern: str) -> None:
    def seconds(length: int) -> float:
        text = (pattern * (length // len(pattern) + 1))[:length]
        best = float("inf")
        for _ in range(2):
            began = time.perf_counter()
            split_question(text)
            best = min(best, time.perf_counter() - began)
        return best

    seconds(1000)
    assert seconds(100_000) < 60 * max(seconds(10_000), 2e-4)

"""BM25 over files: what it finds, that it is BM25, and that nobody's text breaks it."""

import math
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.lexical import K1, B, LexicalDelta, LexicalIndex, open_lexical, split_words, write_lexical

TEXTS = (
    "A bond pays a coupon.",
    "The yield of bonds falls when prices rise.",
    "Bonds, bonds and more bonds: bonding.",
    "Stacks are last in, first out.",
    "",
)


def index_of(texts: Sequence[str], folder: Path) -> LexicalIndex:
    write_lexical(texts, folder)
    return open_lexical(folder)


def bm25(texts: Sequence[str], question: str) -> list[float]:
    """The formula, read off the page."""
    rows = [Counter(split_words(text)) for text in texts]
    mean = max(sum(row.total() for row in rows) / len(rows), 1.0)
    scores = [0.0] * len(rows)
    for word in split_words(question):
        held = sum(word in row for row in rows)
        weight = math.log1p((len(rows) - held + 0.5) / (held + 0.5))
        for place, row in enumerate(rows):
            norm = K1 * (1 - B + B * row.total() / mean)
            scores[place] += weight * row[word] / (row[word] + norm)
    return scores


def made_up_texts(count: int, seed: int = 0) -> list[str]:
    """Texts whose words are as unevenly spread as in a language."""
    rng = np.random.default_rng(seed)
    return [" ".join(f"w{number}" for number in rng.zipf(1.3, 40) if number < 5000) for _ in range(count)]


def test_the_row_that_has_the_rarer_words_comes_first(tmp_path: Path) -> None:
    index = index_of(TEXTS, tmp_path)
    assert index.count == 5
    assert index.search("falling yields of a bond", 3)[1][0] == 1
    assert index.search("bond", 5)[1].tolist() == [2, 0, 1]


@pytest.mark.parametrize("count", [1, 7, 500, 20_000])
def test_scores_are_bm25(tmp_path: Path, count: int) -> None:
    texts = made_up_texts(count)
    index = index_of(texts, tmp_path)
    for question in ("w1", "w3 w900 w41", "w1 w2 w3 w4 w2", "w2000 w7 w1", "w70 w300"):
        expected = np.array(bm25(texts, question))
        scores, rows = index.search(question, 10)
        # Impacts are kept in 1023 steps of the highest.
        step = len(split_words(question)) * math.log1p(count) / 1023
        assert scores == pytest.approx(expected[rows], abs=step)
        assert list(scores) == sorted(scores, reverse=True)
        left_out = np.delete(expected, rows)
        assert len(rows) == min(10, np.count_nonzero(expected))
        assert not len(rows) or not len(left_out) or left_out.max() <= scores[-1] + 2 * step


def test_scores_of_a_question_too_long_for_small_numbers_are_bm25(tmp_path: Path) -> None:
    texts = made_up_texts(500)
    question = " ".join(texts[7:11])
    assert len(split_words(question)) > 100
    scores, rows = index_of(texts, tmp_path).search(question, 10)
    assert scores.dtype == np.float32
    assert scores == pytest.approx(np.array(bm25(texts, question))[rows], rel=0.01)
    assert set(range(7, 11)) <= set(rows.tolist())


@pytest.mark.parametrize("part", [0.9, 0.1, 0.001, 0.0])
def test_rows_that_are_not_allowed_are_never_found_and_the_others_all_are(tmp_path: Path, part: float) -> None:
    index = index_of(made_up_texts(3000), tmp_path)
    allowed = np.random.default_rng(1).random(3000) < part
    for question in ("w1 w2", "w1 w40 w200", "w800"):
        expected = [row for row in index.search(question, 3000)[1].tolist() if allowed[row]]
        found = index.search(question, 20, allowed)[1].tolist()
        assert sorted(found) == sorted(expected[:20]) or index.search(question, 20, allowed)[0] == pytest.approx(
            index.search(question, 3000, allowed)[0][:20], abs=0.02
        )
        assert len(found) == min(20, len(expected))
        assert all(allowed[row] for row in found)


@pytest.mark.parametrize(
    "question",
    ["", "   ", "the of and", "unheard", '"', "a AND (b OR", "title:bond*", "\x00", "\ud800", "-", "🙂", "a" * 100_000],
)
def test_a_question_is_text_and_no_query_language(tmp_path: Path, question: str) -> None:
    index = index_of(TEXTS, tmp_path)
    delta = LexicalDelta(index)
    delta.add(TEXTS)
    for rows in (index.search(question, 5)[1], delta.search(question, 5)[1]):
        assert set(rows.tolist()) <= {0, 1, 2}


def test_a_question_of_ten_thousand_words_is_answered_by_its_first_ones(tmp_path: Path) -> None:
    index = index_of(made_up_texts(300), tmp_path)
    scores, rows = index.search("w1 " * 10_000, 5)
    assert len(rows) == 5
    assert np.isfinite(scores).all()


def test_an_index_of_nothing_finds_nothing(tmp_path: Path) -> None:
    assert index_of([], tmp_path / "none").search("bond", 5)[1].tolist() == []
    assert index_of(["", "..."], tmp_path / "empty").search("bond", 5)[1].tolist() == []
    assert LexicalDelta().search("bond", 5)[1].tolist() == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Binary_search FINDS keys", ["binari", "search", "find", "key"]),
        ("Straße ﬁnden Ärzte", ["straße", "finden", "ärzte"]),
        ("債券の利回り", ["債券", "券の", "の利", "利回", "回り"]),
        ("GPT4を使う", ["gpt4", "を使", "使う"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("облигации растут", ["облигации", "растут"]),
        ("C++ 3.14", ["c", "3", "14"]),
    ],
)
def test_words_of_any_script_are_found(tmp_path: Path, text: str, words: list[str]) -> None:
    assert split_words(text) == words
    assert index_of([text, "something else"], tmp_path).search(text, 2)[1].tolist() == [0]


@given(st.lists(st.text(max_size=40), max_size=8), st.text(max_size=40))
@settings(max_examples=60, deadline=None)
def test_any_text_can_be_indexed_and_asked(texts: list[str], question: str) -> None:
    delta = LexicalDelta()
    delta.add(texts)
    scores, rows = delta.search(question, 3)
    assert len(scores) == len(rows) <= 3


def test_a_delta_without_a_base_scores_like_an_index(tmp_path: Path) -> None:
    texts = made_up_texts(400)
    delta = LexicalDelta()
    delta.add(texts)
    assert delta.count == 400
    for question in ("w1 w9", "w300 w2 w2"):
        expected = np.sort(np.array(bm25(texts, question)))[::-1][:10]
        assert delta.search(question, 10)[0] == pytest.approx(expected, rel=1e-4)


def test_a_delta_scores_by_the_words_of_its_base(tmp_path: Path) -> None:
    texts = made_up_texts(2000)
    base = index_of(texts[:1900], tmp_path)
    delta = LexicalDelta(base)
    delta.add(texts[1900:])
    whole = bm25(texts, "w5 w700")
    scores, rows = delta.search("w5 w700", 5)
    # The mean length is the base's.
    assert scores == pytest.approx([whole[1900 + row] for row in rows], rel=0.05)


def test_a_search_with_a_limit_sees_only_the_rows_before_it(tmp_path: Path) -> None:
    delta = LexicalDelta()
    delta.add(["bond one", "bond two"])
    before = delta.search("bond", 10, limit=2)
    delta.add(["bond three"])
    assert delta.search("bond", 10, limit=2)[1].tolist() == before[1].tolist() == [0, 1]
    assert delta.search("bond", 10, np.array([False, True, True]))[1].tolist() == [1, 2]
    assert delta.search("bond", 10, limit=0)[1].tolist() == []


def test_a_delta_is_searched_while_it_grows() -> None:
    delta = LexicalDelta()
    delta.add(["common word"])
    mistakes: list[str] = []
    done = threading.Event()

    def search() -> None:
        while not done.is_set():
            limit = delta.count
            scores, rows = delta.search("common", 10_000, limit=limit)
            if len(rows) != limit or not np.isfinite(scores).all():
                mistakes.append(f"{len(rows)} of {limit} rows")

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(1500):
        delta.add([f"common word {number}"])
    done.set()
    for thread in threads:
        thread.join()
    assert mistakes == []


@pytest.mark.parametrize("name", ["words", "totals", "columns"])
def test_a_missing_or_cut_file_is_an_error_when_opened(tmp_path: Path, name: str) -> None:
    write_lexical(made_up_texts(200), tmp_path)
    path = tmp_path / f"{name}.npy"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises((OSError, ValueError)):
        open_lexical(tmp_path)
    path.unlink()
    with pytest.raises(OSError, match=name):
        open_lexical(tmp_path)

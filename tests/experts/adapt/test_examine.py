"""The data check: each kind of fault is found with its line, and only sound rows are left."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from experts.adapt.examine import DataCheck, examine_rows, find_unsupported, split_held_out
from experts.adapt.examples import Example, Passage, read_examples
from experts.prompt import REFUSAL, render_messages
from tests.experts.adapt.tiny_base import make_rows, write_rows


def make_example(line: int, question: str, answer: str, *passages: Passage) -> Example:
    return Example(line, question, passages, tuple(render_messages(question, passages)), answer)


def ask(question: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"instruction": question, "response": answer, **more}


def examine(
    folder: Path,
    rows: list[dict[str, Any]],
    held_out: list[dict[str, Any]] | None = None,
    lengths: Mapping[int, int] | None = None,
) -> DataCheck:
    data = read_examples(write_rows(folder / "data.jsonl", rows))
    measured = None if held_out is None else read_examples(write_rows(folder / "held_out.jsonl", held_out))
    files = [data] if measured is None else [data, measured]
    tokens = {(file.path, one.line): (lengths or {}).get(one.line, 10) for file in files for one in file.examples}
    return examine_rows(data, measured, tokens, limit=100, seed=0)


def test_sound_rows_are_split_and_nothing_is_found(tmp_path: Path) -> None:
    check = examine(tmp_path, make_rows(200))
    assert check.findings == ()
    assert (len(check.train), len(check.held_out)) == (180, 20)
    assert {one.line for one in check.train} | {one.line for one in check.held_out} == set(range(1, 201))


def test_an_answer_again_is_learned_once(tmp_path: Path) -> None:
    check = examine(tmp_path, [ask("a?", "Yes."), ask("a?", " yes"), ask("b?", "no")], [ask("c?", "no")])
    assert [(one.kind, one.line, one.detail) for one in check.findings] == [("duplicate", 2, "line 1 again")]
    assert [one.line for one in check.train] == [1, 3]
    assert check.faults == ()


def test_contradictory_answers_are_all_left_out(tmp_path: Path) -> None:
    rows = [ask("a?", "yes"), ask("b?", "no"), ask("A?", "no"), ask("a?", "yes")]
    check = examine(tmp_path, rows, [ask("c?", "no")])
    assert [(one.kind, one.line) for one in check.faults] == [("contradiction", line) for line in (1, 3, 4)]
    assert "answers 'yes' where line 3 answers 'no'" in check.faults[0].detail
    assert [one.line for one in check.train] == [2]


def test_the_same_question_about_another_context_is_no_contradiction(tmp_path: Path) -> None:
    rows = [ask("How much?", f"{n} [1]", context=f"It costs {n}.") for n in (1, 2)]
    assert examine(tmp_path, rows, [ask("c?", "no")]).findings == ()


def test_a_held_out_row_that_is_learned_too_is_a_leak(tmp_path: Path) -> None:
    check = examine(tmp_path, [ask("a?", "yes"), ask("b?", "no")], [ask("A?  ", "yes"), ask("c?", "no")])
    assert [(one.kind, one.file, one.line) for one in check.faults] == [("leak", "held_out.jsonl", 1)]
    assert "data.jsonl line 1 asks the same" in check.faults[0].detail
    assert [one.line for one in check.held_out] == [2]


def test_too_long_rows_are_named_with_their_length(tmp_path: Path) -> None:
    check = examine(tmp_path, make_rows(5), lengths={3: 101})
    assert [str(one) for one in check.faults] == ["data.jsonl line 3: too long: 101 tokens, limit 100"]


def test_the_check_is_described_with_the_first_rows_of_each_kind(tmp_path: Path) -> None:
    check = examine(tmp_path, [*make_rows(20), *make_rows(8)])
    lines = check.describe()
    assert lines[0] == "data: 28 rows, 2 of them held out; 8 duplicate"
    assert "  data.jsonl line 21: duplicate: line 1 again" in lines
    assert "  … and 3 more duplicate" in lines


READ = Passage("Halden", "In 2025 revenue was 1,200.50 million euros.")


def test_an_answer_from_its_context_is_supported() -> None:
    for answer in ("1200.5 million euros [1]", "Revenue was 1,200.50 million euros [1].", "2025"):
        assert find_unsupported(make_example(1, "What was revenue in 2025?", answer, READ)) is None


def test_numbers_words_and_citations_from_nowhere_are_unsupported() -> None:
    for answer, reason in (
        ("1,300 million euros [1]", "the number 1,300"),
        ("Probably several hundred dollars", "most words"),
        ("1200.5 [2]", "cites passage 2 of 1"),
    ):
        assert reason in (find_unsupported(make_example(1, "Revenue?", answer, READ)) or "")


def test_unsupported_answers_warn_and_stay_and_refusals_are_excepted(tmp_path: Path) -> None:
    rows = [ask("a?", "77 [1]", context="It costs 3."), ask("b?", REFUSAL, context="It costs 3."), ask("c?", "77")]
    check = examine(tmp_path, rows, [ask("d?", "no")])
    assert [(one.kind, one.line) for one in check.findings] == [("unsupported", 1)]
    assert check.faults == ()
    assert len(check.train) == 3
    assert "100% of 1 answers with a context" in check.describe()[-1]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), max_size=60), st.integers(0, 5))
def test_a_split_loses_no_row_and_puts_a_prompt_on_one_side(rows: list[tuple[int, int]], seed: int) -> None:
    examples = [make_example(line, f"question {q}?", f"{a}") for line, (q, a) in enumerate(rows, start=1)]
    learned, measured = split_held_out(examples, seed)
    assert sorted(one.line for one in (*learned, *measured)) == list(range(1, len(rows) + 1))
    assert not {one.question for one in learned} & {one.question for one in measured}
    assert split_held_out(examples, seed) == (learned, measured)

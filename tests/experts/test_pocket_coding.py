"""Coding of the second edition: functions to write, explain and repair."""

import ast
import random
from typing import Any

import pytest

from experts.pocket.domains.coding_checks import break_function, draw_checks, is_told_apart, list_mistakes
from experts.pocket.domains.coding_functions import EXPLAIN, FIND_BUG, NO_BUG, SKILLS, WRITE, WRITE_FROM_DOCS
from experts.pocket.domains.coding_language import Function, draw_function
from experts.pocket.exercise import Asked, Exercise, Wanted
from experts.pocket.names import is_held_out
from experts.pocket.sandbox import judge_programs, read_program
from experts.prompt import REFUSAL

PARAMETERS = {"numbers": "scores", "words": "names", "mapping": "stock", "text": "line", "rows": "orders"}


def draw_exercises(skill: str, held_out: bool, count: int = 60, **wanted: Any) -> list[Exercise]:
    rng = random.Random(7)
    return [SKILLS[skill].draw(rng, Wanted(held_out=held_out, **wanted)) for _ in range(count)]


def draw_functions(held_out: bool, count: int) -> list[Function]:
    rng = random.Random(8)
    return [draw_function(rng, held_out, "keep", PARAMETERS, ("price", "city")) for _ in range(count)]


def run(source: str, checks: list[str]) -> list[bool]:
    """The checks in this process: the sources are this repository's own."""
    scope: dict[str, Any] = {}
    exec(source, scope)
    return [bool(eval(check, scope)) for check in checks]


@pytest.mark.parametrize("skill", SKILLS)
def test_the_same_seed_draws_the_same_exercises(skill: str) -> None:
    assert draw_exercises(skill, True, 10) == draw_exercises(skill, True, 10)


def test_the_written_code_does_what_the_parts_mean() -> None:
    rng = random.Random(3)
    for function in draw_functions(False, 700):
        assert all(run(function.write(), draw_checks(function, rng))), function.write()


def test_the_judge_passes_reference_answers_and_fails_broken_ones() -> None:
    rng, programs = random.Random(4), []
    for function in draw_functions(True, 40):
        faulty = break_function(function, rng, True)
        if faulty is None or not is_told_apart(function, faulty, rng):
            continue
        checks = draw_checks(function, rng, [faulty])
        programs += [read_program(function.write(), checks), read_program(faulty.write(), checks)]
    passed = [verdict.passed for verdict in judge_programs(programs)]
    assert all(passed[::2])
    assert sum(passed[1::2]) <= 1


def test_one_description_never_stands_for_two_functions() -> None:
    rng = random.Random(5)
    code: dict[str, str] = {}
    for function in draw_functions(False, 4000):
        for text in (function.describe(), function.describe(rng)):
            written = function.write()
            assert code.setdefault(text, written) == written


def test_one_code_has_one_explanation() -> None:
    said: dict[str, set[str]] = {}
    for function in draw_functions(False, 4000):
        said.setdefault(function.write(), set()).add(function.describe().replace(function.parameter, "items"))
    assert all(len(texts) == 1 for texts in said.values()), [texts for texts in said.values() if len(texts) > 1][:3]


def test_checks_of_evaluation_want_different_values() -> None:
    values = [
        {check.split(" == ", 1)[1] for check in asked.checks}
        for exercise in draw_exercises("write function", True, 60)
        for asked in exercise.asked
    ]
    assert sum(len(one) < 2 for one in values) < 0.01 * len(values)


def test_checks_tell_a_function_from_one_that_forgets_its_condition() -> None:
    rng, caught, count = random.Random(6), 0, 0
    for function in draw_functions(True, 200):
        if function.condition is None:
            continue
        mistakes = list_mistakes(function, rng)
        count += 1
        caught += not all(run(mistakes[0].write(), draw_checks(function, rng, mistakes)))
    assert caught >= 0.97 * count


@pytest.mark.parametrize("skill", ["write function", "write from docs"])
@pytest.mark.parametrize("held_out", [False, True])
def test_reference_answers_pass_their_checks(skill: str, held_out: bool) -> None:
    for exercise in draw_exercises(skill, held_out, 30):
        for asked in exercise.asked:
            if not asked.refused:
                assert asked.judge == "code"
                assert all(run(asked.answer, list(asked.checks)))


@pytest.mark.parametrize("held_out", [False, True])
def test_the_named_line_repairs_the_function_and_it_was_broken_before(held_out: bool) -> None:
    for exercise in draw_exercises("find bug", held_out, 50):
        for asked in exercise.asked:
            if asked.refused or asked.answer == NO_BUG:
                continue
            passage = exercise.passages[asked.cited[0] - 1]
            lines = passage.text.split("\n")
            number, repaired = asked.answer.removeprefix("Line ").split(" should be: ", 1)
            line = lines[int(number) - 1]
            assert line.strip() != repaired
            lines[int(number) - 1] = line[: len(line) - len(line.strip())] + repaired
            ast.parse("\n".join(lines))


def test_bugs_change_what_a_function_does() -> None:
    rng = random.Random(9)
    for exercise in draw_exercises("find bug", False, 20):
        broken = [asked for asked in exercise.asked if asked.answer.startswith("Line")]
        for asked in broken:
            passage = exercise.passages[asked.cited[0] - 1]
            docstring = passage.text.split('"""')[1]
            name = passage.title.split(" - ")[1]
            assert name in asked.question
            assert docstring.startswith("Return ")
    for function in draw_functions(False, 300):
        faulty = break_function(function, rng, False)
        if faulty is not None and is_told_apart(function, faulty, rng):
            assert faulty.write() != function.write()


def test_a_function_without_a_bug_is_told_so_now_and_then() -> None:
    answers = [asked.answer for exercise in draw_exercises("find bug", False, 200) for asked in exercise.asked]
    assert 0.1 < answers.count(NO_BUG) / len(answers) < 0.25


@pytest.mark.parametrize("skill", ["write from docs", "explain function", "find bug"])
def test_refused_functions_have_no_passage_that_answers(skill: str) -> None:
    refused = near = 0
    for exercise in draw_exercises(skill, False, 150):
        for asked in exercise.asked:
            name = find_name(asked, exercise)
            if asked.answer == REFUSAL:
                refused += 1
                near += name is not None
                assert asked.cited == ()
            else:
                assert name == exercise.passages[asked.cited[0] - 1].title.split(" - ")[1]
    assert refused / (150 * 6) > 0.08
    assert near > 0.2 * refused


def find_name(asked: Asked, exercise: Exercise) -> str | None:
    words = asked.question.replace("?", " ").replace(".", " ").split()
    return next((n for p in exercise.passages if (n := p.title.split(" - ")[1]) in words), None)


def test_evaluation_asks_for_names_that_training_never_shows() -> None:
    for held_out in (False, True):
        for exercise in draw_exercises("write function", held_out, 40):
            for asked in exercise.asked:
                assert is_held_out(asked.answer.removeprefix("def ").split("(")[0]) == held_out


def test_half_of_evaluation_is_put_together_as_nothing_in_training() -> None:
    assert not any(function.is_new for function in draw_functions(False, 500))
    new = sum(function.is_new for function in draw_functions(True, 500))
    assert 200 < new < 300


@pytest.mark.parametrize("templates", [WRITE, WRITE_FROM_DOCS, EXPLAIN, FIND_BUG])
def test_held_out_phrasings_are_not_among_those_of_training(templates: Any) -> None:
    assert len(templates.held_out) >= 4
    assert not set(templates.trained) & set(templates.held_out)


def test_writing_is_asked_with_and_without_passages() -> None:
    shown = [bool(exercise.passages) for exercise in draw_exercises("write function", False, 60)]
    assert 15 < sum(shown) < 45


@pytest.mark.parametrize("skill", SKILLS)
def test_passage_counts_are_as_wanted(skill: str) -> None:
    for exercise in draw_exercises(skill, False, 20, passages=(1, 2)):
        assert len(exercise.passages) <= 2

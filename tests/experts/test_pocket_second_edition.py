"""The computing exercises: every answer is recomputed from the passages and the question alone."""

import random
import re
from collections import Counter
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from functools import cache

import pytest

from experts.pocket.domains import finance_questions, math_words
from experts.pocket.editions import EDITIONS, SKILLS
from experts.pocket.exercise import Asked, Exercise, Wanted
from experts.pocket.figures import is_held_out_figure
from experts.pocket.judge import judge_reply
from experts.pocket.tasks import DOMAINS
from experts.pocket.workings import write_term
from experts.prompt import REFUSAL
from tests.experts.test_pocket_workings import holds

NUMBER = re.compile(r"\d+(?:\.\d+)?")
COMPUTED = ("growth", "difference", "rivals", "total", "margin", "linear forecast", "seasonal forecast")


@cache
def draw_many(domain: str, skill: str, held_out: bool, count: int = 60) -> list[Exercise]:
    rng = random.Random(f"{domain} {skill} {held_out}")
    return [SKILLS[domain][skill].draw(rng, Wanted(held_out=held_out)) for _ in range(count)]


def list_asked(domain: str, skill: str, held_out: bool) -> list[tuple[Exercise, Asked]]:
    return [(exercise, asked) for exercise in draw_many(domain, skill, held_out) for asked in exercise.asked]


ALL_SKILLS = [(domain, skill) for domain in DOMAINS for skill in SKILLS[domain]]


def test_an_edition_draws_the_same_for_the_same_seed() -> None:
    for draw in EDITIONS.values():
        first, second = ([draw("finance", random.Random(7), Wanted()) for _ in range(3)] for _ in "ab")
        assert first == second


@pytest.mark.parametrize(("domain", "skill"), ALL_SKILLS)
def test_a_skill_draws_the_same_for_the_same_seed(domain: str, skill: str) -> None:
    draw = SKILLS[domain][skill].draw
    assert draw(random.Random(3), Wanted()) == draw(random.Random(3), Wanted())


@pytest.mark.parametrize(("domain", "skill"), ALL_SKILLS)
@pytest.mark.parametrize("held_out", [False, True])
def test_the_taught_answer_is_judged_right_and_cites_passages_that_are_there(
    domain: str, skill: str, held_out: bool
) -> None:
    for exercise, asked in list_asked(domain, skill, held_out):
        assert exercise.domain == domain
        assert all(1 <= number <= len(exercise.passages) for number in asked.cited)
        if asked.judge != "code":
            assert judge_reply(asked, asked.target).right, asked


@pytest.mark.parametrize(("domain", "skill"), ALL_SKILLS)
def test_questions_of_training_and_evaluation_never_meet(domain: str, skill: str) -> None:
    trained = {asked.question for _, asked in list_asked(domain, skill, False)}
    held_out = {asked.question for _, asked in list_asked(domain, skill, True)}
    assert not trained & held_out


def test_figures_of_training_and_evaluation_never_meet() -> None:
    for exercise, asked in list_asked("finance", "figures", False):
        stated = " ".join(record.text.replace(asked.question, "") for record in exercise.passages)
        figures = re.findall(r"(\d+(?:\.\d)?) (?:million|billion)", stated)
        assert figures
        assert not [figure for figure in figures if is_held_out_figure(Decimal(figure))]
    for _, asked in list_asked("finance", "figures", True):
        if asked.task in COMPUTED:
            assert any(is_held_out_figure(Decimal(figure)) for figure in NUMBER.findall(asked.answer)), asked
    for skill in ("arithmetic", "expression", "percentage", "equation", "word problem"):
        for _, asked in list_asked("math", skill, True):
            figures = NUMBER.findall(f"{asked.question} {asked.answer}")
            assert any(is_held_out_figure(Decimal(figure)) for figure in figures), asked


def read_figures(exercise: Exercise) -> dict[tuple[str, str, str], tuple[Decimal, str, int]]:
    """What the passages state, read from their facts: (company, metric, quarter) to figure, currency, passage."""
    stated = {}
    for number, record in enumerate(exercise.passages, 1):
        for fact in record.facts:
            value, currency = fact.answer.split(" ", 1)
            assert fact.answer in record.text
            stated[fact.slots["company"], fact.slots["metric"], fact.slots["period"]] = Decimal(value), currency, number
    return stated


def step_quarter(quarter: str, by: int) -> str:
    number = (int(quarter[1]) - 1) + 4 * int(quarter[3:]) + by
    return f"Q{number % 4 + 1} {number // 4}"


def expect_finance(asked: Asked, stated: dict[tuple[str, str, str], tuple[Decimal, str, int]]) -> set[tuple[str, ...]]:
    """Every result with its citations that some reading of the question's names, metrics and quarters allows."""
    quarters = re.findall(r"q\d \d{4}", asked.question.lower())
    quarters = [quarter.upper() for quarter in quarters]
    lowered = asked.question.lower()
    metric = max((metric for _, metric, _ in stated if metric in lowered), key=lambda m: (m != "revenue", len(m)))
    found: set[tuple[str, ...]] = set()
    companies = {name for name, _, _ in stated if re.search(rf"\b{name.split(' ')[0].lower()}\b", lowered)}

    def percent(part: Decimal, whole: Decimal) -> str:
        return f"{(part * 100 / whole).quantize(Decimal('0.1'), ROUND_HALF_UP)} percent"

    for company in companies:

        def get(quarter: str, of: str = metric, who: str = company) -> tuple[Decimal, str, int] | None:
            return stated.get((who, of, quarter))

        last = get(quarters[-1])
        if asked.task == "margin" and last and (revenue := get(quarters[-1], "revenue")):
            found.add((percent(last[0], revenue[0]), str(last[2])))
        elif asked.task == "rivals" and last:
            for rival in companies - {company}:
                if (other := get(quarters[-1], metric, rival)) and other[0] < last[0]:
                    found.add((f"{last[0] - other[0]} {last[1]}", *sorted((str(last[2]), str(other[2])))))
        elif asked.task in ("growth", "difference", "total"):
            early, late = sorted(quarters, key=lambda q: (q[3:], q[:2]))
            if (a := get(early)) and (b := get(late)):
                result = {
                    "growth": percent(b[0] - a[0], a[0]),
                    "difference": f"{b[0] - a[0]} {b[1]}",
                    "total": f"{a[0] + b[0]} {b[1]}",
                }[asked.task]
                found.add((result, *sorted((str(a[2]), str(b[2])))))
        elif asked.task == "linear forecast":
            a, b = get(step_quarter(quarters[0], -2)), get(step_quarter(quarters[0], -1))
            if a and b:
                found.add((f"{b[0] + b[0] - a[0]} {b[1]}", *sorted((str(a[2]), str(b[2])))))
        elif asked.task == "seasonal forecast":
            a, b, c = (get(step_quarter(quarters[0], by)) for by in (-5, -1, -4))
            if a and b and c:
                found.add((f"{c[0] + b[0] - a[0]} {b[1]}", *sorted((str(a[2]), str(b[2]), str(c[2])))))
    return found


@pytest.mark.parametrize("held_out", [False, True])
def test_every_figure_of_finance_is_recomputed_from_the_passages(held_out: bool) -> None:
    seen: Counter[str] = Counter()
    for exercise, asked in list_asked("finance", "figures", held_out):
        if asked.task not in COMPUTED:
            continue
        seen[asked.task] += 1
        result = asked.answer.rsplit("= ", 1)[1]
        wanted = expect_finance(asked, read_figures(exercise))
        assert (result, *sorted(str(number) for number in asked.cited)) in wanted, (asked, wanted)
        *steps, last = asked.answer.split("; ")
        exact = [step for step in steps if step != last]
        assert all(holds(step) for step in exact), asked.answer
    assert set(seen) == set(COMPUTED)


def test_a_refused_question_lacks_a_figure() -> None:
    refused = 0
    for exercise, asked in list_asked("finance", "figures", False):
        if asked.refused:
            refused += 1
            stated = read_figures(exercise)
            metrics = {metric for _, metric, _ in stated if metric in asked.question.lower()}
            if not metrics:
                continue
            for task in COMPUTED:
                asked_as = Asked(asked.question, "", task=task)
                needed = 1 if task in ("margin", "rivals", "linear forecast", "seasonal forecast") else 2
                if len(re.findall(r"q\d \d{4}", asked.question.lower())) != needed:
                    continue
                if task in asked.question.lower() or needed == 2:
                    assert not expect_finance(asked_as, stated), asked
    assert refused > 20


@pytest.mark.parametrize("skill", ["arithmetic", "expression"])
def test_arithmetic_is_what_python_computes(skill: str) -> None:
    for _, asked in list_asked("math", skill, True):
        steps = asked.answer.split("; ")
        assert all(holds(step) for step in steps), asked
        term = re.search(r"[(\d][\d ().+*/-]*[-+*/][\d ().+*/-]*[\d)]", asked.question)
        if term:
            wanted = eval(re.sub(r"(\d+(?:\.\d+)?)", r"Fraction('\1')", term[0]), {"Fraction": Fraction})
            assert Fraction(asked.result.removeprefix("= ")) == wanted, asked


def test_solutions_solve_their_equations() -> None:
    equation = re.compile(r"(?<![A-Za-z])(?:\d*[xyznt]|\d\([xyznt])[\dxyznt ()/+-]* = [\dxyznt +]*[\dxyznt]")
    for _, asked in list_asked("math", "equation", False):
        letter, value = asked.answer.split("; ")[-1].split(" = ")
        match = equation.search(
            re.sub(rf"(what is|for which|find|for) {letter}\b", "", asked.question, flags=re.IGNORECASE)
        )
        assert match, asked.question
        left, right = (
            eval(re.sub(r"(\d)([a-z(])", r"\1*\2", side), {letter: Fraction(value)}) for side in match[0].split(" = ")
        )
        assert left == right, asked


def test_percentages_are_within_their_rounding() -> None:
    for _, asked in list_asked("math", "percentage", True):
        if asked.answer.endswith("percent"):
            part, whole = sorted(Fraction(number) for number in NUMBER.findall(asked.question))
            assert abs(Fraction(asked.result.split(" ")[1]) - 100 * part / whole) <= Fraction(1, 20)
        else:
            assert all(holds(step) for step in asked.answer.split("; ")), asked


def test_formulas_are_applied_to_the_figures_of_the_question() -> None:
    applied = 0
    for exercise, asked in list_asked("math", "formula", True):
        if asked.refused:
            assert not [p for p in exercise.passages if p.title.split(" - ")[1].lower() in asked.question.lower()]
            continue
        applied += 1
        formula, *steps = asked.answer.split("; ")
        assert formula in exercise.passages[asked.cited[0] - 1].text
        assert all(holds(step) for step in steps)
        given = {name: Fraction(value) for name, value in re.findall(r"([a-z]\d?) = (\d+)", asked.question)}
        wanted = eval(formula.split(" = ")[1].replace("^", "**"), dict(given))
        assert Fraction(asked.result.removeprefix("= ")) == wanted
    assert applied > 100


def test_a_story_mentions_the_figures_of_its_operation() -> None:
    rng = random.Random(4)
    for _ in range(300):
        story = math_words.draw_story(rng, held_out=True)
        figures = {figure for figure in NUMBER.findall(write_term(story.term)) if figure != "1"}
        assert figures <= set(NUMBER.findall(story.question)), story


def test_held_out_wordings_are_not_among_the_trained_ones() -> None:
    for phrasings in finance_questions.PHRASINGS.values():
        assert not set(phrasings.cores) & set(phrasings.held_out_cores)
        assert not set(phrasings.direct) & set(phrasings.held_out_direct)
    for plot in math_words.PLOTS.values():
        assert plot.held_out
        assert not set(plot.trained) & set(plot.held_out)


def test_problems_come_alone_and_beside_passages() -> None:
    counts = Counter(bool(exercise.passages) for exercise in draw_many("math", "word problem", False))
    assert counts[True] > 5
    assert counts[False] > 20
    assert all(not asked.cited for _, asked in list_asked("math", "word problem", False))


def test_a_reply_is_judged_by_its_result_and_all_it_cites() -> None:
    asked = Asked("?", "412 - 381 = 31 million euros", (2, 1), "difference", "result", True, "= 31 million euros")
    assert asked.target == "412 - 381 = 31 million euros [2][1]"
    assert judge_reply(asked, asked.target).right
    assert judge_reply(asked, "412 - 381 = 31 million euros [1][2]").right
    assert not judge_reply(asked, "412 - 381 = 31 million euros [2]").right
    assert judge_reply(asked, "412 - 381 = 31 million euros [2]").answered
    assert not judge_reply(asked, "412 - 380 = 131 million euros [2][1]").answered
    assert not judge_reply(asked, REFUSAL).answered
    assert judge_reply(Asked("?", REFUSAL), REFUSAL).right
    assert not judge_reply(Asked("?", "15", (), "arithmetic"), "15 [1]").right

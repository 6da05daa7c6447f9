"""Math, second edition: arithmetic, percentages, units and equations in written steps; formulas applied to figures."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from experts.pocket.alternatives import split_alternatives
from experts.pocket.domains import math, math_rules, math_words
from experts.pocket.exercise import Asked, Exercise, Skill, Wanted
from experts.pocket.figures import draw_figures, is_held_out_figure, write_figure
from experts.pocket.records import Record, Wordings
from experts.pocket.workings import (
    Operand,
    Term,
    Working,
    add,
    divide,
    evaluate_term,
    list_figures,
    multiply,
    subtract,
    take_percentage,
    work_out,
    write_term,
)

# Served with a corpus, every question arrives with passages, also the ones that need none.
_BESIDE_PASSAGES_SHARE = 0.35


@dataclass(frozen=True)
class Problem:
    """A question without passages, its calculation and the unit of the result."""

    question: str
    working: Working
    unit: str = ""


Draw = Callable[[random.Random, bool], Problem]


_CALCULATE = Wordings(
    split_alternatives(
        "What is {term}?|Compute {term}.|Calculate {term}.|{term}|{term} = ?|How much is {term}?|Work out {term}.|What "
        "does {term} give?|Tell me {term}.|What do you get for {term}?|Please compute {term}.|Solve {term}.|{term}?"
    ),
    split_alternatives("What is the value of {term}?|Evaluate {term}.|Find {term}.|Could you calculate {term}?"),
)
_IN_WORDS: Mapping[str, Wordings] = {
    "+": Wordings(
        split_alternatives("What is {a} plus {b}?|Add {a} and {b}.|What is the sum of {a} and {b}?|{a} plus {b}"),
        split_alternatives("How much is {a} plus {b}?|What do {a} and {b} add up to?"),
    ),
    "-": Wordings(
        split_alternatives(
            "What is {a} minus {b}?|Subtract {b} from {a}.|What is the difference of {a} and {b}?|{a} minus {b}"
        ),
        split_alternatives("How much is {a} minus {b}?|Take {b} away from {a}."),
    ),
    "*": Wordings(
        split_alternatives(
            "What is {a} times {b}?|Multiply {a} by {b}.|What is the product of {a} and {b}?|{a} times {b}"
        ),
        split_alternatives("How much is {a} times {b}?|What do you get when you multiply {a} with {b}?"),
    ),
    "/": Wordings(
        split_alternatives(
            "What is {a} divided by {b}?|Divide {a} by {b}.|{a} divided by {b}|How often does {b} go into {a}?"
        ),
        split_alternatives("How much is {a} divided by {b}?|What is the quotient of {a} and {b}?"),
    ),
}


def draw_operation(rng: random.Random, held_out: bool) -> Problem:
    """Two figures and one sign."""
    sign = rng.choice("++--**/")
    if sign == "+":
        a, b = draw_figures(rng, held_out, *[rng.choice(((2, 99), (11, 999), (11, 999))) for _ in "ab"])
        working = add(a, b)
    elif sign == "-":
        a, b = sorted(draw_figures(rng, held_out, (11, 999), rng.choice(((2, 99), (11, 999)))), reverse=True)
        working = subtract(a, b)
    elif sign == "*":
        a, b = draw_figures(rng, held_out, rng.choice(((2, 9), (11, 99))), rng.choice(((11, 99), (11, 99), (101, 999))))
        a, b = (a, b) if rng.random() < 0.5 else (b, a)
        working = multiply(a, b)
    else:
        quotient, b = draw_figures(rng, held_out, (2, 150), rng.choice(((2, 9), (2, 9), (11, 40))))
        a = quotient * b
        working = divide(a, b)
    if sign in "+-" and rng.random() < 0.3:
        return _shift_point(rng, held_out, sign, a, b)
    wordings = _CALCULATE if rng.random() < 0.5 else _IN_WORDS[sign]
    a_text, b_text = write_figure(a), write_figure(b)
    question = wordings.choose(rng, held_out, term=f"{a_text} {sign} {b_text}", a=a_text, b=b_text)
    return Problem(question, working)


def _shift_point(rng: random.Random, held_out: bool, sign: str, a: Decimal, b: Decimal) -> Problem:
    """The same with one decimal on both figures."""
    a, b = a.scaleb(-1), b.scaleb(-1)
    working = add(a, b) if sign == "+" else subtract(a, b)
    a_text, b_text = write_figure(a), write_figure(b)
    wordings = _CALCULATE if rng.random() < 0.5 else _IN_WORDS[sign]
    return Problem(wordings.choose(rng, held_out, term=f"{a_text} {sign} {b_text}", a=a_text, b=b_text), working)


def draw_expression(rng: random.Random, held_out: bool) -> Problem:
    """Three or four figures with brackets and the order of operations."""
    while True:
        a, b, c, d = draw_figures(rng, held_out, (2, 9), (11, 99), (2, 40), (2, 40))
        term: Operand = rng.choice(
            (
                Term(a, "*", Term(b, "+", c)),
                Term(a, "*", Term(b, "-", c)),
                Term(Term(a, "*", b), "+", c),
                Term(Term(a, "*", b), "-", c),
                Term(b, "+", Term(a, "*", c)),
                Term(Term(b, "+", c), "-", d),
                Term(Term(b, "+", c), "/", a),
                Term(Term(a, "*", Term(b, "+", c)), "-", d),
                Term(Term(a, "*", b), "+", Term(a, "*", c)),
                Term(b, "-", Term(c, "-", a)),
            )
        )
        asked = any(is_held_out_figure(value) for value in list_figures(term))
        if asked == held_out and evaluate_term(term, {}) is not None:
            return Problem(_CALCULATE.choose(rng, held_out, term=write_term(term)), work_out(term, {}))


_PERCENT_OF = Wordings(
    split_alternatives(
        "What is {p} percent of {n}?|How much is {p} percent of {n}?|Compute {p} percent of {n}.|{p} percent of "
        "{n}|What is {p}% of {n}?|{p}% of {n}|Find {p} percent of {n}.|Calculate {p}% of {n}."
    ),
    split_alternatives("Tell me {p} percent of {n}.|What does {p} percent of {n} come to?|Work out {p}% of {n}."),
)
_PERCENT_UP = Wordings(
    split_alternatives(
        "Increase {n} by {p} percent.|What is {n} plus {p} percent?|What is {n} increased by {p}%?|A price of {n} "
        "rises by {p} percent. What is it now?|{n} grows by {p} percent. What is the result?"
    ),
    split_alternatives("Raise {n} by {p} percent.|What does {n} become after a rise of {p} percent?"),
)
_PERCENT_DOWN = Wordings(
    split_alternatives(
        "Decrease {n} by {p} percent.|What is {n} minus {p} percent?|What is {n} decreased by {p}%?|A price of {n} "
        "falls by {p} percent. What is it now?|{n} shrinks by {p} percent. What is the result?"
    ),
    split_alternatives("Lower {n} by {p} percent.|What does {n} become after a discount of {p} percent?"),
)
_PERCENT_SHARE = Wordings(
    split_alternatives(
        "What percentage of {n} is {part}?|How many percent of {n} is {part}?|{part} is what percentage of {n}?|What "
        "percent of {n} is {part}?|Express {part} as a percentage of {n}.|In percent, how much is {part} out of {n}?"
    ),
    split_alternatives("How many percent is {part} of {n}?|{part} out of {n} is how many percent?"),
)


def draw_percentage(rng: random.Random, held_out: bool) -> Problem:
    """A percentage of a figure, a rise or a fall by one, or what percentage one figure is of another."""
    if rng.random() < 0.4:
        part, n = sorted(draw_figures(rng, held_out, (11, 400), (401, 999)))
        question = _PERCENT_SHARE.choose(rng, held_out, part=part, n=n)
        return Problem(question, take_percentage(part, n), "percent")
    p, n = draw_figures(rng, held_out, rng.choice(((2, 9), (10, 60))), (11, 99))
    n *= rng.choice((1, 10))
    product = multiply(p, n)
    share = divide(product.result, Decimal(100))
    steps = (*product.steps, *share.steps)
    wordings, change = rng.choice(
        ((_PERCENT_OF, None), (_PERCENT_OF, None), (_PERCENT_UP, add), (_PERCENT_DOWN, subtract))
    )
    question = wordings.choose(rng, held_out, p=p, n=n)
    if change is None:
        return Problem(question, Working(steps, share.result))
    changed = change(n, share.result)
    return Problem(question, Working((*steps, *changed.steps), changed.result))


@dataclass(frozen=True)
class Conversion:
    """`factor` of the small unit make one of the large."""

    large: str
    small: str
    factor: int


_CONVERSIONS = tuple(
    Conversion(large, small, int(factor))
    for large, small, factor in (
        line.split("/")
        for line in split_alternatives(
            "kilometres/metres/1000|metres/centimetres/100|centimetres/millimetres/10|kilograms/grams/1000|tonnes/"
            "kilograms/1000|litres/millilitres/1000|hours/minutes/60|minutes/seconds/60|days/hours/24|weeks/days/7|"
            "years/months/12|feet/inches/12|yards/feet/3|dozens/pieces/12|decades/years/10|litres/centilitres/100"
        )
    )
)
_CONVERT = Wordings(
    split_alternatives(
        "Convert {n} {one} to {other}.|How many {other} are {n} {one}?|How many {other} are there in {n} {one}?|What "
        "is {n} {one} in {other}?|{n} {one} in {other}|Express {n} {one} in {other}.|Write {n} {one} as {other}."
    ),
    split_alternatives("{n} {one} are how many {other}?|Turn {n} {one} into {other}.|In {other}, what are {n} {one}?"),
)


def draw_conversion(rng: random.Random, held_out: bool) -> Problem:
    """A figure from one unit to another, in either direction, or two units to the small one."""
    chosen = rng.choice(_CONVERSIONS)
    factor = Decimal(chosen.factor)
    (n,) = draw_figures(rng, held_out, (11, 99) if held_out else rng.choice(((2, 9), (11, 99))))
    form = rng.random()
    if form < 0.4:
        question = _CONVERT.choose(rng, held_out, n=n, one=chosen.large, other=chosen.small)
        return Problem(question, multiply(n, factor), chosen.small)
    if form < 0.75:
        small = n * factor
        question = _CONVERT.choose(rng, held_out, n=write_figure(small), one=chosen.small, other=chosen.large)
        return Problem(question, divide(small, factor), chosen.large)
    rest = Decimal(rng.randint(2, max(3, min(chosen.factor - 1, 99))))
    both = f"{chosen.large} and {rest} {chosen.small}"
    product = multiply(n, factor)
    total = add(product.result, rest)
    question = _CONVERT.choose(rng, held_out, n=n, one=both, other=chosen.small)
    return Problem(question, Working((*product.steps, *total.steps), total.result), chosen.small)


_SOLVE = Wordings(
    split_alternatives(
        "Solve {equation}.|Solve {equation} for {x}.|What is {x} if {equation}?|Find {x}: {equation}|{equation}, what "
        "is {x}?|For which {x} is {equation}?|If {equation}, what is {x}?|Solve the equation {equation}."
    ),
    split_alternatives("Which {x} solves {equation}?|Given {equation}, find {x}.|What value of {x} makes {equation}?"),
)


def draw_equation(rng: random.Random, held_out: bool) -> Problem:
    """A linear equation with a whole solution."""
    x = rng.choice("xxyznt")
    (solution, b) = draw_figures(rng, held_out, (2, 60), (2, 90))
    a, c = Decimal(rng.randint(2, 9)), Decimal(rng.randint(2, 9))
    form = rng.choice(["plus", "minus", "divided", "bracket", "sides"])
    if form == "plus":
        equation, right = f"{a}{x} + {b} = {a * solution + b}", a * solution + b
        working = _solve_by(subtract(right, b), a)
    elif form == "minus" and a * solution > b:
        equation, right = f"{a}{x} - {b} = {a * solution - b}", a * solution - b
        working = _solve_by(add(right, b), a)
    elif form == "divided":
        equation = f"{x} / {a} + {b} = {solution + b}"
        difference = subtract(solution + b, b)
        product = multiply(a, difference.result)
        working = Working((*difference.steps, *product.steps), product.result)
    elif form == "bracket":
        equation, right = f"{a}({x} + {b}) = {a * (solution + b)}", a * (solution + b)
        quotient = divide(right, a)
        difference = subtract(quotient.result, b)
        working = Working((*quotient.steps, *difference.steps), difference.result)
    else:
        more = a + c
        equation, right = f"{more}{x} + {b} = {c}{x} + {a * solution + b}", a * solution + b
        left = f"{more}{x} - {c}{x} = {a}{x}"
        rest = _solve_by(subtract(right, b), a)
        working = Working((left, *rest.steps), rest.result)
    last = f"{x} = {write_figure(working.result)}"
    return Problem(
        _SOLVE.choose(rng, held_out, equation=equation, x=x), Working((*working.steps, last), working.result)
    )


def _solve_by(right: Working, a: Decimal) -> Working:
    quotient = divide(right.result, a)
    return Working((*right.steps, *quotient.steps), quotient.result)


def draw_word_problem(rng: random.Random, held_out: bool) -> Problem:
    """A short story with figures."""
    story = math_words.draw_story(rng, held_out)
    return Problem(story.question, work_out(story.term, {}), story.unit)


def draw_problems(task: str, draw: Draw, rng: random.Random, wanted: Wanted) -> Exercise:
    """Problems of one task, alone or beside passages that have nothing to do with them.

    Alone there are no passages to share, so there are twice as many.
    """
    passages: list[Record] = []
    if rng.random() < _BESIDE_PASSAGES_SHARE:
        passages = math.draw_scene(rng, wanted.held_out)[: rng.choice(wanted.passages)]
    asked = []
    for _ in range(wanted.questions * (1 if passages else 2)):
        problem = draw(rng, wanted.held_out)
        last = problem.working.steps[-1]
        result = last[last.rindex("= ") :] + (f" {problem.unit}" if problem.unit else "")
        asked.append(Asked(problem.question, problem.working.write(problem.unit), (), task, "result", result=result))
    return Exercise("math", passages, asked)


_PROBLEMS: Sequence[tuple[str, Draw, float]] = (
    ("arithmetic", draw_operation, 1.5),
    ("expression", draw_expression, 0.8),
    ("percentage", draw_percentage, 0.8),
    ("conversion", draw_conversion, 0.6),
    ("equation", draw_equation, 0.8),
    ("word problem", draw_word_problem, 1.2),
)
SKILLS: Mapping[str, Skill] = {
    **{task: Skill(partial(draw_problems, task, draw), share) for task, draw, share in _PROBLEMS},
    "formula": Skill(math_rules.draw_exercise, 1.2),
}

"""Math, second edition: a formula found among passages and applied to the figures of the question."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from experts.pocket.alternatives import split_alternatives
from experts.pocket.domains import math
from experts.pocket.exercise import Asked, Exercise, Wanted
from experts.pocket.figures import draw_figures, write_figure
from experts.pocket.names import draw_name
from experts.pocket.records import Record, Wordings
from experts.pocket.workings import Operand, Term, evaluate_term, work_out, write_term
from experts.prompt import REFUSAL


@dataclass(frozen=True)
class Rule:
    """A formula that can be applied: what it gives, the letter it is written with, and its operation."""

    quantity: str
    left: str
    term: Operand
    variables: Sequence[str]


_APPLY = Wordings(
    split_alternatives(
        "What is {quantity} for {given}?|Compute {quantity} for {given}.|What is {quantity} with {given}?|Calculate "
        "{quantity} if {given}.|How large is {quantity} for {given}?|For {given}, what is {quantity}?|With {given}, "
        "how large is {quantity}?|If {given}, what is {quantity}?|Work out {quantity} for {given}."
    ),
    split_alternatives(
        "Given {given}, what is {quantity}?|Find {quantity} for {given}.|How big is {quantity} if {given}?"
    ),
)


def draw_rules(rng: random.Random, held_out: bool, count: int) -> list[Rule]:
    """Rules for quantities that are easily confused: few measures, few shapes."""
    measures = rng.sample(math.MEASURES, 2)
    shapes = [draw_name(rng, held_out).lower() if rng.random() < 0.5 else rng.choice(math.SHAPES) for _ in range(3)]
    rules: list[Rule] = []
    while len(rules) < count:
        quantity = f"the {rng.choice(measures)} of {math.article(rng.choice(shapes))}"
        if quantity in [rule.quantity for rule in rules] or not math.known(quantity, held_out):
            # Both change: for one measure, names of one side can all make quantities of the other.
            shapes.append(draw_name(rng, held_out).lower())
            measures.append(rng.choice(math.MEASURES))
            continue
        letters = rng.sample("abcdhkmnpqrstuvwyz", 3)
        if rng.random() < 0.3:
            letters[:2] = [f"{letters[0]}1", f"{letters[0]}2"]
        rules.append(_draw_rule(quantity, rng.choice("ACDEFGKLMPSTVW"), letters, rng))
    return rules


def _draw_rule(quantity: str, left: str, letters: list[str], rng: random.Random) -> Rule:
    a, b, c = letters
    k = Decimal(rng.randint(2, 9))
    terms: tuple[tuple[Operand, int], ...] = (
        (Term(a, "*", b), 2),
        (Term(Term(a, "*", b), "/", k), 2),
        (Term(Term(Term(a, "+", b), "*", c), "/", Decimal(2)), 3),
        (Term(k, "*", Term(a, "+", b)), 2),
        (Term(Term(a, "*", b), "*", c), 3),
        (Term(Term(a, "+", b), "/", k), 2),
        (Term(a, "+", Term(k, "*", b)), 2),
        (Term(Term(a, "*", b), "+", c), 3),
        (Term(Term(a, "-", b), "/", c), 3),
        (Term(a, "*", a), 1),
        (Term(k, "*", a), 1),
        (Term(Term(a, "-", b), "*", k), 2),
    )
    term, used = rng.choice(terms)
    return Rule(quantity, left, term, letters[:used])


def _draw_values(rule: Rule, rng: random.Random, held_out: bool) -> dict[str, Decimal]:
    """Values for which every step is exact; one of them beyond one digit."""
    for _ in range(500):
        ranges = [(2, 9)] * len(rule.variables)
        ranges[rng.randrange(len(ranges))] = (11, 99)
        values = dict(zip(rule.variables, draw_figures(rng, held_out, *ranges), strict=True))
        if evaluate_term(rule.term, values) is not None:
            return values
    raise AssertionError(f"no exact values for {write_term(rule.term)}")


def write_rule(rule: Rule, rng: random.Random) -> Record:
    """The rule as a passage, as the first edition writes formulas."""
    meanings = dict(
        zip(rule.variables, (f"the {m}" for m in math.draw_meanings(len(rule.variables), rng)), strict=True)
    )
    values = _draw_values(rule, rng, held_out=False)
    result = evaluate_term(rule.term, values)
    assert result is not None
    inputs = {name: write_figure(value) for name, value in values.items()}
    formula = f"{rule.left} = {write_rule_term(rule.term)}"
    topic = rng.choice(math.TOPICS)
    return math.write_record(topic, rule.quantity, formula, meanings, inputs, write_figure(result), rng.randrange(4))


def write_rule_term(term: Operand) -> str:
    """The operation as formulas write it: a square with its exponent."""
    if isinstance(term, Term) and term.sign == "*" and term.left == term.right:
        return f"{write_term(term.left)}^2"
    return write_term(term)


def draw_exercise(rng: random.Random, wanted: Wanted) -> Exercise:
    """Formulas among passages, applied to the figures of the question; refused where the formula is not there."""
    count = rng.choice(wanted.passages)
    rules = draw_rules(rng, wanted.held_out, count + 2)
    shown, hidden = rules[:count], rules[count:]
    records = [write_rule(rule, rng) for rule in shown]
    asked: list[Asked] = []
    for _ in range(wanted.questions):
        refused = rng.random() < wanted.refusal_share
        index = rng.randrange(count)
        rule = rng.choice(hidden) if refused else shown[index]
        values = _draw_values(rule, rng, wanted.held_out)
        given = math.join([f"{name} = {write_figure(value)}" for name, value in values.items()])
        question = _APPLY.choose(rng, wanted.held_out, quantity=rule.quantity, given=given)
        question = question[0].upper() + question[1:] if question[0] not in rule.variables else question
        if refused:
            asked.append(Asked(question, REFUSAL, task="refusal"))
            continue
        working = work_out(rule.term, values)
        answer = f"{rule.left} = {write_rule_term(rule.term)}; {working.write()}"
        result = f"= {write_figure(working.result)}"
        asked.append(Asked(question, answer, (index + 1,), "formula", "result", result=result))
    return Exercise("math", records, asked)

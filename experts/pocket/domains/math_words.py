"""Word problems: short stories about invented people, with the operation that answers them."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from experts.pocket.alternatives import split_alternatives
from experts.pocket.figures import draw_figures
from experts.pocket.names import draw_names
from experts.pocket.workings import Operand, Term, evaluate_term

_THINGS = split_alternatives(
    "books|apples|tickets|pens|boxes|plants|lamps|chairs|cups|stamps|bottles|shirts|cards|eggs"
)
_HELD_OUT_THINGS = split_alternatives("bricks|candles|maps|plates|ropes")
_MONEY = split_alternatives("euros|dollars|pounds|francs|crowns")


@dataclass(frozen=True)
class Story:
    """A question and the operation that answers it."""

    question: str
    term: Operand
    unit: str


@dataclass(frozen=True)
class Plot:
    """One kind of story: ranges of its figures, its operation, and its tellings with {a}, {b}, {c} as figures."""

    ranges: Sequence[tuple[int, int]]
    build: Callable[[Decimal, Decimal, Decimal], Operand]
    unit: str
    trained: Sequence[str]
    held_out: Sequence[str]


_ONE = (1, 1)
PLOTS: Mapping[str, Plot] = {
    "price": Plot(
        ((2, 9), (11, 99), _ONE),
        lambda a, b, _: Term(a, "*", b),
        "{money}",
        split_alternatives(
            "{who} buys {a} {things} at {b} {money} each. How much does {who} pay?|One of the {things} costs {b} "
            "{money}. What do {a} of them cost?|{a} {things} cost {b} {money} each. What is the total price?|How much "
            "are {a} {things} at {b} {money} each?|{who} sells {a} {things} at {b} {money} each. What does {who} earn?"
        ),
        split_alternatives(
            "At {b} {money} a piece, how much does {who} spend on {a} {things}?|{who} needs {a} {things}. Each costs "
            "{b} {money}. What is the cost?"
        ),
    ),
    "change": Plot(
        ((2, 9), (3, 49), (50, 500)),
        lambda a, b, c: Term(c, "-", Term(a, "*", b)),
        "{money}",
        split_alternatives(
            "{who} buys {a} {things} at {b} {money} each and pays with {c} {money}. How much change does {who} "
            "get?|{who} has {c} {money} and buys {a} {things} for {b} {money} each. How much is left?|From {c} {money} "
            "{who} buys {a} {things} at {b} {money} each. What remains?"
        ),
        split_alternatives(
            "With {c} {money}, {who} pays for {a} {things} at {b} {money} each. How much money does {who} keep?"
        ),
    ),
    "gain": Plot(
        ((11, 300), (11, 300), _ONE),
        lambda a, b, _: Term(a, "+", b),
        "{things}",
        split_alternatives(
            "{who} has {a} {things} and gets {b} more. How many {things} does {who} have now?|{who} has {a} {things} "
            "and {other} has {b}. How many {things} do they have together?|A shop has {a} {things} and orders {b} "
            "more. How many {things} are there then?|There are {a} {things} in one room and {b} in another. How many "
            "are there in all?"
        ),
        split_alternatives(
            "{who} collects {a} {things}, then {b} more. How many {things} is that?|{who} brings {a} {things}, {other} "
            "brings {b}. How many {things} are there?"
        ),
    ),
    "loss": Plot(
        ((50, 500), (11, 300), _ONE),
        lambda a, b, _: Term(a, "-", b),
        "{things}",
        split_alternatives(
            "{who} has {a} {things} and gives {b} to {other}. How many {things} does {who} have left?|A shop has {a} "
            "{things} and sells {b}. How many are left?|Of {a} {things}, {b} are broken. How many are whole?|{who} had "
            "{a} {things} and lost {b}. How many {things} remain?"
        ),
        split_alternatives(
            "{who} owns {a} {things} and sells {b} of them. How many {things} stay?|From {a} {things}, {other} takes "
            "{b}. How many are left?"
        ),
    ),
    "sharing": Plot(
        ((2, 9), (11, 60), _ONE),
        lambda a, b, _: Term(a * b, "/", a),
        "{things}",
        split_alternatives(
            "{who} shares {ab} {things} equally among {a} people. How many {things} does each get?|{ab} {things} are "
            "put into {a} equal groups. How many are in each group?|{a} people share {ab} {things}. How many does each "
            "one get?|{who} packs {ab} {things} into {a} bags, the same number in each. How many are in a bag?"
        ),
        split_alternatives(
            "{ab} {things} are divided equally between {a} friends. How many {things} does every friend receive?"
        ),
    ),
    "distance": Plot(
        ((2, 9), (11, 99), _ONE),
        lambda a, b, _: Term(a, "*", b),
        "kilometres",
        split_alternatives(
            "A train travels at {b} kilometres per hour for {a} hours. How far does it go?|{who} drives {a} hours at "
            "{b} kilometres per hour. How many kilometres is that?|How far does {who} get in {a} hours at {b} "
            "kilometres per hour?|A ship makes {b} kilometres every hour. How far is it after {a} hours?"
        ),
        split_alternatives(
            "At {b} kilometres per hour, what distance does {who} cover in {a} hours?|{who} cycles for {a} hours with "
            "{b} kilometres per hour. What is the distance?"
        ),
    ),
    "time": Plot(
        ((2, 9), (11, 90), _ONE),
        lambda a, b, _: Term(a * b, "/", b),
        "hours",
        split_alternatives(
            "A train travels {ab} kilometres at {b} kilometres per hour. How long does it take?|How many hours does "
            "{who} need for {ab} kilometres at {b} kilometres per hour?|{who} drives {ab} kilometres at {b} kilometres "
            "per hour. How long does the trip take?"
        ),
        split_alternatives("At {b} kilometres per hour, how many hours do {ab} kilometres take {who}?"),
    ),
    "speed": Plot(
        ((2, 9), (11, 99), _ONE),
        lambda a, b, _: Term(a * b, "/", a),
        "kilometres per hour",
        split_alternatives(
            "A train travels {ab} kilometres in {a} hours. How fast is it?|{who} drives {ab} kilometres in {a} hours. "
            "What is the average speed?|What speed covers {ab} kilometres in {a} hours?"
        ),
        split_alternatives("{who} needs {a} hours for {ab} kilometres. How fast is {who} on average?"),
    ),
    "rows": Plot(
        ((2, 9), (11, 40), (2, 90)),
        lambda a, b, c: Term(Term(a, "*", b), "+", c),
        "{things}",
        split_alternatives(
            "There are {a} boxes with {b} {things} each and {c} more {things} on the table. How many {things} are "
            "there?|{who} fills {a} boxes with {b} {things} each, and {c} {things} are left over. How many {things} "
            "did {who} have?|A hall has {a} rows of {b} {things} and {c} extra {things}. How many {things} is that?"
        ),
        split_alternatives("{who} has {a} bags of {b} {things} each and {c} loose {things}. How many {things} in all?"),
    ),
    "savings": Plot(
        ((2, 9), (11, 60), (11, 300)),
        lambda a, b, c: Term(c, "+", Term(a, "*", b)),
        "{money}",
        split_alternatives(
            "{who} has {c} {money} and saves {b} {money} every week. How much does {who} have after {a} weeks?|{who} "
            "starts with {c} {money} and earns {b} {money} a day for {a} days. How much is it in the end?|An account "
            "holds {c} {money} and grows by {b} {money} a month. What does it hold after {a} months?"
        ),
        split_alternatives("{who} owns {c} {money} and puts aside {b} {money} a week. What is it after {a} weeks?"),
    ),
    "ages": Plot(
        ((11, 60), (2, 30), _ONE),
        lambda a, b, _: Term(a, "+", b),
        "years",
        split_alternatives(
            "{who} is {a} years old and {other} is {b} years older. How old is {other}?|{who} is {a} years old. How "
            "old will {who} be in {b} years?|{other} is {b} years older than {who}, who is {a}. How old is {other}?"
        ),
        split_alternatives("{who} turned {a}. What is the age of {who} after {b} more years?"),
    ),
    "work": Plot(
        ((2, 9), (2, 9), (11, 40)),
        lambda a, b, c: Term(Term(a, "*", b), "*", c),
        "{things}",
        split_alternatives(
            "{a} machines make {c} {things} an hour each. How many {things} do they make in {b} hours?|{a} workers "
            "pack {c} {things} a day each. How many {things} are packed in {b} days?"
        ),
        split_alternatives("Each of {a} people makes {c} {things} a day. How many {things} are made in {b} days?"),
    ),
}


def draw_story(rng: random.Random, held_out: bool) -> Story:
    """One story whose every step is exact and not negative."""
    plot = PLOTS[rng.choice(list(PLOTS))]
    while True:
        a, b, c = draw_figures(rng, held_out, *plot.ranges)
        term = plot.build(a, b, c)
        if evaluate_term(term, {}) is not None:
            break
    who, other = draw_names(rng, held_out, 2)
    slots = {
        "who": who,
        "other": other,
        "things": rng.choice(_HELD_OUT_THINGS if held_out else _THINGS),
        "money": rng.choice(_MONEY),
    }
    telling = rng.choice(plot.held_out if held_out else plot.trained)
    question = telling.format(a=a, b=b, c=c, ab=a * b, **slots)
    return Story(question, term, plot.unit.format(**slots))

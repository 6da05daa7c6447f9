"""Coding, second edition: write small functions, explain them, and find the line that is wrong.

Held out are names, numbers, phrasings and one in eight of the ways in which parts are put together. Written code is
judged by running it; an explanation and a corrected line are in a fixed language and compared as text.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from experts.pocket.alternatives import split_alternatives
from experts.pocket.domains.coding import NOUNS, VERBS, draw_scene, draw_stem
from experts.pocket.domains.coding_checks import break_function, draw_checks, is_told_apart, list_mistakes
from experts.pocket.domains.coding_language import Function, draw_function
from experts.pocket.exercise import Asked, Exercise, Skill, Wanted
from experts.pocket.names import draw_name, draw_until_split
from experts.pocket.records import Record
from experts.pocket.templates import read_templates
from experts.prompt import REFUSAL

_Subject = TypeVar("_Subject")

NO_BUG = "Every line is right."
# A function without a bug is asked about once in five times: fewer, and "is there a bug?" would always be yes.
_NO_BUG_SHARE = 0.2
_MAPPINGS = split_alternatives("stock|ages|votes|marks|weights|costs|points|sizes|heights|seats|hours|stars")
_TEXTS = split_alternatives("text|line|title|message|note|sentence|phrase|entry|label|slogan|caption|headline")
_FIELDS = split_alternatives("price|size|year|age|weight|score|length|rank|hours|cost")
_WORD_FIELDS = split_alternatives("city|name|team|color|kind|owner|street|brand|status|country")


WRITE = read_templates(
    "Write a function {f}({p}) that returns {d}.|Write a Python function {f} that takes {p} and returns "
    "{d}.|Define {f}({p}), which returns {d}.|I need a function {f} with the parameter {p}. It should return "
    "{d}.|Implement {f}({p}). It returns {d}.|Please write {f}({p}) so that it returns {d}.|Code a function "
    "called {f} that takes {p} and returns {d}.|Write the function {f}({p}) returning {d}.|Give me a function "
    "{f}({p}) for {d}.",
    "Could you write a function {f}({p}) which returns {d}?|Write me {f}({p}). It should return {d}.|I want a "
    "Python function {f} that takes {p} and returns {d}.|Please implement a function called {f}({p}) that returns "
    "{d}.",
)
WRITE_FROM_DOCS = read_templates(
    "Write the function {f}.|Write the code of {f}.|Implement {f}.|How would you implement {f}?|Give me the code "
    "for {f}.|Show me an implementation of {f}.|Please write {f} as documented.|Code the function {f}.",
    "Write {f} in Python.|Please implement the function {f}.|I need the code of {f}.|Could you write {f} for me?",
)
EXPLAIN = read_templates(
    "What does {f} do?|Explain {f}.|Explain what {f} does.|Describe {f}.|Tell me what {f} does.|What does the "
    "code of {f} do?|What is {f} doing?|Describe in words what {f} does.|What is the function {f} for?",
    "Explain the function {f}.|In words, what does {f} do?|Can you explain what {f} does?|Please describe the "
    "function {f}.",
)
FIND_BUG = read_templates(
    "Which line of {f} is wrong?|Find the bug in {f}.|What is wrong in {f}?|Is there a bug in {f}?|Where is the "
    "mistake in {f}?|Find the wrong line of {f}.|Which line of {f} must change?|Is {f} right?|Correct {f}.",
    "Which line of {f} has a bug?|Please find the mistake in {f}.|Is any line of {f} wrong?|Check {f} for a bug.",
)
_DOCS = split_alternatives(
    "The function {f} in {s}.py takes {p}. It returns {d}.|{f}({p}) of {s}.py returns {d}.|In {s}.py the function {f} "
    "takes {p} and returns {d}.|{f} takes the parameter {p}. Returns: {d}. Module: {s}.py."
)
# Documentation that leaves out what the function does.
_BARE_DOCS = split_alternatives(
    "The function {f} in {s}.py takes {p}. It came with version {n}.|{f}({p}) is in {s}.py since version {n}.|In "
    "{s}.py the function {f} takes {p}. It has {n} tests.|{f} takes the parameter {p}. Module: {s}.py. Callers: {n}."
)


def draw_writing(rng: random.Random, wanted: Wanted) -> Exercise:
    """Functions from a description in the question; half of the exercises show passages that have no part in it."""
    shown: Sequence[Record] = ()
    if rng.random() < 0.5:
        scene = draw_scene(rng, wanted.held_out)
        shown = rng.sample(scene, min(rng.choice(wanted.passages), len(scene)))
    asked = []
    for _ in range(wanted.questions):
        function = _draw(rng, wanted.held_out)
        question = WRITE.draw(rng, wanted.held_out, f=function.name, p=function.parameter, d=function.describe(rng))
        task = "write new kind of function" if function.is_new else "write function"
        asked.append(_ask_for_code(question, function, rng, wanted.held_out, task))
    return Exercise("coding", shown, asked)


def draw_documented(rng: random.Random, wanted: Wanted) -> Exercise:
    """Functions from their documentation; refused where it does not say what a function returns."""

    def ask(function: Function, number: int | None) -> Asked:
        question = WRITE_FROM_DOCS.draw(rng, wanted.held_out, f=function.name)
        if number is None:
            return Asked(question, REFUSAL, task="write from docs")
        return _ask_for_code(question, function, rng, wanted.held_out, "write from docs", (number,))

    return _draw_over_passages(
        lambda: _draw(rng, wanted.held_out),
        lambda function, bare: _document(function, rng, _BARE_DOCS if bare else _DOCS),
        ask,
        rng,
        wanted,
    )


def draw_explaining(rng: random.Random, wanted: Wanted) -> Exercise:
    """What the code of a passage returns, in the fixed language; refused where the code is not shown."""

    def show(function: Function, bare: bool) -> Record:
        if bare:
            return _document(function, rng, _BARE_DOCS)
        return Record(f"{draw_stem(rng)}.py - {function.name}", function.write(), ())

    def ask(function: Function, number: int | None) -> Asked:
        question = EXPLAIN.draw(rng, wanted.held_out, f=function.name)
        if number is None:
            return Asked(question, REFUSAL, task="explain function")
        return Asked(question, f"It returns {function.describe()}.", (number,), "explain function")

    return _draw_over_passages(lambda: _draw(rng, wanted.held_out), show, ask, rng, wanted)


def draw_bugs(rng: random.Random, wanted: Wanted) -> Exercise:
    """The line of a passage's code that does not do what the docstring says; refused where the code is not shown."""

    def show(pair: tuple[Function, Function], bare: bool) -> Record:
        right, faulty = pair
        if bare:
            return _document(right, rng, _DOCS)
        return Record(f"{draw_stem(rng)}.py - {right.name}", "\n".join(_write_with_docstring(right, faulty, rng)), ())

    def ask(pair: tuple[Function, Function], number: int | None) -> Asked:
        question = FIND_BUG.draw(rng, wanted.held_out, f=pair[0].name)
        if number is None:
            return Asked(question, REFUSAL, task="find bug")
        return Asked(question, name_bug(*pair), (number,), "find bug")

    return _draw_over_passages(lambda: _draw_broken(rng, wanted.held_out), show, ask, rng, wanted)


def _draw_over_passages(
    draw: Callable[[], _Subject],
    show: Callable[[_Subject, bool], Record],
    ask: Callable[[_Subject, int | None], Asked],
    rng: random.Random,
    wanted: Wanted,
) -> Exercise:
    """Passages about one subject each, at most one of which is `bare`: it leaves out what is asked for.

    `ask` gets the number of the passage that answers, from 1, or None where none does.
    """
    count = rng.choice(wanted.passages)
    subjects = [draw() for _ in range(count + 1)]
    bare = rng.randrange(count) if count > 1 and rng.random() < 0.5 else None
    shown = [show(subject, number == bare) for number, subject in enumerate(subjects[:count])]
    asked = [
        ask(subjects[count if number is None else number], None if number in (None, bare) else number + 1)
        for number in _choose_targets(count, bare, rng, wanted)
    ]
    return Exercise("coding", shown, asked)


def name_bug(right: Function, faulty: Function) -> str:
    """The answer: the first line that differs, counted with the docstring, as it should be."""
    lines, wrong = right.write().split("\n"), faulty.write().split("\n")
    for number, (line, seen) in enumerate(zip(lines, wrong, strict=True), start=2):
        if line != seen:
            return f"Line {number} should be: {line.strip()}"
    return NO_BUG


def _choose_targets(count: int, bare: int | None, rng: random.Random, wanted: Wanted) -> list[int | None]:
    """Which passage each question is about; None is a function that no passage has."""
    told = [number for number in range(count) if number != bare]
    refused = [None] if bare is None else [None, bare]
    rng.shuffle(told)
    return [
        rng.choice(refused) if rng.random() < wanted.refusal_share else told[number % len(told)]
        for number in range(wanted.questions)
    ]


def _ask_for_code(
    question: str, function: Function, rng: random.Random, held_out: bool, task: str, cited: Sequence[int] = ()
) -> Asked:
    # Nobody runs the checks of training, so they are not searched for mistakes to catch.
    mistakes = list_mistakes(function, rng) if held_out else []
    checks = draw_checks(function, rng, mistakes)
    return Asked(question, function.write(), cited, task, judge="code", checks=tuple(checks))


def _draw(rng: random.Random, held_out: bool) -> Function:
    def draw_word(known: Sequence[str]) -> str:
        return rng.choice(known) if rng.random() < 0.6 else draw_name(rng, held_out).lower()

    def draw_whole_name() -> str:
        return f"{draw_word([verb[0] for verb in VERBS])}_{draw_word(NOUNS)}"

    items = draw_word(NOUNS)
    items += "" if items.endswith("s") else "s"
    parameters = {"numbers": items, "words": items, "rows": items}
    parameters |= {"mapping": draw_word(_MAPPINGS), "text": draw_word(_TEXTS)}
    fields = (draw_word(_FIELDS), draw_word(_WORD_FIELDS))
    return draw_function(rng, held_out, draw_until_split(draw_whole_name, held_out), parameters, fields)


def _draw_broken(rng: random.Random, held_out: bool) -> tuple[Function, Function]:
    """A function as it should be, and as it is."""
    while True:
        right = _draw(rng, held_out)
        if rng.random() < _NO_BUG_SHARE:
            return right, right
        faulty = break_function(right, rng, held_out)
        if faulty is not None and faulty.write() != right.write() and is_told_apart(right, faulty, rng):
            return right, faulty


def _write_with_docstring(right: Function, faulty: Function, rng: random.Random) -> list[str]:
    head, *body = faulty.write().split("\n")
    return [head, f'    """Return {right.describe(rng)}."""', *body]


def _document(function: Function, rng: random.Random, texts: Sequence[str]) -> Record:
    stem = draw_stem(rng)
    text = rng.choice(texts).format(
        f=function.name, p=function.parameter, s=stem, d=function.describe(rng), n=rng.randint(2, 60)
    )
    return Record(f"{stem} module - {function.name}", text, ())


SKILLS: Mapping[str, Skill] = {
    "write function": Skill(draw_writing, 3.0),
    "write from docs": Skill(draw_documented, 1.5),
    "explain function": Skill(draw_explaining, 1.5),
    "find bug": Skill(draw_bugs, 1.5),
}

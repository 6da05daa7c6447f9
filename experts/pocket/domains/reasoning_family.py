"""Family: grandparents, siblings, aunts or uncles and cousins, from passages that name parents and their children."""

import random
from collections.abc import Mapping, Sequence

from experts.pocket.alternatives import split_alternatives
from experts.pocket.exercise import Asked, Exercise, Wanted
from experts.pocket.names import draw_names
from experts.pocket.records import Record
from experts.pocket.templates import Templates, read_templates
from experts.prompt import REFUSAL

QUESTIONS: Mapping[str, Templates] = {
    "grandparent": read_templates(
        "Who is the grandparent of {a}?|Who is a grandparent of {a}?|Name the grandparent of {a}.|Which person is the "
        "grandparent of {a}?|Who is {a}'s grandparent?",
        "Tell me the grandparent of {a}.|Of whom is {a} a grandchild?",
    ),
    "sibling": read_templates(
        "Who is the sibling of {a}?|Name the brother or sister of {a}.|Who is {a}'s sibling?|Who is the brother or "
        "sister of {a}?",
        "Tell me the sibling of {a}.|Which person is the sibling of {a}?",
    ),
    "aunt": read_templates(
        "Who is the aunt or uncle of {a}?|Name the aunt or uncle of {a}.|Who is {a}'s aunt or uncle?|Which person is "
        "the aunt or uncle of {a}?",
        "Tell me the aunt or uncle of {a}.|Of whom is {a} a niece or nephew?",
    ),
    "cousin": read_templates(
        "Who is the cousin of {a}?|Name the cousin of {a}.|Who is {a}'s cousin?|Which person is the cousin of {a}?",
        "Tell me the cousin of {a}.|Of whom is {a} the cousin?",
    ),
}
_TWO = split_alternatives(
    "{p} has two children, {a} and {b}.|{p} is the parent of {a} and {b}.|The children of {p} are {a} and {b}.|{a} "
    "and {b} are the children of {p}."
)
_ONE = split_alternatives(
    "{p} has one child, {a}.|{p} is the parent of {a}.|The only child of {p} is {a}.|{a} is the child of {p}."
)


def draw_family(rng: random.Random, wanted: Wanted) -> Exercise:
    """Questions about two families of three generations; refused where a parent or child in between is not said."""
    names = draw_names(rng, wanted.held_out, 16)
    count = max(rng.choice(wanted.passages), 2)
    first, second = (_draw_tree(names, rng) for _ in range(2))
    kept = rng.sample(first, rng.choice((2, 3)) if count > 2 else 2)
    shown = [*kept, *rng.sample(second, min(count - len(kept), 3))]
    rng.shuffle(shown)
    passages = []
    for parent, children in shown:
        slots = {"p": parent, "a": children[0], "b": children[-1]}
        text = rng.choice(_TWO if len(children) == 2 else _ONE).format(**slots)
        passages.append(Record(f"{parent} - Family", text, ()))
    stated = dict(shown)
    people = sorted({name for parent, children in shown for name in (parent, *children)})
    answered, missing = [], []
    for person in people:
        for kind in QUESTIONS:
            found = find_relative(kind, person, stated)
            if found is not None:
                answered.append((kind, person, found))
            else:
                missing.append((kind, person))
    # Siblings are named together in one passage; the others need two or three.
    shares = [0.4 if kind == "sibling" else 1.0 for kind, _, _ in answered]
    numbers = {parent: number for number, (parent, _) in enumerate(shown, start=1)}
    asked = []
    for _ in range(wanted.questions):
        if not answered or rng.random() < wanted.refusal_share:
            kind, person = rng.choice(missing)
            question = QUESTIONS[kind].draw(rng, wanted.held_out, a=person)
            asked.append(Asked(question, REFUSAL, task="family"))
            continue
        kind, person, (parents, result) = rng.choices(answered, shares)[0]
        question = QUESTIONS[kind].draw(rng, wanted.held_out, a=person)
        steps = [f"{parent} is the parent of {' and '.join(stated[parent])}" for parent in parents]
        cited = tuple(numbers[parent] for parent in parents)
        asked.append(Asked(question, "; ".join([*steps, result]), cited, "family", "result", True, result))
    return Exercise("reasoning", passages, asked)


def _draw_tree(names: list[str], rng: random.Random) -> list[tuple[str, Sequence[str]]]:
    """A grandparent with two children, each with one or two children."""
    top, left, right = names.pop(), names.pop(), names.pop()
    many = rng.random() < 0.5
    return [
        (top, (left, right)),
        (left, (names.pop(), names.pop()) if many else (names.pop(),)),
        (right, (names.pop(),)),
    ]


def find_relative(kind: str, person: str, stated: Mapping[str, Sequence[str]]) -> tuple[list[str], str] | None:
    """The one relative of a kind, with the parents whose children had to be read, in that order; None if not said.

    Where there are two, as two cousins, nobody is the one relative either.
    """

    def find_parent(child: str) -> str | None:
        return next((parent for parent, children in stated.items() if child in children), None)

    def find_siblings(child: str, parent: str) -> list[str]:
        return [other for other in stated[parent] if other != child]

    parent = find_parent(person)
    if parent is None:
        return None
    if kind == "sibling":
        siblings = find_siblings(person, parent)
        return ([parent], siblings[0]) if siblings else None
    top = find_parent(parent)
    if top is None:
        return None
    if kind == "grandparent":
        return [parent, top], top
    aunts = find_siblings(parent, top)
    if not aunts:
        return None
    if kind == "aunt":
        return [parent, top], aunts[0]
    cousins = stated.get(aunts[0], ())
    return ([parent, top, aunts[0]], cousins[0]) if len(cousins) == 1 else None

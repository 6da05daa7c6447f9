"""Composed questions: several source questions in one, with the place, the domain and the needs of each part.

What a boundary head learns from and is measured on. Half of what is drawn are single questions, among them those that
look like several: long stems, lists of options, questions quoted in a request, inner 'and's. A held-out draw uses
source questions, joints, domain pairs and hand-written sentences that no training draw has.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from router.clause import read_asking, read_words
from router.composed_sources import Half, SourceQuestion, is_held_out
from router.composed_templates import (
    ASIDES,
    CHAINS,
    FILLERS,
    HALF_BULLETS,
    HALF_CLOSINGS,
    HALF_CONTEXTS,
    HALF_GREETINGS,
    HALF_INSTRUCTIONS,
    HALF_INTRODUCTIONS,
    HALF_JOINTS,
    HALF_OPENERS,
    HALF_QUOTING,
    WHOLES,
)

MAX_COMPOSED_CHARS = 1000
"""About 230 tokens of the encoder's 256."""
CHAIN_SHARE = 0.1
HELD_OUT_PAIR_PERCENT = 30

_SLOT = re.compile(r"\[([^\[\]`]*\|[^\[\]`]*)\]")
_WORD = re.compile(r"[A-Za-z]{4,}")
_NAMED = re.compile(r"[A-Z][a-z]*[A-Z_]|[A-Z]\b|[A-Z][\w']* [A-Z]")
_JOINED = re.compile(r"(?i)(?:but|and|also|one more thing|then)\b")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Span:
    """A part at [start, end) of a composed question; `needs` are the parts (from 1) whose answers it needs."""

    start: int
    end: int
    domain: str
    needs: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Composed:
    """A question with its parts in order; `kind` is how it was made, a single question's begins with 'whole'."""

    text: str
    spans: tuple[Span, ...]
    kind: str


@dataclass(frozen=True, slots=True)
class Pool:
    """What one half draws from."""

    half: Half
    by_source: dict[str, tuple[SourceQuestion, ...]]


def build_pool(sources: Sequence[SourceQuestion], half: Half) -> Pool:
    """The source questions of one half by source."""
    names = dict.fromkeys(question.source for question in sources)
    return Pool(half, {name: tuple(q for q in sources if q.source == name) for name in names})


def draw_composed(pool: Pool, count: int, seed: int) -> tuple[Composed, ...]:
    """`count` questions, half of them single, in an order that the seed decides."""
    rng = random.Random(f"{pool.half} {seed}")  # noqa: S311 - not for secrets
    drawn: list[Composed] = []
    while len(drawn) < count:
        made = _draw_whole(pool, rng) if len(drawn) % 2 else _draw_parts(pool, rng)
        if len(made.text) <= MAX_COMPOSED_CHARS:
            drawn.append(made)
    return tuple(drawn)


def is_held_out_pair(first: str, second: str) -> bool:
    """Whether two domains are never asked together in training."""
    return is_held_out(" | ".join(sorted((first, second))), HELD_OUT_PAIR_PERCENT)


def _draw_whole(pool: Pool, rng: random.Random) -> Composed:
    """A single question, as it is or with something around it that makes it look like several."""
    source = _draw_source(pool, rng, ("clinc150", 5), ("mmlu_pro", 5), ("routellm_gsm8k", 2), ("routellm_mmlu", 3),
                          ("pocket", 2), ("template", 5))  # fmt: skip
    if source == "template":
        text = _fill(rng.choice(_half_of(WHOLES, pool.half)), rng)
        question = SourceQuestion(text, text, "template", "template")
    else:
        question = rng.choice(pool.by_source[source])
    form = rng.random()
    text, kind = question.text, f"whole {source}"
    if form < 0.10:
        text, kind = (
            f"{_draw_context(pool.half, rng)} {_sentence(question.stem)}",
            "whole context",
        )
    elif form < 0.20:
        others = [rng.choice(pool.by_source[rng.choice(("clinc150", "pocket", "mmlu_pro"))]) for _ in range(2)]
        said = " ".join(_sentence(other.stem) for other in others)
        text, kind = _fill(rng.choice(HALF_QUOTING[pool.half]), rng).replace("{}", said), "whole quoting"
    elif form < 0.28:
        text, kind = (
            _sentence(question.stem) + _fill(rng.choice(HALF_INSTRUCTIONS[pool.half]), rng),
            "whole instruction",
        )
    elif form < 0.34 and "\n" not in text:
        text, kind = _sentence(question.stem), "whole sentence"
    text = _vary(text, rng)
    before = _fill(rng.choice(HALF_GREETINGS[pool.half]), rng) if rng.random() < 0.08 else ""
    if not before and rng.random() < 0.04 and "\n" not in text:
        before = _draw_opener(pool.half, rng)
    after = rng.choice(HALF_CLOSINGS[pool.half]) if rng.random() < 0.08 and text[-1] in ".?!" else ""
    return Composed(before + text + after, (Span(len(before), len(before) + len(text), question.domain),), kind)


def _draw_parts(pool: Pool, rng: random.Random) -> Composed:
    """Two to four questions in one, of domains that may meet in this half."""
    if rng.random() < CHAIN_SHARE:
        return _draw_chain(pool, rng)
    form = rng.choices([name for name, _, _ in _FORMS], [weight for _, weight, _ in _FORMS])[0]
    _, _, write = next(known for known in _FORMS if known[0] == form)
    count = rng.choices((2, 3, 4), (0.55, 0.3, 0.15))[0]
    same = rng.random() < 0.2
    while True:
        parts: list[SourceQuestion] = []
        while len(parts) < count:
            source = _draw_source(pool, rng, ("clinc150", 9), ("mmlu_pro", 5), ("routellm_gsm8k", 1), ("pocket", 5))
            part = rng.choice(pool.by_source[parts[0].source if same and parts else source])
            if _suits(part, form):
                parts.append(part)
        domains = list(dict.fromkeys(part.domain for part in parts))
        meets = [is_held_out_pair(one, other) for at, one in enumerate(domains) for other in domains[:at]]
        if all(met == (pool.half == "held_out") for met in meets):
            return write(pool.half, parts, rng)


def _suits(part: SourceQuestion, form: str) -> bool:
    """Whether a question can be a part of a question of that form."""
    if part.domain.endswith("/assistant") or _JOINED.match(part.stem) or len(part.stem) < 12:
        return False
    if form == "clauses":
        return _is_clause(part.stem)
    return _is_sentence(part.stem) if form in ("sentences", "ordinals") else True


class _Writer:
    """Text so far and the spans in it."""

    def __init__(self) -> None:
        self.text = ""
        self.spans: list[Span] = []

    def say(self, between: str) -> None:
        self.text += between

    def ask(self, said: str, domain: str, needs: tuple[int, ...] = ()) -> None:
        self.spans.append(Span(len(self.text), len(self.text) + len(said), domain, needs))
        self.text += said

    def extend(self, said: str) -> None:
        self.text += said
        self.spans[-1] = replace(self.spans[-1], end=len(self.text))


def _write_clauses(half: Half, parts: Sequence[SourceQuestion], rng: random.Random) -> Composed:
    """One sentence: 'what is a, and how long is b?'"""
    writer = _Writer()
    if rng.random() < 0.12:
        writer.say(_fill(rng.choice(HALF_GREETINGS[half]), rng))
    punctuated = rng.random() < 0.6
    joints = [_draw_joint(half, rng) for _ in parts[1:]]
    if len(parts) > 2 and half == "train" and rng.random() < 0.4:
        joints = [", "] * (len(joints) - 1) + [rng.choice((", and ", " and "))]
    for at, part in enumerate(parts):
        said = _vary(part.stem.rstrip(" .?!"), rng)
        if at:
            writer.say(joints[at - 1])
            said = said if _NAMED.match(said) else said[0].lower() + said[1:]
        elif punctuated and not writer.text.endswith((", ", "Please ")):
            said = said[0].upper() + said[1:]
        writer.ask(said, part.domain)
    if punctuated:
        writer.extend("?" if _asks(parts[-1].stem) else rng.choice((".", "?")))
        _close(writer, half, rng)
    return Composed(writer.text, tuple(writer.spans), "clauses")


def _write_sentences(half: Half, parts: Sequence[SourceQuestion], rng: random.Random) -> Composed:
    """Sentence after sentence, with words between them or without; some with what their question is about first."""
    writer = _Writer()
    if rng.random() < 0.15:
        opening = HALF_GREETINGS if rng.random() < 0.7 else HALF_INTRODUCTIONS
        said = _fill(rng.choice(opening[half]), rng).replace("{k}", "some")
        writer.say(said if said.endswith(" ") else said + " ")
    for at, part in enumerate(parts):
        said = _sentence(_vary(part.stem, rng))
        plain = rng.random() < 0.4
        if at:
            writer.say(" " if rng.random() < 0.97 else rng.choice(("  ", "\n", "")))
            if not plain:
                writer.say(_draw_opener(half, rng))
                said = said if _NAMED.match(said) or rng.random() < 0.3 else said[0].lower() + said[1:]
        elif rng.random() < 0.1:
            said = f"{_draw_context(half, rng)} {said}"
        if rng.random() < 0.06:
            said += _fill(rng.choice(HALF_INSTRUCTIONS[half]), rng)
        writer.ask(said, part.domain)
    _close(writer, half, rng)
    return Composed(writer.text, tuple(writer.spans), "sentences")


def _write_list(half: Half, parts: Sequence[SourceQuestion], rng: random.Random) -> Composed:
    """One part a line, after bullets or numbers."""
    writer = _Writer()
    if rng.random() < 0.5:
        introduction = _fill(rng.choice(HALF_INTRODUCTIONS[half]), rng)
        writer.say(introduction.replace("{k}", rng.choice((str(len(parts)), "some", "a few"))) + "\n")
    bullet = rng.choice(HALF_BULLETS[half])
    for at, part in enumerate(parts):
        writer.say(("\n" if at else "") + _number(bullet, at))
        writer.ask(_vary(part.stem, rng), part.domain)
    return Composed(writer.text, tuple(writer.spans), "list")


def _write_lines(half: Half, parts: Sequence[SourceQuestion], rng: random.Random) -> Composed:
    """One part a line or paragraph, without marks."""
    writer = _Writer()
    gap = rng.choice(("\n", "\n\n"))
    for at, part in enumerate(parts):
        writer.say(gap if at else "")
        writer.ask(_vary(part.stem, rng), part.domain)
    return Composed(writer.text, tuple(writer.spans), "lines")


def _write_ordinals(half: Half, parts: Sequence[SourceQuestion], rng: random.Random) -> Composed:
    """'First, ...? Second, ...?' and '1. ... 2. ...' on one line."""
    bullet = rng.choice([mark for mark in HALF_BULLETS["train"] if "{" in mark])
    numbered = tuple(_number(bullet, at) for at in range(4))
    train = (
        ("First, ", "Second, ", "Third, ", "Fourth, "),
        ("To begin with, ", "Then, ", "Third: ", "At last: "),
        numbered,
        numbered,
    )
    held_out = (("(a) ", "(b) ", "(c) ", "(d) "), ("Firstly, ", "Secondly, ", "Thirdly, ", "Lastly, "))
    marks = rng.choice(train if half == "train" else held_out)
    writer = _Writer()
    for at, part in enumerate(parts):
        writer.say((" " if at else "") + marks[at])
        writer.ask(_sentence(_vary(part.stem, rng)), part.domain)
    return Composed(writer.text, tuple(writer.spans), "ordinals")


def _number(bullet: str, at: int) -> str:
    numbers = {"{n}": str(at + 1), "{a}": "abcd"[at], "{A}": "ABCD"[at], "{i}": ("i", "ii", "iii", "iv")[at]}
    for sign, number in numbers.items():
        bullet = bullet.replace(sign, number)
    return bullet


def _draw_joint(half: Half, rng: random.Random) -> str:
    """What joins two clauses: a joint of the list, or one with an aside."""
    if half == "held_out" or rng.random() < 0.5:
        return rng.choice(HALF_JOINTS[half])
    begins = rng.choice((" ", ", ", ", ", "; ", " - ", "... "))
    word = rng.choice(("", "and ", "and ", "but ", "also ", "plus ", "then ", "or "))
    return f"{begins}{word}{_draw_aside(rng)}{rng.choice((' ', ', ', ': '))}"


def _draw_opener(half: Half, rng: random.Random) -> str:
    """What a sentence after another begins with, or one with an aside."""
    if half == "held_out" or rng.random() < 0.5:
        return rng.choice(HALF_OPENERS[half])
    said = f"{rng.choice(('', '', 'and ', 'but ', 'also '))}{_draw_aside(rng)}{rng.choice((', ', ': ', ' - ', ' '))}"
    return said[0].upper() + said[1:]


def _draw_aside(rng: random.Random) -> str:
    if rng.random() < 0.6:
        return rng.choice(ASIDES)
    return " ".join(rng.choices(FILLERS.split(), k=rng.choice((1, 2, 3, 4))))


def _draw_context(half: Half, rng: random.Random) -> str:
    return _fill(rng.choice(HALF_CONTEXTS[half]), rng)


_FORMS: tuple[tuple[str, float, Callable[[Half, Sequence[SourceQuestion], random.Random], Composed]], ...] = (
    ("clauses", 0.42, _write_clauses),
    ("sentences", 0.28, _write_sentences),
    ("list", 0.15, _write_list),
    ("lines", 0.07, _write_lines),
    ("ordinals", 0.08, _write_ordinals),
)
"""What a question of several parts looks like, and the share of each."""


def _draw_chain(pool: Pool, rng: random.Random) -> Composed:
    """Parts that speak of one thing, from a hand-written sentence."""
    writer = _Writer()
    said = _fill(rng.choice(_half_of(CHAINS, pool.half)), rng)
    lower = rng.random() < 0.25
    for piece in said.split("||"):
        asked, _, joint = piece.partition("{")
        needs = (1,) if asked.startswith("#1 ") else ()
        asked = asked.removeprefix("#1 ")
        asked = asked.lower() if lower else asked
        if joint and not joint.strip("}"):  # '[Hi|Hello]! {}' belongs to no part
            writer.say(asked)
            continue
        if joint.startswith("? "):
            asked, joint = asked + "?", joint[1:]
        writer.ask(asked, "template", needs)
        writer.say(joint.rstrip("}"))
    return Composed(writer.text, tuple(writer.spans), "chain")


def _half_of(sentences: Sequence[str], half: Half) -> list[str]:
    """A quarter is held out: every fourth, so that no sentence changes sides when another is added at the end."""
    return [said for at, said in enumerate(sentences) if (at % 4 == 3) == (half == "held_out")]


def _draw_source(pool: Pool, rng: random.Random, *weighted: tuple[str, int]) -> str:
    there = [(name, weight) for name, weight in weighted if name in pool.by_source or name == "template"]
    return rng.choices([name for name, _ in there], [weight for _, weight in there])[0]


def _fill(said: str, rng: random.Random) -> str:
    return _SLOT.sub(lambda slot: rng.choice(slot[1].split("|")), said)


def _asks(text: str) -> bool:
    words = read_words(text[-600:])
    asking = read_asking(words, 0, len(words))
    return text.endswith("?") or (asking is not None and asking.kind == "question")


def _is_clause(stem: str) -> bool:
    """Whether a question can be a clause of a longer sentence: one sentence, short, that asks."""
    body = stem.rstrip(" .?!")
    if not 12 <= len(body) <= 160 or any(mark in body for mark in (". ", "? ", "! ", "\n", ":", ";", "_")):
        return False
    words = read_words(body)
    return stem.endswith("?") or read_asking(words, 0, len(words)) is not None


def _is_sentence(stem: str) -> bool:
    """Whether a question is whole sentences, not a stem to be completed."""
    return stem.endswith(("?", ".")) or _is_clause(stem)


def _sentence(stem: str) -> str:
    """A question with a capital letter and an end."""
    said = stem[0].upper() + stem[1:]
    return said if said[-1] in ".?!:" else said + ("?" if _asks(stem) else ".")


def _close(writer: _Writer, half: Half, rng: random.Random) -> None:
    chance = rng.random()
    if chance < 0.08:
        writer.say(rng.choice(HALF_CLOSINGS[half]))
    elif chance < 0.14:
        writer.extend(_fill(rng.choice(HALF_INSTRUCTIONS[half]), rng))


def _vary(text: str, rng: random.Random) -> str:
    """The text as other people type it: slips, another case, no marks at the end; code stays as it is."""
    if "`" in text:
        return text
    if rng.random() < 0.2:
        share = rng.choice((0.1, 0.2, 0.35))
        text = _WORD.sub(lambda word: _misspell(word[0], rng) if rng.random() < share else word[0], text)
    chance = rng.random()
    if chance < 0.12:
        text = text.lower()
    elif chance < 0.14:
        text = text.upper()
    return text.rstrip("?. ") if rng.random() < 0.08 and len(text.rstrip("?. ")) > 8 else text


def _misspell(word: str, rng: random.Random) -> str:
    """One letter swapped with the next, left out, doubled or replaced."""
    at = rng.randrange(len(word) - 1)
    kind = rng.randrange(4)
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    return word[:at] + (word[at] if kind == 2 else rng.choice(_LETTERS)) + word[at + (kind == 3) :]

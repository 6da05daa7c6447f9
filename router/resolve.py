"""Resolving: what a question leaves to its conversation is said in full, and nothing is invented.

A turn such as 'and its net income?' is completed from the turns before it; a part such as 'what was its net income?'
from the parts before it. Only words of the question and of the conversation, and English function words, are used.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from router.clause import (
    AUXILIARIES,
    FUNCTION_WORDS,
    MAKING_REQUESTS,
    OPENERS,
    PREPOSITIONS,
    Word,
    find_quoted,
    noun_phrase_end,
    read_asking,
    read_words,
    word_set,
)
from router.ellipsis import complete_ellipsis, fill_head, opens_ellipsis
from router.mention import NOUNS, Mention, Noun, choose_mention, find_names, find_periods
from router.question import Question, Turn

HISTORY_TURNS = 12
"""Turns that are looked at; what a pronoun means lies rarely further back, and the cost stays bounded."""
MAX_CHARS = 2000
"""Longer questions carry their own context (a document, code) and are left as they are."""
MAX_PRONOUNS = 16
"""Pronouns of one question that are looked at, so that the cost stays bounded."""

_PERSONS: dict[str, str] = {"he": "subject", "she": "subject", "him": "subject", "his": "possessive", "her": "either"}
_THINGS: dict[str, str] = {
    "it": "subject",
    "its": "possessive",
    "they": "subject",
    "them": "subject",
    "their": "possessive",
}
_EXPLETIVE = word_set(
    "rain raining snow snowing possible true false worth ok okay safe better necessary legal normal late early cold "
    "warm hot take mean make seem turn that important"
)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A question said in full; `reason` tells what was filled in, None where it stood alone."""

    text: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Pronoun:
    """Words [start, end) of a text that stand for something else; `noun` is the kind of thing, where it shows."""

    start: int
    end: int
    form: str
    noun: Noun | None
    word: str


def resolve_question(question: Question) -> Resolved:
    """The question with what it leaves to earlier turns filled in: user turns first, newest first."""
    turns = [turn for turn in question.turns if turn.role != "system"][-HISTORY_TURNS:]
    told: list[Turn] = []
    for turn in turns:
        told.append(Turn("user", _resolve_turn(turn.text, told).text) if turn.role == "user" else turn)
    return _resolve_turn(question.text, told)


def _resolve_turn(text: str, told: Sequence[Turn]) -> Resolved:
    users = [turn.text for turn in reversed(told) if turn.role == "user" and len(turn.text) <= MAX_CHARS]
    assistants = [turn.text for turn in reversed(told) if turn.role == "assistant" and len(turn.text) <= MAX_CHARS]
    if not users or len(text) > MAX_CHARS:
        return Resolved(text, None)
    resolved = resolve_pronouns(text, [*users, *assistants])
    completed = complete_ellipsis(text, users[0], bare=True) or complete_ellipsis(resolved.text, users[0])
    if completed is None:
        return resolved
    reason = "completed from the question before"
    return Resolved(completed, f"{resolved.reason}; {reason}" if resolved.reason else reason)


def resolve_part(text: str, earlier: Sequence[str], keep: Callable[[Pronoun], bool]) -> Resolved:
    """A part of a question with what it leaves to the parts before it filled in.

    `earlier` is newest first. Pronouns that `keep` says stand for an answer are left as they are.
    """
    if not earlier or len(text) > MAX_CHARS or any(len(part) > MAX_CHARS for part in earlier):
        return Resolved(text, None)
    filled = fill_head(text, earlier[0]) or complete_ellipsis(text, earlier[0], bare=True)
    if filled is not None:
        return Resolved(filled, "completed from the part before")
    named = [part for part in earlier if not _asks_to_make(part)]
    resolved = resolve_pronouns(text, named, keep)
    if read_asking(read_words(text), 0, 40) is not None and not opens_ellipsis(text):
        return resolved
    completed = complete_ellipsis(resolved.text, earlier[0])
    return resolved if completed is None else Resolved(completed, "completed from the part before")


def _asks_to_make(text: str) -> bool:
    """Whether 'it' after this request means what is made, not a name in the request."""
    words = read_words(text)
    asking = read_asking(words, 0, len(words))
    return asking is not None and asking.request in MAKING_REQUESTS


def resolve_pronouns(
    text: str, sources: Sequence[str], keep: Callable[[Pronoun], bool] = lambda pronoun: False
) -> Resolved:
    """The text with its pronouns replaced by what `sources` (the most likely first) named last."""
    words = read_words(text)
    pronouns = [pronoun for pronoun in find_dangling(text) if pronoun.form != "bare" and not keep(pronoun)]
    chosen: Mention | None = None
    source = ""
    result = text
    carried = False
    for pronoun in reversed(pronouns):
        found = _find_description(sources, pronoun) or _find_antecedent(sources, pronoun.noun)
        if found is None and pronoun.form == "place":
            found = _find_antecedent(sources, "company")  # 'how many people work there'
        if found is None:
            continue
        chosen, source = found
        result, attribute = _say(result, words, pronoun, chosen)
        counted = (
            chosen.fits("company")
            and not chosen.fits("person")
            and ("how many" in text.lower() or text[: pronoun.start].endswith(" of "))
        )
        carried = carried or attribute or counted
    if chosen is None:
        return Resolved(text, None)
    reason = f"'{pronouns[0].word}' is {chosen.text}"
    if carried and not find_periods(result):
        result = _carry_period(result, source)
    return Resolved(result, reason)


def find_dangling(text: str) -> list[Pronoun]:
    """The pronouns of a text that mean nothing in it."""
    quoted = find_quoted(text)
    words = read_words(text)
    own = find_names(text, words, quoted)
    pronouns = find_pronouns(text, words)[:MAX_PRONOUNS]
    return [pronoun for pronoun in pronouns if not _has_own_antecedent(words, pronoun, own)]


def find_pronouns(text: str, words: Sequence[Word]) -> list[Pronoun]:
    """What may stand for something said before, in order."""
    found: list[Pronoun] = []
    for at, word in enumerate(words):
        following = words[at + 1].lower.removesuffix("'s") if at + 1 < len(words) else ""
        before = words[at - 1].lower if at else ""
        if word.lower in _PERSONS:
            form = _PERSONS[word.lower]
            if form == "either":
                form = "possessive" if following and following not in FUNCTION_WORDS else "subject"
            either = following == "or" and at + 2 < len(words) and words[at + 2].lower in _PERSONS
            end = words[at + 2].end if either else word.end
            if either and words[at + 2].lower in ("her", "his"):
                form = "possessive"
            if before != "or" or at < 2 or words[at - 2].lower not in _PERSONS:
                found.append(Pronoun(word.start, end, form, "person", text[word.start : end]))
        elif word.lower in _THINGS and not (word.lower == "it" and _is_expletive(words, at)):
            noun: Noun | None = "thing" if word.lower in ("it", "its") else None
            found.append(Pronoun(word.start, word.end, _THINGS[word.lower], noun, word.text))
        elif word.lower in ("that", "this", "same", "said") and following in NOUNS:
            first = at - 1 if word.lower in ("same", "said") and before == "the" else at
            owned = words[at + 1].lower.endswith("'s")
            end = words[at + 1].end
            form = "possessive" if owned else "noun"
            found.append(Pronoun(words[first].start, end, form, NOUNS[following], text[words[first].start : end]))
        elif word.lower in ("that", "this") and before in AUXILIARIES:
            found.append(Pronoun(word.start, word.end, "bare", None, word.text))
        elif word.lower == "there" and before not in AUXILIARIES and following not in AUXILIARIES:
            found.append(Pronoun(word.start, word.end, "place", "place", word.text))
    return found


def _is_expletive(words: Sequence[Word], at: int) -> bool:
    around = {word.lower for word in words[max(0, at - 2) : at + 4]}
    if around & _EXPLETIVE:
        before = words[at - 1].lower if at else ""
        return before not in PREPOSITIONS or bool(around & {"rain", "raining", "snow", "snowing"})
    last = at + 1 >= len(words) or words[at + 1].lower in PREPOSITIONS
    return last and at >= 2 and bool({"time", "day"} & {word.lower for word in words[at - 2 : at]})


def _has_own_antecedent(words: Sequence[Word], pronoun: Pronoun, own: Sequence[Mention]) -> bool:
    """Whether the text itself names, before the pronoun, what the pronoun may mean."""
    before = [word.lower for word in words if word.end <= pronoun.start]
    names = [mention for mention in own if mention.end <= pronoun.start]
    if pronoun.form == "bare":
        return False
    if pronoun.form in ("noun", "place") or pronoun.word.lower().endswith("'s"):
        noun = pronoun.word.lower().removesuffix("'s").split()[-1]
        return noun in before or any(mention.is_surely(pronoun.noun) for mention in names)
    if any(mention.fits(pronoun.noun) for mention in names):
        return True
    if pronoun.noun is None:
        if before[-1:] and before[-1] in AUXILIARIES and before[0] in OPENERS | {"how", "what", "which"}:
            return False  # 'how many employees did they have': the fronted words are the object, not the antecedent
        return any(len(word) > 3 and word.endswith("s") and word not in FUNCTION_WORDS for word in before)
    if pronoun.noun == "person":
        return any(NOUNS.get(word) == "person" for word in before)
    return any(
        word in ("a", "an", "my", "the", "this", "these") and following not in FUNCTION_WORDS
        for word, following in pairwise(before)
    )


def _find_antecedent(sources: Sequence[str], noun: Noun | None) -> tuple[Mention, str] | None:
    for source in sources:
        quoted = find_quoted(source)
        chosen = choose_mention(find_names(source, read_words(source), quoted), noun)
        if chosen is not None:
            return chosen, source
    return None


def _find_description(sources: Sequence[str], pronoun: Pronoun) -> tuple[Mention, str] | None:
    """'the formula for the area of a circle', where 'that formula' is said, or 'it' after a question without names."""
    if pronoun.noun != "thing" or pronoun.form == "possessive" or not sources:
        return None
    noun = pronoun.word.lower().split()[-1]
    source = sources[0]
    quoted = find_quoted(source)
    words = read_words(source)
    names = find_names(source, words, quoted)
    if names:
        return _find_last_definite(source, words, names[-1].end) if noun == "it" else None
    for at, word in enumerate(words[:-2]):
        end = noun_phrase_end(source, words, at + 1)
        if word.lower != "the" or not at + 1 < end < len(words) - 1 or words[end].lower not in ("for", "of"):
            continue
        if noun in ("it", words[end - 1].lower):
            text = source[word.start : words[-1].end]
            return Mention("name", text[0].lower() + text[1:], 0, len(text)), source
        return None
    return None


def _find_last_definite(source: str, words: Sequence[Word], start: int) -> tuple[Mention, str] | None:
    """'the museum' after the last name: 'I am visiting Orland. Where is the museum?'"""
    for at in range(len(words) - 2, -1, -1):
        if words[at].start < start:
            return None
        noun = words[at + 1]
        after = words[at + 2].lower if at + 2 < len(words) else ""
        if words[at].lower == "the" and NOUNS.get(noun.lower) in ("place", "company", "code", "team", "thing"):
            if after in PREPOSITIONS:
                return None
            return Mention("name", f"the {noun.text}", 0, 4 + len(noun.text)), source
    return None


def _say(text: str, words: Sequence[Word], pronoun: Pronoun, mention: Mention) -> tuple[str, bool]:
    """The text with the pronoun said in full, and whether it asked for an attribute ('its net income')."""
    name = mention.text
    if pronoun.form == "place":
        default = "at" if " " in name else "in"
        preposition = mention.preposition if mention.preposition in ("in", "at", "on", "near") else default
        name = f"{preposition} {name}"
    if pronoun.form != "possessive":
        return text[: pronoun.start] + name + text[pronoun.end :], False
    first = next((at for at, word in enumerate(words) if word.start >= pronoun.end), len(words))
    end = noun_phrase_end(text, words, first)
    inverted = any(word.lower in ("do", "does", "did") for word in words[:first])
    if end == first or end - first > 4 or inverted:
        return text[: pronoun.start] + f"{name}'s" + text[pronoun.end :], False
    article = "The" if text[pronoun.start].isupper() else "the"
    noun = text[words[first].start : words[end - 1].end]
    return f"{text[: pronoun.start]}{article} {noun} of {name}{text[words[end - 1].end :]}", True


def _carry_period(text: str, source: str) -> str:
    """The text with the period of its source, because an attribute is asked of the same quarter or year."""
    periods = [period for period in find_periods(source) if period.sort != "weekday" and period.preposition]
    if not periods:
        return text
    body = text.rstrip()
    mark = body[-1:] if body[-1:] in ".?!" else ""
    return f"{body.rstrip('.?!')} {periods[-1].preposition} {periods[-1].text}{mark}"

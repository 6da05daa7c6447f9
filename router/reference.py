"""References: parts that speak of what another part asks for, and their completion with its answer."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from experts.prompt import REFUSAL
from router.clause import (
    AUXILIARIES,
    PREPOSITIONS,
    Word,
    find_quoted,
    noun_phrase_end,
    read_asking,
    read_words,
    word_set,
)
from router.mention import NOUNS, Noun, find_names
from router.question import Reference, Span, SubAnswer, SubQuery, SubQueryId
from router.resolve import MAX_CHARS, Pronoun, find_dangling, find_pronouns, resolve_part
from router.split import Part, join_parts

MAX_ANSWER_CHARS = 400
"""An answer longer than this is cut at a word where it completes another sub-query: it names nothing any more."""

_MARKS = re.compile(r"\s{0,8}\[\d{1,4}(?:, ?\d{1,4}){0,16}\]")
_NUMBERED = re.compile(r"(?<![\w#])#(\d{1,2})\b")
_NOT_A_PART = word_set("issue ticket pr bug number item task page line chapter room")
_TOPIC = re.compile(r"((?:for|about|regarding|concerning|as for|as to)\s[^,:;?.!\n]{2,60})[,:]\s", re.IGNORECASE)
_MAX_TOPIC_WORDS = 8
"""A longer part says by itself what it is about."""
_OPEN_NOUNS = word_set("person man woman place company firm business")
_RESULTS = word_set("result answer number value sum total amount product")
_NARROWING = PREPOSITIONS | {"that", "which", "who", "whose", "where"}
_POSSESSIVES = word_set("his her its their")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a part asks for: a `noun` where it says one ('which function'), and the kind of thing."""

    noun: str | None
    kind: Noun | None
    is_subject: bool


@dataclass(frozen=True, slots=True)
class LinkedPart:
    """A part said in full; `references` holds the numbers (from 1) of the parts whose answers it needs.

    `span` is where the question asks it.
    """

    text: str
    references: tuple[Reference, ...]
    reasons: tuple[str, ...]
    span: Span | None = None


def link_parts(question: str, parts: Sequence[Part]) -> tuple[LinkedPart, ...]:
    """The parts with names instead of pronouns, and references where a pronoun stands for an earlier answer.

    A part that leans on the one before it in a way that nothing resolves is joined to it again; one that repeats an
    earlier part is dropped.
    """
    linked: list[LinkedPart] = []
    spans: list[Part] = []
    keys: dict[tuple[str, ...], SubQueryId] = {}
    numbers: dict[int, SubQueryId] = {}
    for position, part in enumerate(parts, start=1):
        current = _link(part, linked, numbers)
        if current is None:
            whole = join_parts(question, spans.pop(), part)
            removed = linked.pop()
            numbers[position] = SubQueryId(len(linked) + 1)
            keys = {key: number for key, number in keys.items() if number <= len(linked)}
            current = _link(whole, linked, numbers) or LinkedPart(whole.text, (), ())
            current = LinkedPart(
                current.text,
                current.references,
                (*removed.reasons, *current.reasons, f"'{part.text}' leans on the part before it: kept together"),
            )
            part = whole
        key = tuple(word.text.casefold() for word in read_words(current.text))
        if not current.references and key in keys:
            numbers[position] = keys[key]
            before = linked[keys[key] - 1]
            linked[keys[key] - 1] = replace(before, reasons=(*before.reasons, "asked once"))
            continue
        linked.append(replace(current, span=_find_span(question, part)))
        spans.append(part)
        numbers[position] = keys[key] = SubQueryId(len(linked))
    return tuple(linked)


def _find_span(question: str, part: Part) -> Span:
    """Where the question says a part's own words; all that it was cut from, where they were tidied."""
    own = part.text.removesuffix("?")
    start = question.find(own, part.start, part.end)
    return Span(part.start, part.end) if start < 0 else Span(start, start + len(own))


def _link(part: Part, linked: Sequence[LinkedPart], numbers: Mapping[int, SubQueryId]) -> LinkedPart | None:
    """The part said in full, or None where it leans on the one before it."""
    if len(part.text) > MAX_CHARS:
        return LinkedPart(part.text, (), ())
    asked = [read_asked(before.text) for before in linked]
    earlier = [before.text for before in reversed(linked)]
    resolved = resolve_part(part.text, earlier, lambda pronoun: _find_asked(pronoun, asked) is not None)
    topic = _find_topic(resolved.text, linked[0].text) if linked and not resolved.reason else None
    text = f"{topic}, {resolved.text[0].lower()}{resolved.text[1:]}" if topic else resolved.text
    references = _find_references(text, asked, numbers, linked[-1].references if linked else ())
    taken = {reference.start for reference in references}
    if linked and any(pronoun.start not in taken for pronoun in find_dangling(text)):
        return None
    reasons = [resolved.reason] if resolved.reason else []
    reasons += [f"'{topic}' is said of all parts"] if topic else []
    reasons += [f"'{text[ref.start : ref.end]}' is the answer of sub-query {ref.sub_query}" for ref in references]
    return LinkedPart(text, references, tuple(reasons))


def _find_topic(text: str, first: str) -> str | None:
    """'For X' in front of the first part, where a short part after it names nothing: '... and what was the debt?'"""
    topic = _TOPIC.match(first)
    quoted = find_quoted(text)
    words = read_words(text)
    if topic is None or len(words) > _MAX_TOPIC_WORDS or read_asking(words, 0, len(words)) is None:
        return None
    said = {word.lower for word in words}
    if "the" not in said or "i" in said or "" in said or said & PREPOSITIONS:
        return None
    if find_pronouns(text, words) or find_names(text, words, quoted):
        return None
    return topic[1]


def read_asked(text: str) -> Asked | None:
    """What a question asks for, or None where it does not show."""
    words = read_words(text[:MAX_CHARS])
    asking = read_asking(words, 0, len(words))
    if asking is None:
        return None
    if asking.head is None:
        if asking.request in ("compute", "calculate", "multiply", "add", "subtract", "divide", "count", "solve"):
            return Asked("result", "thing", True)
        return _read_definite(text, words, asking.first + 1)
    head = words[asking.head].lower.removesuffix("'s")
    following = words[asking.head + 1] if asking.head + 1 < len(words) else None
    if head in ("who", "whom"):
        named = asking.head + 2 < len(words) and words[asking.head + 2].capitalised
        about_named = following is not None and following.lower in AUXILIARIES and named
        return None if about_named else Asked(None, "person", True)
    if head in ("where", "when"):
        return Asked(None, "place" if head == "where" else "time", False)
    if head == "how":
        return Asked("number", "thing", False) if following and following.lower in ("many", "much") else None
    if head not in ("which", "what") or following is None:
        return None
    if following.lower in AUXILIARIES or words[asking.head].lower.endswith("'s"):
        return _read_definite(text, words, asking.head + 1)
    end = noun_phrase_end(text, words, asking.head + 1)
    phrase = [word.lower for word in words[asking.head + 1 : end]]
    if not phrase:
        return None
    noun = next((word for word in phrase if word in NOUNS), phrase[0])
    after = words[end].lower if end < len(words) else ""
    inverted = after in AUXILIARIES and end + 1 < len(words) and words[end + 1].lower in ("it", "that", "this")
    return Asked(noun, NOUNS.get(noun), after not in ("do", "does", "did", "has", "have") and not inverted)


def _read_definite(text: str, words: Sequence[Word], first: int) -> Asked | None:
    """What 'the name of the function that ...' asks for."""
    for at in range(first, min(first + 4, len(words))):
        if words[at].lower != "the":
            continue
        end = noun_phrase_end(text, words, at + 1)
        if end == at + 1:
            return None
        noun = words[end - 1].lower
        if noun == "name" and [word.lower for word in words[end : end + 2]] == ["of", "the"] and end + 2 < len(words):
            noun = words[end + 2].lower
        noun = next((word.lower for word in words[at + 1 : end] if word.lower in NOUNS), noun)
        return Asked(noun, NOUNS.get(noun), False)
    return None


def _find_references(
    text: str, asked: Sequence[Asked | None], numbers: Mapping[int, SubQueryId], earlier: Sequence[Reference]
) -> tuple[Reference, ...]:
    found: list[Reference] = []
    for pronoun in [*find_dangling(text), *_find_definites(text, asked)]:
        target = None
        if earlier and pronoun.word.lower() in ("it", "its"):  # goes on about what the part before speaks of
            thing = asked[earlier[0].sub_query - 1]
            target = earlier[0].sub_query if thing and thing.kind != "person" else None
        target = target or _find_asked(pronoun, asked) or _find_asked(pronoun, asked, nothing_named=True)
        if target is not None:
            found.append(Reference(pronoun.start, pronoun.end, target))
    for number in _NUMBERED.finditer(text):
        target = numbers.get(int(number[1]))
        before = text[max(0, number.start() - 12) : number.start()].lower().split()[-1:]
        if target is not None and target <= len(asked) and not _NOT_A_PART.intersection(before):
            found.append(Reference(number.start(), number.end(), target))
    found.sort(key=lambda reference: reference.start)
    return tuple(ref for at, ref in enumerate(found) if at == 0 or ref.start >= found[at - 1].end)


def _find_definites(text: str, asked: Sequence[Asked | None]) -> list[Pronoun]:
    """'the function', 'the result' with nothing after that says which one."""
    nouns = {thing.noun for thing in asked if thing and thing.noun}
    if any(thing and thing.kind == "thing" for thing in asked):
        nouns |= {"result"}
    words = read_words(text)
    found: list[Pronoun] = []
    for at in range(len(words) - 1):
        noun = words[at + 1]
        after = words[at + 2].lower if at + 2 < len(words) else ""
        if words[at].lower == "the" and noun.lower in nouns and after not in _NARROWING:
            found.append(
                Pronoun(words[at].start, noun.end, "noun", NOUNS.get(noun.lower), text[words[at].start : noun.end])
            )
    return found


def _find_asked(pronoun: Pronoun, asked: Sequence[Asked | None], nothing_named: bool = False) -> SubQueryId | None:
    """The number of the nearest part that asks for what a pronoun means.

    Where no name fits (`nothing_named`), 'it' may also mean what was asked beside the subject: 'which team does X lead
    and where does it meet'.
    """
    for number in range(len(asked), 0, -1):
        thing = asked[number - 1]
        if thing is None:
            continue
        kind = thing.kind if thing.noun or thing.kind != "person" else None
        it = nothing_named and pronoun.noun == "thing" and pronoun.word.lower() in ("it", "its")
        if _means(pronoun, thing) or (it and kind in ("place", "company", "code", "team")):
            return SubQueryId(number)
    return None


def _means(pronoun: Pronoun, asked: Asked) -> bool:
    if pronoun.form == "bare":
        return False
    words = pronoun.word.lower().removesuffix("'s").split()
    noun = words[-1]
    if len(words) > 1:
        if asked.noun is None:
            return pronoun.noun is not None and pronoun.noun == asked.kind
        if noun == asked.noun or (noun in _RESULTS and asked.kind == "thing"):
            return True
        return noun in _OPEN_NOUNS and pronoun.noun == asked.kind
    if pronoun.noun in ("person", "place"):
        return asked.kind == pronoun.noun
    return asked.is_subject and asked.noun is not None and asked.kind not in ("person", "time")


def complete_sub_query(sub_query: SubQuery, answers: Mapping[SubQueryId, SubAnswer]) -> str:
    """The sub-query's text with the answers in the place of its references.

    Every need must have an answer (see `missing_needs`). Answers are data: nothing in them is interpreted.
    """
    pieces: list[str] = []
    at = 0
    for reference in sub_query.references:
        before = sub_query.text[at : reference.start]
        pieces += [before, _fit(sub_query.text, reference, clean_answer(answers[reference.sub_query].text))]
        at = reference.end
    return "".join([*pieces, sub_query.text[at:]])


def missing_needs(sub_query: SubQuery, answers: Mapping[SubQueryId, SubAnswer]) -> tuple[SubQueryId, ...]:
    """The needs whose answer is not there, failed, is empty or is a refusal."""
    return tuple(need for need in sub_query.needs if need not in answers or not _is_usable(answers[need]))


def _is_usable(answer: SubAnswer) -> bool:
    text = clean_answer(answer.text)
    return answer.failure is None and bool(text) and text.casefold() != REFUSAL.rstrip(".").casefold()


def clean_answer(text: str) -> str:
    """An answer as it stands inside a sentence: no citation marks, no full stop, on one line."""
    words = _MARKS.sub("", text).split()
    clean = " ".join(words).rstrip(".").rstrip()
    if len(clean) <= MAX_ANSWER_CHARS:
        return clean
    return clean[:MAX_ANSWER_CHARS].rsplit(" ", 1)[0]


def _fit(text: str, reference: Reference, answer: str) -> str:
    """The answer with the ending or preposition that the words it replaces had."""
    word = text[reference.start : reference.end].lower()
    first, _, rest = answer.partition(" ")
    before = text[: reference.start].split()[-1:]
    if first.lower() in PREPOSITIONS and rest and (before and before[0].lower() in PREPOSITIONS):
        answer = rest
    if word == "there":
        return answer if first.lower() in PREPOSITIONS and rest else f"in {answer}"
    following = text[reference.end : reference.end + 2].lstrip()[:1].isalnum()
    if word.endswith("'s") or (word in _POSSESSIVES and following):
        return f"{answer}'s"
    return answer

"""Claims: the figures, dates and plain statements of a text, each with the words of what it is about.

The subject of a claim is the content words of its clause, completed from the sub-query where the clause leaves them out
('It was 12 million.'). Names, periods and qualifiers ('net', 'for children') are words of the subject, so that a
difference in any of them makes it another subject.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from router.content_words import WORD, list_content_words, read_polarity, split_words, stem, unify
from router.quantity import Date, Figure, find_dates, find_figures
from router.question import Citation, SubAnswer

MAX_TEXT_CHARS = 4_000
"""Read of one sub-answer or passage; an answer of 512 tokens has about 2,500 characters."""
MAX_CLAIMS = 32
"""Of one sub-answer."""
MAX_SENTENCE_CHARS = 400
MAX_VALUES = 8
"""In one sentence; more are a table or a list, where a clause does not say what a figure is of."""
MAX_STATEMENT_WORDS = 12
_SHOWN_CHARS = 120

Kind = Literal["figure", "date", "yes_no"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A sub-query as context: its words in order, and the periods and amounts that it names."""

    words: tuple[str, ...]
    names: frozenset[str]
    periods: frozenset[str]
    counted: str | None
    about_date: bool
    is_yes_no: bool
    is_negated: bool


@dataclass(frozen=True, slots=True)
class Stated:
    """One claim before it meets others; `value` is True or False for a statement."""

    kind: Kind
    keys: tuple[tuple[object, ...], ...]
    subject: tuple[str, ...]
    value: Figure | Date | bool
    text: str
    citations: tuple[Citation, ...]


_HEDGES = split_words(
    "if unless would could might should perhaps maybe possibly probably likely whether either respectively unclear "
    "unknown estimate guess assume suppose hypothetical example"
)
_DATE_EVENTS = frozenset(
    map(
        stem,
        split_words(
            "founded established born died built opened closed published released launched signed due expires ends "
            "starts begins invented discovered deadline completed elected introduced created"
        ),
    )
)
_DATE_ASKED = re.compile(r"^\W*(?:when|since when|(?:in |on )?(?:what|which) (?:year|date|day|month))\b", re.IGNORECASE)
_YES_NO_ASKED = re.compile(
    r"^\W*(?:is|are|was|were|do|does|did|can|could|has|have|had|will|would|should|may|must)\b(?!.*\bor\b)",
    re.IGNORECASE,
)
_YES_NO_SAID = re.compile(r"^\W*(yes|no)(?=\s*(?:$|[.,;:!–—\[]|it\b|they\b|he\b|she\b|there\b))", re.IGNORECASE)
_BUT = re.compile(r"\b(?:but|only|unless|except|depends?|sometimes|yes and no|partly)\b", re.IGNORECASE)
_COUNTED = re.compile(r"\bhow many ([A-Za-z]{3,30})\b", re.IGNORECASE)
_MARK = re.compile(r"\[([1-9]\d{0,3}(?: ?, ?[1-9]\d{0,3}){0,15})\]")
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_SENTENCE_END = re.compile(r"(?<=[.!?])(?:\s*(?:\[[\d, ]{1,80}\]))*\s+(?=[\"'(]?[A-Z0-9€$£])|\n+")
_ITEM = re.compile(r"^\s*(?:[-*•]|\d{1,3}[.)])\s+")
_SEGMENT = re.compile(r"(?<!\d),(?=\s)|,(?!\d)|[;:()]|\s[–—-]\s|\s(?:while|whereas|but|although|which|because)\s")
_AND = re.compile(r"\sand\s")
_DROPPED_LEAD = re.compile(
    r"^\W*(?:according to|thanks to|due to|because|despite|however|overall|in fact|in total|yes|no|so|thus|also)\b",
    re.IGNORECASE,
)
_QUALIFYING = re.compile(
    r"^\W*(?:for|with|without|in|on|at|after|before|per|when|if|excluding|including|during|by|from|until|since)\b",
    re.IGNORECASE,
)
_DATE_BOUND = re.compile(
    r"\b(?:after|before|by|until|till|since|from|between|through|than|to|around|about|circa)\s*(?:the\s)?$",
    re.IGNORECASE,
)
_INDEFINITE = re.compile(r"\b(?:an?|another|new|one of|some)\b", re.IGNORECASE)
_PRONOUN = re.compile(r"\b(?:it|its|they|their|he|she|his|her|this|that|these|those)\b", re.IGNORECASE)


def state_claims(answer: SubAnswer, asked: Asked, names: frozenset[str]) -> list[Stated]:
    """The claims of one sub-answer."""
    by_number = {citation.number: citation for citation in answer.citations}
    stated: list[Stated] = []
    for position, (sentence, marks) in enumerate(split_sentences(mask_code(answer.text[:MAX_TEXT_CHARS]))):
        cited = tuple(by_number[number] for number in marks if number in by_number)
        citations = cited or (answer.citations if len(answer.citations) == 1 else ())
        stated += _state_sentence(sentence, position == 0, asked, citations, names)
        if len(stated) >= MAX_CLAIMS:
            break
    return stated[:MAX_CLAIMS]


def _state_sentence(
    sentence: str, is_first: bool, asked: Asked, citations: tuple[Citation, ...], names: frozenset[str]
) -> Iterator[Stated]:
    words = {word.lower() for word in WORD.findall(sentence)}
    if words & _HEDGES or sentence.rstrip().endswith("?"):
        return
    if is_first and asked.is_yes_no and not asked.is_negated:
        said = _YES_NO_SAID.match(sentence)
        if said is not None:
            if not _BUT.search(sentence) and len(asked.words) > 1:
                value = said[1].lower() == "yes"
                key = ("yes_no", asked.words, asked.periods)
                yield Stated("yes_no", (key,), asked.words, value, said[1].lower(), citations)
            return
    dates = find_dates(sentence)
    figures = find_figures(sentence, dates)
    polarity = read_polarity(sentence)
    if not figures and not dates:
        yield from _state_plain(sentence, polarity, asked, citations, names)
    if polarity is not True or len(figures) + len(dates) > MAX_VALUES:
        return
    for core in _find_cores(sentence, figures or dates):
        yield from _state_core(core, asked, citations, names)


def _state_plain(
    sentence: str, polarity: bool | None, asked: Asked, citations: tuple[Citation, ...], names: frozenset[str]
) -> Iterator[Stated]:
    """A statement without figures: it holds, or it does not."""
    words = list_content_words(sentence, names)
    if _PRONOUN.search(sentence) or not words:
        if not (asked.is_yes_no and words and set(words) <= set(asked.words)):
            return
        words = asked.words
    if polarity is None or _BUT.search(sentence) or len(words) > MAX_STATEMENT_WORDS:
        return
    if len(words) > 2 or (len(words) == 2 and set(words) & names):
        shown = sentence.strip().rstrip(".")
        text = f"'{shown if len(shown) <= _SHOWN_CHARS else shown[:_SHOWN_CHARS] + '…'}'"
        periods = asked.periods if set(words) & set(asked.words) else frozenset[str]()
        yield Stated("yes_no", (("yes_no", words, periods),), words, polarity, text, citations)


def _state_core(core: str, asked: Asked, citations: tuple[Citation, ...], names: frozenset[str]) -> Iterator[Stated]:
    dates = find_dates(core)
    figures = find_figures(core, dates)
    if not figures:
        yield from _state_date(core, dates, asked, citations, names)
        return
    periods = name_periods(dates)
    blank = _blank(core, [*figures, *dates])
    plain = set(list_content_words(blank, names))
    for figure in figures:
        unit = figure.unit
        if unit.startswith("#"):
            unit = f"#{unify(unit[1:]) or asked.counted or ''}"
        if sum(other.unit == figure.unit for other in figures) > 1 or unit == "#":
            continue
        others = {f"{other.readings[0][0]:g} {other.unit}" for other in figures if other is not figure}
        words = _complete(core, plain, periods, asked, names) | others
        if unit != "length":
            words.discard("height")  # 'how high is the rent?'
        words.discard(unit[1:])
        shown = figure.text[:_SHOWN_CHARS]
        keys = _build_keys("figure", unit, words, _order_names(blank, asked, words, names), citations, names)
        yield Stated("figure", keys, _order(words), figure, shown, citations)


def _state_date(
    core: str, dates: tuple[Date, ...], asked: Asked, citations: tuple[Citation, ...], names: frozenset[str]
) -> Iterator[Stated]:
    if len(dates) != 1 or _DATE_BOUND.search(core[: dates[0].start]):
        return
    if dates[0].year is None and dates[0].day is None:
        return
    blank = _blank(core, dates)
    plain = set(list_content_words(blank, names))
    if not (asked.about_date or plain & _DATE_EVENTS) or _INDEFINITE.search(core):
        return
    words = _complete(core, plain, frozenset(), asked, names) - asked.periods
    words -= {"date", "day"}
    keys = _build_keys("date", "", words, _order_names(blank, asked, words, names), citations, names)
    yield Stated("date", keys, _order(words), dates[0], dates[0].text[:_SHOWN_CHARS], citations)


def _build_keys(
    kind: Kind,
    unit: str,
    words: set[str],
    name_order: tuple[str, ...],
    citations: tuple[Citation, ...],
    names: frozenset[str],
) -> tuple[tuple[object, ...], ...]:
    """Where a claim meets others: under its subject, and under the subject completed by a cited document's title.

    A subject of one word says too little, unless what is counted is the other. Names keep their order: what A paid B
    is not what B paid A.
    """
    plain = {word for word in words if not word[0].isdigit() and ":" not in word}
    keys: list[tuple[object, ...]] = []
    if len(plain) + unit.startswith("#") >= (2 if plain & names else 3):
        keys.append((kind, unit, frozenset(words), name_order))
    for title in dict.fromkeys(citation.title for citation in citations):
        of_title = set(list_content_words(title, names))
        if title and plain and not plain <= of_title:
            keys.append((kind, unit, title, frozenset(words | of_title), name_order))
    return tuple(keys)


def _order_names(core: str, asked: Asked, words: set[str], names: frozenset[str]) -> tuple[str, ...]:
    """The names of a subject in the order of its clause, or of the sub-query where the clause leaves some out."""
    wanted = words & names
    for order in (list_content_words(core, names), asked.words):
        said = tuple(word for word in order if word in wanted)
        if len(said) == len(wanted):
            return said
    return ()


def _complete(core: str, plain: set[str], periods: frozenset[str], asked: Asked, names: frozenset[str]) -> set[str]:
    """The subject of a clause: its own words, and those of the sub-query where it is what answers it."""
    shared = plain & set(asked.words)
    own_names = plain & names
    is_other = bool(own_names - set(asked.words)) and bool(asked.names - plain)
    answers = plain <= set(asked.words) or (
        not is_other and (len(shared) > 1 or not own_names or _PRONOUN.search(core) is not None)
    )
    if answers:
        return plain | set(asked.words) | (periods or asked.periods)
    return plain | (periods or (asked.periods if shared else frozenset()))


def read_asked(text: str, names: frozenset[str]) -> Asked:
    text = mask_code(text[:MAX_SENTENCE_CHARS])
    dates = find_dates(text)
    figures = find_figures(text, dates)
    counted = _COUNTED.search(text)
    noun = unify(stem(counted[1])) if counted is not None else None
    words = list_content_words(_blank(text, [*figures, *dates]), names)
    amounts = tuple(f"{figure.readings[0][0]:g} {figure.unit}" for figure in figures)
    return Asked(
        words=(*(word for word in words if word != noun), *amounts),
        names=names & set(words),
        periods=name_periods(dates),
        counted=noun,
        about_date=_DATE_ASKED.match(text) is not None,
        is_yes_no=_YES_NO_ASKED.match(text) is not None,
        is_negated=read_polarity(text) is not True,
    )


def split_sentences(text: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Sentences without their citation marks, and the numbers of those marks."""
    at = 0
    for end in [*(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]:
        raw, at = text[at:end], end
        marks = tuple(dict.fromkeys(int(number) for mark in _MARK.findall(raw) for number in mark.split(",")))
        sentence = _ITEM.sub("", _MARK.sub(" ", raw)).strip()
        if sentence:
            yield sentence[:MAX_SENTENCE_CHARS], marks


def _find_cores(sentence: str, values: Sequence[Figure | Date]) -> Iterator[str]:
    """For each clause with a value: the clause, and what qualifies it before and after."""
    cuts = [0, *(match.start() for match in _SEGMENT.finditer(sentence)), len(sentence)]
    for match in _AND.finditer(sentence):
        before, after = max(cut for cut in cuts if cut <= match.start()), min(c for c in cuts if c > match.start())
        if _holds(values, before, match.start()) and _holds(values, match.start(), after):
            cuts = sorted({*cuts, match.start()})
    spans = [(start, end) for start, end in pairwise(cuts) if start < end]
    valued = [_holds(values, start, end) for start, end in spans]
    lead = ""
    if spans and not valued[0] and not _DROPPED_LEAD.match(sentence[: spans[0][1]]):
        lead = sentence[slice(*spans[0])] + " "
    for at, (start, end) in enumerate(spans):
        if not valued[at]:
            continue
        core = sentence[start:end].lstrip(",;:() ")
        qualifying = []
        for index in range(at + 1, len(spans)):
            piece = sentence[slice(*spans[index])].lstrip(",;:() ")
            if valued[index]:
                break
            if _QUALIFYING.match(piece) or find_dates(piece):
                qualifying.append(piece)
        before_it = [
            piece
            for piece in (sentence[slice(*spans[index])].lstrip(",;:() ") for index in range(1, at))
            if not find_figures(piece, ()) and _QUALIFYING.match(piece)
        ]
        yield " ".join([*([lead] if at else []), *before_it, core, *qualifying])


def _holds(values: Sequence[Figure | Date], start: int, end: int) -> bool:
    return any(start <= value.start < end for value in values)


def name_periods(dates: Iterable[Date]) -> frozenset[str]:
    periods = set()
    for date in dates:
        parts: Mapping[str, int | None] = {"y": date.year, "q": date.quarter, "m": date.month, "d": date.day}
        periods |= {f"{name}:{value}" for name, value in parts.items() if value is not None}
    return frozenset(periods)


def _blank(text: str, spans: Iterable[Figure | Date]) -> str:
    for span in spans:
        text = text[: span.start] + " " * (span.end - span.start) + text[span.end :]
    return text


def mask_code(text: str) -> str:
    """A text without its code."""
    return _CODE.sub(lambda match: " " * len(match[0]), text)


def _order(words: set[str]) -> tuple[str, ...]:
    return tuple(sorted(words))

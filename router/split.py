"""Splitting: one question at its joints, only where both sides ask."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from router.clause import (
    AUXILIARIES,
    CONNECTIVES,
    DETERMINERS,
    MAKING_REQUESTS,
    MODALS,
    OPENERS,
    PREPOSITIONS,
    QUESTION_WORDS,
    TEXT_REQUESTS,
    Asking,
    Word,
    continues_asking,
    continues_objects,
    find_quoted,
    read_asking,
    read_words,
    skip_openers,
    word_set,
)
from router.mention import NOUNS

DEFAULT_MAX_PARTS = 4
SENTENCE_ENDS = ".?!…。？！؟"

_END = re.compile(r"[.?!…。？！؟]+|\n")
_MAX_INTRODUCTION = 12
_SIGN = re.compile(r"^[&+/]\s+")
_BULLET = re.compile(r"[ \t]{0,20}(?:[-*•–]|\(?\d{1,3}[.)]|[a-zA-Z]\))[ \t]{1,20}")
_NUMBER_DOT = re.compile(r"\s{0,20}\(?\d{1,3}")
_ABBREVIATIONS = word_set(
    "e.g i.e mr mrs ms dr prof sr jr st vs inc ltd co corp no fig approx dept est etc cf al jan feb mar apr jun jul "
    "aug sep sept oct nov dec vol pp ca a.m p.m u.s u.k"
)
_INTRODUCTION = word_set(
    "answer these the following questions question please two three four some several my i have here are both of all "
    "and me help with do hi hello hey there thanks thank you good morning afternoon evening great ok okay so quick "
    "things many much very again advance tell more thing one another next list answers dear would like to know want "
    "could can"
)
_TEXT_NOUNS = word_set("following this below text sentence sentences paragraph these")
_GLUED = re.compile(r"[A-Z][\w'’]{1,12}\s")
_ITEM_WORDS = word_set("following these below")
_LEADING = " \t\r\n,;:-–—*•"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a question: [start, end) of it, and what those characters ask when they stand alone."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Segment:
    """Words [first, last) between two sentence ends or line breaks."""

    start: int
    end: int
    first: int
    last: int
    terminal: str
    bulleted: bool


def split_question(text: str, max_parts: int = DEFAULT_MAX_PARTS) -> tuple[Part, ...]:
    """The parts of a question in its order, never none; what exceeds `max_parts` is merged into the last.

    Every word of a part comes from the question. A question that does not split is returned as it is, without the
    space around it.
    """
    quoted = find_quoted(text)
    words = read_words(text)
    spans = _join_segments(_read_segments(text, words, quoted), words, text, quoted)
    if len(spans) > max_parts:
        spans = [*spans[: max_parts - 1], (spans[max_parts - 1][0], spans[-1][1])]
    if len(spans) <= 1:
        return (Part(text.strip() or text, 0, len(text)),)
    parts = (Part(tidy_part(text[start:end]), start, end) for start, end in spans)
    return tuple(part for part in parts if part.text) or (Part(text.strip() or text, 0, len(text)),)


def find_joints(text: str) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Where the rules begin the first part, and where they split: [end of a part, begin of the next).

    What is said between two parts stands in a joint.
    """
    parts = split_question(text, len(text) + 1)
    begins = [max(part.start, text.find(part.text[:6], part.start, part.start + 80)) for part in parts]
    first = begins[0] if len(parts) > 1 else 0
    return first, tuple((part.start, begin) for part, begin in zip(parts[1:], begins[1:], strict=True))


def is_about_text(text: str) -> bool:
    """Whether a question is a request about the text after it: 'Translate the following: ...'."""
    quoted = find_quoted(text)
    words = read_words(text)
    first = next(_read_segments(text, words, quoted), None)
    return first is not None and _introduces_text(first, read_asking(words, first.first, first.last), words, text)


def join_parts(text: str, first: Part, last: Part) -> Part:
    """Neighbouring parts of one question as one part again."""
    return Part(tidy_part(text[first.start : last.end]), first.start, last.end)


def _read_segments(text: str, words: Sequence[Word], quoted: bytes) -> Iterator[_Segment]:
    """Sentences and lines in order, without those that have no word."""
    start = at = 0
    ends = [(found.start(), found.end()) for found in _END.finditer(text)]
    for begin, end in [*ends, (len(text), len(text))]:
        if begin < len(text) and (quoted[begin] or not _ends_sentence(text, start, begin, end, words, at)):
            continue
        bullet = _BULLET.match(text, start)
        bulleted = bullet is not None and not quoted[start]
        first = at
        while at < len(words) and words[at].start < end:
            at += 1
        if bullet and bulleted and first < at and words[first].start < bullet.end():
            first += 1
        if first < at:
            yield _Segment(start, end, first, at, text[begin:end][-1:].strip(), bulleted)
        start = end


def _ends_sentence(text: str, start: int, begin: int, end: int, words: Sequence[Word], at: int) -> bool:
    """Whether the punctuation at [begin, end) ends a sentence that began at `start`."""
    mark = text[begin:end]
    if mark == "\n" or mark[-1] in "。？！؟":
        return True
    if end < len(text) and not text[end].isspace() and text[end] not in "\"')]”»":
        glued = at < len(words) and mark == "?" and _GLUED.match(text, end)
        return bool(glued) and "/" not in text[max(0, begin - 200) : begin].split(" ")[-1]
    if mark != ".":
        return True
    if _NUMBER_DOT.fullmatch(text, start, begin):
        return False
    last = text[max(start, begin - 12) : begin].split()[-1:] or [""]
    word = last[0].lower().lstrip("(\"'")
    following = text[end : end + 24].lstrip()[:1]
    if word in _ABBREVIATIONS:
        return word in ("etc", "a.m", "p.m", "inc", "ltd", "co", "corp") and following.isupper()
    initials = word != "i" and all(len(letter) == 1 and letter.isalpha() for letter in word.split("."))
    return not (initials and last[0][-1:].isupper())


def _join_segments(
    segments: Iterator[_Segment], words: Sequence[Word], text: str, quoted: bytes
) -> list[tuple[int, int]]:
    """The spans of the parts: each segment opens a part, carries on with one, or waits for the next that asks."""
    spans: list[tuple[int, int]] = []
    waiting: int | None = None
    previous: _Segment | None = None
    rest_is_text = is_list = has_items = False
    for segment in segments:
        if waiting is None and not rest_is_text and _is_introduction(segment, words, text):
            previous = segment
            continue
        if segment.bulleted and not spans and waiting is None:
            is_list = True
        asking = read_asking(words, segment.first, segment.last)
        if is_list and segment.bulleted and asking is None and segment.last - segment.first >= 2:
            spans.append((segment.start, segment.end))
        elif spans and (
            rest_is_text
            or (has_items and _is_item(segment, asking))
            or (previous and waiting is None and _carries_on(previous, segment, asking, words))
        ):
            spans[-1] = (spans[-1][0], segment.end)
        elif _asks(segment, asking):
            clauses = _split_clauses(segment, asking, words, text, quoted)
            spans.append((clauses[0][0] if waiting is None else waiting, clauses[0][1]))
            waiting = None
            spans.extend(clauses[1:])
            rest_is_text = _introduces_text(segment, asking, words, text)
            has_items = not segment.bulleted and _announces_items(segment, words, text)
        elif waiting is None:
            waiting = segment.start
        previous = segment
    if waiting is not None:
        end = previous.end if previous else len(text)
        spans = [*spans[:-1], (spans[-1][0], end)] if spans else [(0, len(text))]
    return spans


def _asks(segment: _Segment, asking: Asking | None) -> bool:
    length = segment.last - segment.first
    if asking is None:
        return segment.terminal in ("?", "？", "؟") and length >= 2
    return length >= 2


def _carries_on(previous: _Segment, segment: _Segment, asking: Asking | None, words: Sequence[Word]) -> bool:
    """Whether a line is the rest of the line before, which had no end: wrapped text, not a new question."""
    if previous.terminal:
        return False
    last = words[previous.last - 1].lower
    unfinished = last in PREPOSITIONS or last in DETERMINERS or previous.last - previous.first < 3
    if segment.bulleted:
        return asking is None and segment.terminal not in ("?", "？", "؟")
    return asking is None or unfinished


def _introduces_text(segment: _Segment, asking: Asking | None, words: Sequence[Word], text: str) -> bool:
    """Whether what follows is the text to work on: 'Translate the following sentences: ...'."""
    if asking is None or asking.request not in TEXT_REQUESTS:
        return False
    ends_open = text[segment.start : segment.end].rstrip()[-1:] == ":"
    return ends_open or any(word.lower in _TEXT_NOUNS for word in words[segment.first : segment.last])


def _announces_items(segment: _Segment, words: Sequence[Word], text: str) -> bool:
    """Whether the bullets after a line are what it speaks of: 'What do these mean:'."""
    colon = text[segment.start : segment.end].rstrip().endswith(":")
    return colon or any(word.lower in _ITEM_WORDS for word in words[segment.first : segment.last])


def _is_item(segment: _Segment, asking: Asking | None) -> bool:
    questions = segment.terminal in ("?", "？", "؟") or (asking is not None and asking.kind == "question")
    return segment.bulleted and not questions


def _is_introduction(segment: _Segment, words: Sequence[Word], text: str) -> bool:
    """Whether a segment only announces the questions: 'Please answer the following:'."""
    announces = text[segment.start : segment.end].rstrip()[-1:] in (":", ".", "!", ",")
    announces = announces or any(word.lower == "help" for word in words[segment.first : segment.last])
    return announces and all(word.lower in _INTRODUCTION for word in words[segment.first : segment.last])


def _split_clauses(
    segment: _Segment, asking: Asking | None, words: Sequence[Word], text: str, quoted: bytes
) -> list[tuple[int, int]]:
    """The spans of the asking clauses of one sentence."""
    spans: list[tuple[int, int]] = []
    start, first = segment.start, segment.first
    begin = _after_colon(segment, words, text)
    announced = begin > first and all(word.lower in _INTRODUCTION for word in words[first:begin])
    if begin > first and (announced or asking is None):
        start = words[begin].start if announced and not quoted[words[begin].start] else start
        first, asking = begin, read_asking(words, begin, segment.last)
    embedded: str | None = None
    modal = False
    at = first
    while at < segment.last and asking is not None:
        word = words[at].lower
        gap = text[words[at - 1].end : words[at].start] if at > first else ""
        comma = any(mark in gap for mark in ",;") and not quoted[words[at - 1].end]
        joint = _connective_length(words, at, segment.last, comma) if gap else 0
        sign = gap.strip() in ("&", "+", "/") and not quoted[words[at - 1].end]
        if at - first >= 3 and at > asking.first and (joint or sign or comma):
            following = skip_openers(words, at + joint, segment.last)
            strong = comma or sign or joint == 3 or word == "plus"
            joined = joint or sign or ";" in gap or _may_follow_comma(words, first, following, asking)
            objects = comma and words[at].lower == "the"
            if (joined or objects) and not _is_shared(words, first, at, asking):
                asks = continues_asking(words, following, segment.last, asking, embedded, modal, strong)
                if asks or (
                    (joint or comma) and continues_objects(words, asking, first, at, following, segment.last, strong)
                ):
                    end = _after_quotes(text, words[at - 1].end)
                    spans.append((start, end))
                    start, first = end, following
                    asking = read_asking(words, following, segment.last) if asks else asking
                    embedded, modal, at = None, False, following
                    continue
        if word in QUESTION_WORDS and (asking.head is None or at > asking.head):
            embedded = word
        modal = modal or word in MODALS
        at += 1
    return [*spans, (start, segment.end)]


def _connective_length(words: Sequence[Word], at: int, end: int, comma: bool) -> int:
    """How many words the connective at `at` has; 0 for none."""
    word = words[at].lower
    if word == "as" and [w.lower for w in words[at : min(end, at + 3)]] == ["as", "well", "as"]:
        return 3
    if word in ("then", "also", "but") and not comma:
        asks = at + 1 < end and words[at + 1].lower in QUESTION_WORDS and word != "but"
        return 1 if asks and at + 3 < end else 0
    return 1 if word in CONNECTIVES else 0


def _after_colon(segment: _Segment, words: Sequence[Word], text: str) -> int:
    """The word after the colon of 'I have two questions: who ...', or the first of the segment."""
    for at in range(segment.first + 1, min(segment.first + _MAX_INTRODUCTION, segment.last)):
        if text[words[at - 1].end : words[at].start].strip() == ":":
            return at
    return segment.first


def _may_follow_comma(words: Sequence[Word], first: int, following: int, asking: Asking) -> bool:
    """Whether a clause that only a comma joins may ask on its own: no relative clause, and a whole question before."""
    if asking.request in MAKING_REQUESTS | TEXT_REQUESTS:
        return False
    start, word = asking.first, words[following].lower if following < len(words) else ""
    after = words[following + 1].lower if following + 1 < len(words) else ""
    before = words[following - 1]
    if asking.kind == "question" and words[start].lower in ("when", "where", "why"):
        if words[start + 1].lower not in AUXILIARIES:
            return False
    elif asking.head is None or (asking.kind == "question" and asking.head > start + 1):
        return False
    if word in PREPOSITIONS:
        return after in QUESTION_WORDS and following + 2 < len(words) and words[following + 2].lower in NOUNS
    if word in ("which", "whose"):
        return after in NOUNS
    if word in ("who", "whos"):
        return not before.capitalised and before.lower not in NOUNS
    return word in QUESTION_WORDS


def _after_quotes(text: str, end: int) -> int:
    """The index after the quotation marks and brackets that close right after a word."""
    while end < len(text) and text[end] in '`"”»)]':
        end += 1
    return end


def _is_shared(words: Sequence[Word], first: int, at: int, asking: Asking) -> bool:
    """Whether the clause before word `at` waits for its verb: 'in which room and on which day does ...'."""
    led = asking.kind == "question" and words[asking.first].lower in PREPOSITIONS and asking.head == asking.first + 1
    return led and not any(word.lower in AUXILIARIES for word in words[first : min(at, first + 24)])


_JOINING = OPENERS - word_set("please kindly so ok okay thanks hello hi hey well")


def tidy_part(text: str) -> str:
    """A part without the words that joined it to the one before, and with an end."""
    tidy = _SIGN.sub("", text.strip().lstrip(_LEADING))
    if tidy.startswith(("..", "…")):
        tidy = tidy.lstrip(".… ")
    bullet = _BULLET.match(tidy)
    if bullet:
        tidy = tidy[bullet.end() :]
    words = read_words(tidy[:400])
    begin = skip_openers(words, 0, len(words), _JOINING)
    if 0 < begin < len(words):
        asks = read_asking(words, begin, len(words)) is not None
        tidy = tidy[words[begin].start :] if asks or words[begin].lower == "the" else tidy
    tidy = tidy.rstrip(" \t\r\n,;:")
    if not tidy or tidy[-1] in SENTENCE_ENDS or tidy.endswith("```"):
        return tidy
    words = read_words(tidy[:400])
    asking = read_asking(words, 0, len(words))
    if asking is None:
        return tidy
    asks = asking.kind == "question" or words[asking.first].lower in AUXILIARIES
    return tidy + ("?" if asks else ".")

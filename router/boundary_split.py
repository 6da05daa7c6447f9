"""Splitting with the boundary head: the rules say where a question could be split, the head where it is.

The rules see marks, bullets and asking clauses, and know what is quoted; the head knows what the words mean. With an
encoder that no head was trained for, `router.split.split_question` splits alone.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from router.boundary_head import BEGINS, OUTSIDE, Boundaries, BoundaryHead
from router.clause import OPENERS, SUBJECTS, WORD, find_quoted, read_asking, read_words, word_set
from router.split import Part, find_joints, is_about_text, tidy_part

MAX_GAP_CHARS = 60
"""What stands between two parts and belongs to neither ('and while you are at it'); longer, it stays with the next."""
AGREED = 0.25
ITEMS_AGREE = 0.4
"""Where the rules see a joint too, and where a list's items are judged together, the head need not be as sure."""
STATEMENT = 0.97
"""How sure it must be where a part begins as a statement: 'I run a bakery, and I sell bread. What is the VAT?'"""
SHORT_CHARS = 120
_CLAUSE_ENDS = ",;:.!?\n"
_LEANING = word_set("it its they their them this that these those he she his her such why answer one ones both")
MAX_LIST_CHARS = 4_000
_ITEM = re.compile(r"(?:^|\n)[ \t]*((?:[-*•–>+]|[\[(]?(?:Q ?)?(?:\d{1,2}|[a-hA-H]|i{1,3}|iv)[.):\]]))[ \t]+")
_TRAILING = re.compile(r"(?:[\s,;]+(?:and|also|plus|then|but|as well as)){1,3}\s*$", re.IGNORECASE)
_SIGNS = re.compile(r"\d+|\b(?:[a-hA-H]|i{1,3}|iv)\b|(?<=Q)\d+")
CERTAIN = 2.0
"""Beyond any probability: what rules and head agree on is not questioned again."""
MIN_WORDS = 3
"""Fewer are no part that the head may cut off: 'PS', 'Let', 'in Q3 2025'."""


def split_with_head(
    text: str, states: npt.NDArray[np.floating[Any]], offsets: npt.NDArray[np.int32], head: BoundaryHead, max_parts: int
) -> tuple[Part, ...]:
    """The parts of a question in its order, never none; what exceeds `max_parts` is merged into the last.

    `states` and `offsets` are the question's own, see `router.encoding.Encoded`. Every word of a part comes from the
    question. A question that does not split is returned as it is, without the space around it.
    """
    if is_about_text(text):
        return (Part(text.strip() or text, 0, len(text)),)
    first, joints = find_joints(text)
    found = head.find_boundaries(text, states, offsets, joints)
    return choose_parts(text, _agree_on_joints(text, found, first, joints), head.threshold, max_parts)


def choose_parts(text: str, found: Boundaries, threshold: float, max_parts: int) -> tuple[Part, ...]:
    """The parts that a head's tags make of a text; the items of a list begin parts all together or not at all."""
    whole = (Part(text.strip() or text, 0, len(text)),)
    found = _agree_on_items(text, found)
    offsets = found.offsets
    begins = _choose_beginnings(text, found.probabilities, offsets, threshold)
    if len(begins) < 2:
        return whole
    outside = found.probabilities[:, OUTSIDE] > 0.5
    parts: list[Part] = []
    start = _begin_first(begins[0], outside, offsets)
    for begin, following in zip(begins, [*begins[1:], len(offsets)], strict=True):
        last = following - 1
        while last > begin and outside[last]:
            last -= 1
        limit = int(offsets[following, 0]) if following < len(offsets) else len(text)
        end = _extend(text, int(offsets[last, 1]), limit)
        if end - start > 1:
            end = start + len(_TRAILING.sub("", text[start:end]))
            parts.append(Part(tidy_part(text[start:end]), start, end))
        said = {word.lower for word in read_words(text[end:limit])}
        start = limit if limit - end <= MAX_GAP_CHARS and not said <= OPENERS else end
    parts = [part for part in parts if part.text]
    if len(parts) > max_parts:
        kept, merged = parts[: max_parts - 1], text[parts[max_parts - 1].start : parts[-1].end]
        parts = [*kept, Part(tidy_part(merged), parts[max_parts - 1].start, parts[-1].end)]
    return tuple(parts) if len(parts) > 1 else whole


def _after_question_mark(text: str, left: int, right: int) -> bool:
    """Whether a short question ends before a joint and what follows is short and leans on nothing."""
    before, after = text[max(0, left - SHORT_CHARS) : left], text[right : right + SHORT_CHARS]
    if len(before) == SHORT_CHARS or len(after) == SHORT_CHARS or not before.rstrip().endswith("?"):
        return False
    said = read_words(after)
    leads_on = {"this", "these", "following", "below"} & {word.lower for word in read_words(before)}
    return len(said) > MIN_WORDS and not leads_on and not _LEANING & {word.lower for word in said}


def _agree_on_joints(text: str, found: Boundaries, first_start: int, joints: Sequence[tuple[int, int]]) -> Boundaries:
    """The tags with a beginning wherever the rules see one too and the head does not think it unlikely.

    What the rules leave out in front of the first part is outside. Where both see a second part, there is a first one,
    though a greeting may have kept the head from seeing it begin: 'Hi, quick one: what ..., and who ...'.
    """
    probabilities = found.probabilities.copy()
    begins = int(np.searchsorted(found.offsets[:, 0], first_start))
    if 0 < begins < len(probabilities):
        probabilities[:begins] = (1, 0, 0)
        probabilities[begins] = (0, CERTAIN, 0)
    for left, right in joints:
        first, last = np.searchsorted(found.offsets[:, 0], (left, right))
        window = probabilities[first : last + 1, BEGINS]
        if not len(window):
            continue
        mark = len(joints) == 1 and _after_question_mark(text, left, right)
        if window.max() > AGREED or mark:
            at = last if mark and window.max() <= AGREED else first + int(window.argmax())
            probabilities[at, BEGINS] = CERTAIN
            if not (probabilities[:at, BEGINS] > AGREED).any():
                probabilities[_begin_clause(text, probabilities[:at, OUTSIDE] > 0.5, found.offsets), BEGINS] = CERTAIN
    return replace(found, probabilities=probabilities)


def _begin_clause(text: str, outside: npt.NDArray[np.bool_], offsets: npt.NDArray[np.int32]) -> int:
    """The token after the last mark before the first that is not outside."""
    first = int(np.argmin(outside))
    mark = max(text.rfind(mark, 0, int(offsets[first, 0])) for mark in _CLAUSE_ENDS)
    return int(np.searchsorted(offsets[:, 0], mark + 1))


def _agree_on_items(text: str, found: Boundaries) -> Boundaries:
    """The tags with what the head thinks of most items of a list said of all, and their marks outside."""
    quoted = find_quoted(text[:MAX_LIST_CHARS])
    marks: dict[str, list[re.Match[str]]] = {}
    for mark in _ITEM.finditer(text[:MAX_LIST_CHARS]):
        if not quoted[mark.start(1)] or text[mark.start(1)] in "([":
            marks.setdefault(_SIGNS.sub("1", mark[1]), []).append(mark)
    probabilities = found.probabilities.copy()
    starts = found.offsets[:, 0]
    for items in marks.values():
        places = [np.searchsorted(starts, (item.start(1), item.end())) for item in items]
        tokens = [(int(first), int(last)) for first, last in places if last < len(starts)]
        if len(tokens) < 2:
            continue
        agreed = float(np.mean([probabilities[last, BEGINS] for _, last in tokens]))
        for first, last in tokens:
            probabilities[last, BEGINS] = agreed if agreed < ITEMS_AGREE else CERTAIN
            if agreed >= ITEMS_AGREE:
                probabilities[first:last] = (1, 0, 0)
    return replace(found, probabilities=probabilities)


def _choose_beginnings(
    text: str, probabilities: npt.NDArray[np.float32], offsets: npt.NDArray[np.int32], threshold: float
) -> list[int]:
    """The tokens that begin a part: probable, at the beginning of a word, and not inside a quotation or code."""
    quoted = find_quoted(text)
    begins: list[int] = []
    for at in np.flatnonzero(probabilities[:, BEGINS] > threshold):
        start = int(offsets[at, 0])
        inside_quotation = quoted[start] and start > 0 and quoted[start - 1]
        if _is_inside_word(text, start) or inside_quotation:
            continue
        said = read_words(text[start : start + MAX_GAP_CHARS])
        states = bool(said) and said[0].lower in SUBJECTS and read_asking(said, 0, len(said)) is None
        if states and probabilities[at, BEGINS] < STATEMENT:
            continue
        if (
            begins
            and probabilities[begins[-1], BEGINS] < CERTAIN
            and not _may_ask(text, int(offsets[begins[-1], 0]), start)
        ):
            begins.pop()
        begins.append(int(at))
    if (
        len(begins) > 1
        and probabilities[begins[-1], BEGINS] < 1
        and not _may_ask(text, int(offsets[begins[-1], 0]), len(text))
    ):
        begins.pop()
    return begins


def _may_ask(text: str, start: int, end: int) -> bool:
    """Whether what stands there has enough words to be a part, or few that ask."""
    words = read_words(text[start : min(end, start + MAX_GAP_CHARS)])
    return len(words) > MIN_WORDS or (len(words) == MIN_WORDS and read_asking(words, 0, len(words)) is not None)


def _is_inside_word(text: str, at: int) -> bool:
    """Whether `read_words` reads what is before and after a place as one word, as in 'sub-query'."""
    return any(
        found.start() < at for found in WORD.finditer(text, max(0, at - MAX_GAP_CHARS), at + 2) if found.end() > at
    )


def _begin_first(first: int, outside: Sequence[bool] | npt.NDArray[np.bool_], offsets: npt.NDArray[np.int32]) -> int:
    """Where the first part begins: at its first token if all before it is a greeting or the like, else at the start."""
    start = int(offsets[first, 0])
    return start if start <= MAX_GAP_CHARS and all(outside[:first]) else 0


def _extend(text: str, end: int, limit: int) -> int:
    """The end of a part with the rest of its last word, and the marks that close it: '?', quotation marks, brackets."""
    while end < limit and _is_inside_word(text, end):
        end += 1
    while end < limit and not text.startswith("..", end) and text[end] in "?!.…。？！؟`\"”»)]'":
        end += 1
    return end

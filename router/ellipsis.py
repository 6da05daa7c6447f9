"""Ellipsis: 'And in Q3 2025?' said in full, by putting its words in the place of those of the question before."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from router.clause import (
    AUXILIARIES,
    FUNCTION_WORDS,
    PREPOSITIONS,
    QUESTION_WORDS,
    SUBJECTS,
    Word,
    find_quoted,
    noun_phrase_end,
    read_asking,
    read_words,
    word_set,
)
from router.mention import COMPANY_ENDINGS, NOUNS, Mention, choose_mention, find_names, find_periods
from router.split import split_question

_LEAD = re.compile(
    r"\s{0,9}(?:(?:and|or|but|so|ok|okay|also|then|now|well)\b[,\s]{0,5}){0,3}(?:(?:what|how) (?:about|of)\b\s{0,5})?"
    r"(?:(?:that|those|the same)\s{1,5}(?=(?:of|for|in|at)\b))?",
    re.IGNORECASE,
)
_ABOUT = re.compile(r"\s{0,9}(?:(?:and|or|but|so|then)\s{1,5})?(?:what|how)\s{1,5}(?:about|of)\b", re.IGNORECASE)
_BARE = re.compile(
    r"\s{0,9}(?:(?:and|or|but|so|then)\s{1,5})?(?:what|how much|how many|how high|how large)\s{1,5}"
    r"(?:is|was|were|are)\s{1,5}(?:it|that|they)\b\s{0,5}",
    re.IGNORECASE,
)
_HOW_MANY = re.compile(r"how (?:many|much)\b", re.IGNORECASE)
_YEAR = re.compile(r"\b\d{4}\b")
_MAX_WORDS = 8
_NO_FRAGMENT = (
    AUXILIARIES
    | SUBJECTS
    | QUESTION_WORDS
    | word_set("thanks thank yes no great good sorry sure right really perhaps maybe else more hello before after ago")
)


@dataclass(frozen=True, slots=True)
class _Edit:
    """New text for [start, end) of the question before."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class _Fragment:
    """What an elliptical question names: periods, names, and the attribute that it asks for."""

    periods: Sequence[Mention]
    names: Sequence[Mention]
    attribute: str


def opens_ellipsis(text: str) -> bool:
    """Whether a text begins with 'what about', which asks nothing by itself."""
    return _ABOUT.match(text) is not None


def fill_head(text: str, before: str) -> str | None:
    """'how many did B have?' and 'which one saves them?' with the noun that the question before counts or asks for."""
    words = read_words(text)
    asking = read_asking(words, 0, len(words))
    if asking is None or asking.head is None or asking.head + 2 >= len(words):
        return None
    head, after = words[asking.head].lower, words[asking.head + 1]
    counts = head == "how" and after.lower in ("many", "much") and words[asking.head + 2].lower in AUXILIARIES
    one = head == "which" and after.lower in ("one", "ones")
    earlier = read_words(before)
    start = next((at for at in range(min(len(earlier), 8)) if earlier[at].lower == head), len(earlier)) + 1
    if counts and start < len(earlier) and earlier[start].lower == after.lower:
        start += 1
    elif not one:
        return None
    end = noun_phrase_end(before, earlier, start) if counts else start + 1
    if not start < end <= len(earlier) or earlier[start].lower in FUNCTION_WORDS:
        return None
    noun = before[earlier[start].start : earlier[end - 1].end]
    gap = f"{after.text} {noun}" if counts else noun
    filled = text[: after.start] + gap + text[after.end :]
    if counts and not find_periods(text) and find_periods(before):
        period = find_periods(before)[-1]
        body = filled.rstrip(" .?!")
        filled = f"{body} {period.preposition or 'in'} {period.text}{filled[len(body) :]}"
    return filled


def complete_ellipsis(text: str, before: str, bare: bool = False) -> str | None:
    """The whole question that a fragment stands for, or None where `text` is no fragment or fits nothing.

    With `bare` only 'what was it in Q3 2024?' is completed, which has nothing but 'it' in front of the fragment.
    """
    said = _BARE.match(text) if bare else None
    if bare and said is None:
        return None
    fragment = _read_fragment(text[said.end() :] if said else text)
    if bare and (fragment is None or fragment.attribute):
        return None
    parts = split_question(before)
    asked = parts[-1].text
    if fragment is not None and fragment.periods and not (fragment.names or fragment.attribute):
        asked = next((part.text for part in reversed(parts) if find_periods(part.text)), asked)
    quoted = find_quoted(asked)
    words = read_words(asked)
    asks = read_asking(words, 0, len(words)) is not None or asked.rstrip().endswith("?")
    if not asks:
        return None
    replaced = _replace_alike(text, asked, words) if not bare else None
    if replaced is not None or fragment is None:
        return replaced
    names = find_names(asked, words, quoted)
    edits: list[_Edit] = []
    added: list[str] = []
    for period in fragment.periods:
        edit = _replace_period(period, find_periods(asked))
        if edit:
            edits.append(edit)
        else:
            default = "on" if period.sort == "weekday" else "in"
            added.append(f"{period.preposition or default} {period.text}")
    for name in fragment.names[:1]:
        target = _name_target(name, names)
        if fragment.attribute and target and target.is_surely("company") and not name.fits("company"):
            return None  # 'the height of the tower' is not asked of the same company and quarter
        other = target is not None and name.preposition == "of" and target.preposition not in ("of", None)
        if fragment.attribute and other:
            return None  # 'the type of b' after 'the default of x in a' stands alone
        if target:
            edits.append(_Edit(target.start, target.end, name.text))
        elif name.preposition:
            added.append(f"{name.preposition} {name.text}")
        else:
            return None
    if fragment.attribute:
        edit = _replace_attribute(fragment.attribute, asked, words, names)
        if edit is None:
            return _build_core(fragment, names, find_periods(asked))
        edits.append(edit)
    return _apply(asked, edits, added)


def _read_fragment(text: str) -> _Fragment | None:
    lead = _LEAD.match(text)
    led = lead is not None and bool(lead.group().strip())
    rest = text[lead.end() if lead else 0 :].strip().rstrip("?.!, ")
    quoted = find_quoted(rest)
    words = read_words(rest)
    if not words or len(words) > _MAX_WORDS or read_asking(words, 0, len(words)) is not None:
        return None
    if any(word.lower in _NO_FRAGMENT for word in words):
        return None
    periods = find_periods(rest)
    names = find_names(rest, words, quoted)
    taken = [*periods, *names]
    left = [
        at
        for at, word in enumerate(words)
        if word.lower not in FUNCTION_WORDS and not any(m.start <= word.start < m.end for m in taken)
    ]
    attribute = ""
    if left:
        end = noun_phrase_end(rest, words, left[0])
        if left[-1] >= end or words[end - 1].lower in COMPANY_ENDINGS or NOUNS.get(words[end - 1].lower) == "time":
            return None
        article = words[left[0] - 1].lower == "the" if left[0] else False
        attribute = ("the " if article else "") + rest[words[left[0]].start : words[end - 1].end]
        noun = words[end - 1].lower
        if not names and NOUNS.get(noun) in ("place", "company", "team") and article:
            names, attribute = [Mention("name", attribute, 0, len(rest))], ""
    asks = led or text.rstrip().endswith("?")
    if not (taken or left) or (not asks and (names or attribute)):
        return None
    return _Fragment(periods, names, attribute)


def _replace_alike(text: str, asked: str, words: Sequence[Word]) -> str | None:
    """'and of a square?' in the place of the last 'of ...'; 'and simple interest?' in that of '... interest'."""
    lead = _LEAD.match(text)
    led = lead is not None and bool(lead.group().strip())
    rest = text[lead.end() if lead else 0 :].strip().rstrip("?.!, ")
    said = read_words(rest)
    if not (led or text.rstrip().endswith("?")) or not 2 <= len(said) <= _MAX_WORDS:
        return None
    if any(not word.lower or word.lower in _NO_FRAGMENT for word in said) or find_periods(rest):
        return None
    span = _alike_span(rest, said, asked, words)
    if span is None:
        return None
    replaced = [name for name in [*_names_in(asked, words), *find_periods(asked)] if name.end > span[0]]
    replaced = [name for name in replaced if name.start < span[1]]
    if bool(replaced) != bool(_names_in(rest, said)) or any(name.is_period for name in replaced):
        return None
    return asked[: span[0]] + rest[said[0].start :] + asked[span[1] :]


def _alike_span(rest: str, said: Sequence[Word], asked: str, words: Sequence[Word]) -> tuple[int, int] | None:
    """Where the question before says what is built like the fragment."""
    first = said[0].lower
    of = next((word.lower for word in said[1:] if word.lower in PREPOSITIONS), None)
    if first in ("of", "for"):
        at = next((n for n in range(len(words) - 2, 0, -1) if words[n].lower == first), None)
        if at is None:
            return None
        noun = at + 2 if words[at + 1].lower in ("the", "a", "an") else at + 1
        last = max(at + 1, noun_phrase_end(asked, words, noun) - 1)
        last -= last > noun and words[last].lower.endswith("ed")  # 'how is the area of a circle computed'
        return words[at].start, _trim_period(asked) if of else words[last].end
    if first == "the" and of == "of" and not _names_in(rest, said):
        at = next((n for n in range(len(words) - 2, 1, -1) if words[n].lower == "of"), 0)
        begin = next((n for n in range(at - 1, max(-1, at - 5), -1) if words[n].lower in FUNCTION_WORDS), 0)
        return (words[begin].start, _trim_period(asked)) if begin and words[begin].lower == "the" else None
    article = first in ("the", "a", "an")
    nouns = [word.lower for word in said[article:]]
    if not 2 <= len(nouns) <= 3 or any(noun in FUNCTION_WORDS for noun in nouns):
        return None
    for at in range(len(words) - 1, len(nouns) - 1, -1):
        both = {words[at].lower, nouns[-1]}
        if len(both) == 1 or both <= COMPANY_ENDINGS:
            begin = at - len(nouns) + 1
            begin -= article and words[begin - 1].lower in ("the", "a", "an")
            return words[begin].start, words[at].end
    return None


def _names_in(text: str, words: Sequence[Word]) -> list[Mention]:
    """Names whose place is found by name, not by likeness: 'the Veldra team' is left to those too."""
    return find_names(text, words, find_quoted(text))


def _trim_period(asked: str) -> int:
    """Where a question ends without its mark and the period at its end."""
    body = len(asked.rstrip(" .?!"))
    periods = find_periods(asked)
    if periods and periods[-1].end == body and periods[-1].preposition:
        return len(asked[: periods[-1].start - len(periods[-1].preposition) - 1].rstrip())
    return body


def _replace_period(period: Mention, periods: Sequence[Mention]) -> _Edit | None:
    """The period in the place of one of the same sort; a bare quarter or month keeps the year that stood there."""
    same = [other for other in periods if (other.sort == "weekday") == (period.sort == "weekday")]
    same = [other for other in same if other.sort == period.sort] or same
    if not same:
        return None
    target = same[-1]
    year = _YEAR.search(target.text)
    if period.sort == "year" and target.sort != "year":
        if year is None:
            return _Edit(target.end, target.end, f" {period.text}")
        return _Edit(target.start + year.start(), target.start + year.end(), period.text)
    if period.sort in ("quarter", "month") and year and not _YEAR.search(period.text):
        return _Edit(target.start, target.end, f"{period.text} {year.group()}")
    return _Edit(target.start, target.end, period.text)


def _name_target(name: Mention, names: Sequence[Mention]) -> Mention | None:
    """The name whose place a fragment's name takes; 'in France' takes only the place of another 'in ...'."""
    places = ("in", "at", "near", "from", "on")
    if name.preposition in places:
        return next((other for other in reversed(names) if other.preposition in places), None)
    noun = NOUNS.get(name.text.lower().split()[-1])
    alike = [other for other in names if NOUNS.get(other.text.lower().split()[-1]) == noun]
    return choose_mention(alike, None) or choose_mention(names, None)


def _replace_attribute(attribute: str, asked: str, words: Sequence[Word], names: Sequence[Mention]) -> _Edit | None:
    """The attribute in the place of the one asked before: 'the revenue of', 'X's revenue', 'what revenue did'."""
    bare = attribute.removeprefix("the ")
    inverted = False
    candidates: list[_Edit] = []
    for at, word in enumerate(words):
        inverted = inverted or word.lower in ("do", "does", "did")
        end = noun_phrase_end(asked, words, at + 1)
        if end == at + 1 or end > len(words):
            continue
        start, following = words[at + 1].start, words[end].lower if end < len(words) else ""
        if any(name.start < words[end - 1].end and start < name.end for name in names):
            continue
        edit = _Edit(start, words[end - 1].end, bare)
        owned = word.text.endswith(("'s", "’s")) and any(name.end == word.end - 2 for name in names)
        asked_for = word.lower in ("what", "which") and following in AUXILIARIES
        if (word.lower == "the" and following == "of") or owned or asked_for:
            return edit
        if word.lower == "the" and not (inverted and not following):
            candidates.append(edit)
    return candidates[0] if candidates else None


def _build_core(fragment: _Fragment, names: Sequence[Mention], periods: Sequence[Mention]) -> str | None:
    """'the net income of Norvane Systems in Q2 2025?', where the question before has no place for an attribute."""
    name = fragment.names[0] if fragment.names else choose_mention(names, None)
    if name is None:
        return None
    period = next(iter([*fragment.periods, *periods]), None)
    when = f" {period.preposition or 'in'} {period.text}" if period else ""
    return f"{fragment.attribute} of {name.text}{when}?"


def _apply(asked: str, edits: Sequence[_Edit], added: Sequence[str]) -> str | None:
    result = asked
    limit = len(asked) + 1
    for edit in sorted(edits, key=lambda edit: edit.start, reverse=True):
        if edit.end > limit:
            return None
        limit = edit.start
        result = result[: edit.start] + edit.text + result[edit.end :]
    if added:
        body = result.rstrip()
        mark = body[-1:] if body[-1:] in ".?!" else ""
        result = " ".join([body.rstrip(".?!"), *added]) + mark
    return result

"""Mentions: the names, code identifiers, quotations and periods that a text speaks of."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from router.clause import FUNCTION_WORDS, PREPOSITIONS, REQUESTS, Word, word_set

Sort = Literal["name", "quotation", "code", "quarter", "month", "year", "weekday"]
Noun = Literal["person", "place", "company", "code", "team", "time", "thing"]

_KINDS: dict[Noun, str] = {
    "person": "person man woman employee author leader founder owner manager ceo director driver baker chairman "
    "chairwoman member player teacher doctor engineer maintainer customer guy lady actor writer president worker",
    "place": "place town city village country street region station museum library bakery clinic workshop theatre "
    "market archive pool garden school studio harbour mill hall river lake mountain island room building shop tower "
    "bridge lighthouse windmill church castle palace port airport hotel restaurant park forest valley",
    "company": "company firm business corporation bank supplier organisation organization",
    "code": "function module file class method variable script package program command table column field endpoint "
    "parameter constant decorator",
    "team": "team group department unit",
    "time": "time date day hour month year quarter period",
    "thing": "result answer number value sum product amount total book plant festival instrument animal formula "
    "equation theorem example series",
}
NOUNS: dict[str, Noun] = {noun: kind for kind, nouns in _KINDS.items() for noun in nouns.split()}
"""What kind of thing a noun stands for, for the nouns that people put after 'that' and 'the same'."""

_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_PERIOD = re.compile(
    r"(?P<quarter>\b(?:[Qq][1-4](?:[ ](?:of[ ])?\d{4})?"
    r"|the[ ](?:first|second|third|fourth)[ ]quarter(?:[ ]of[ ]\d{4})?)\b)"
    rf"|(?P<month>\b(?:{_MONTHS})[ ]\d{{4}}\b|\b(?:{_MONTHS.replace('|May', '')})\b|(?<=in )May\b)"
    r"|(?P<year>\b(?:19|20)\d{2}\b)"
    r"|(?P<weekday>\b(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?\b)"
)
COMPANY_ENDINGS = word_set(
    "systems group energy foods robotics logistics bank labs motors textiles health marine works optics air inc ltd "
    "gmbh corp corporation company holdings industries software technologies capital partners media"
)
_PERSON_VERBS = word_set("live lives work works train trains lead leads practise practises study studies teach teaches")
"""What only a person does: 'Where does A B live?' tells what A B is."""
_ADJUNCTS = word_set("in at near from to on into inside")


@dataclass(frozen=True, slots=True)
class Mention:
    """What [start, end) of a text names; `preposition` is the word right before it, where that is one."""

    sort: Sort
    text: str
    start: int
    end: int
    preposition: str | None = None
    opens_sentence: bool = False
    is_person: bool = False

    @property
    def is_period(self) -> bool:
        """Whether it says when."""
        return self.sort in ("quarter", "month", "year", "weekday")

    def fits(self, wanted: Noun | None) -> bool:
        """Whether it may be a person, a place, ... as far as its spelling tells; None fits everything."""
        if wanted is None:
            return True
        if wanted == "thing" or self.is_person:
            return wanted == "person" or not self.is_person
        words = self.text.lower().split()
        noun = NOUNS.get(words[-1])
        if wanted == "code":
            return self.sort in ("code", "quotation")
        if self.sort != "name":
            return False
        if words[-1] in COMPANY_ENDINGS and words[0] != "the":
            return wanted == "company"
        if words[0] == "the" or noun is not None:
            return noun == wanted
        return wanted in ("person", "place", "company", "team")

    def is_surely(self, wanted: Noun | None) -> bool:
        """Whether its spelling or preposition leaves no doubt that it is of that kind."""
        if wanted == "place" and self.preposition in _ADJUNCTS:
            return self.fits(wanted)
        open_kind = self.sort == "name" and self.fits("person") and self.fits("place")
        return self.fits(wanted) and not open_kind


def find_periods(text: str) -> list[Mention]:
    """Quarters, months, years and weekdays in order."""
    return [
        Mention(_sort(found), found.group(), found.start(), found.end(), _preposition_before(text, found.start()))
        for found in _PERIOD.finditer(text)
    ]


def _sort(found: re.Match[str]) -> Sort:
    if found["quarter"]:
        return "quarter"
    if found["month"]:
        return "month"
    return "year" if found["year"] else "weekday"


def find_names(text: str, words: Sequence[Word], quoted: bytes) -> list[Mention]:
    """Names, code identifiers and quotations in order, without periods."""
    mentions = _find_quotations(text, quoted)
    periods = {position for period in find_periods(text) for position in range(period.start, period.end)}
    at = 0
    while at < len(words):
        word = words[at]
        if not word.lower or word.start in periods:
            at += 1
        elif _is_identifier(text, word):
            mentions.append(_mention("code", text, word.start, word.end))
            at += 1
        elif _may_name(text, words, at):
            last = _name_end(text, words, at, periods)
            name = _name(text, words, at, last)
            following = words[last + 1].lower if last + 1 < len(words) else ""
            manner = any(word.lower == "how" for word in words[max(0, at - 2) : at])  # 'how X works' is said of things
            lives = following in _PERSON_VERBS and not manner and name.fits("person")
            mentions.append(replace(name, is_person=lives))
            at = last + 1
        else:
            at += 1
    return sorted(mentions, key=lambda mention: mention.start)


def choose_mention(mentions: Sequence[Mention], wanted: Noun | None) -> Mention | None:
    """The mention that a pronoun most likely means: the last one that fits, place adverbials after the others."""
    fitting = [mention for mention in mentions if mention.fits(wanted)]
    preferred = [
        mention
        for mention in mentions
        if mention.fits(wanted)
        and not (mention.opens_sentence and " " not in mention.text)
        and (wanted == "place") == (mention.preposition in _ADJUNCTS)
    ]
    return next(reversed(preferred or fitting), None)


def _find_quotations(text: str, quoted: bytes) -> list[Mention]:
    """What stands in backticks or quotation marks on one line, up to 60 characters."""
    mentions = []
    start = quoted.find(1)
    while start >= 0:
        end = quoted.find(0, start)
        end = len(text) if end < 0 else end
        span = text[start:end]
        if 2 < len(span) <= 62 and "\n" not in span and span[0] in '`"“«' and not span.startswith("```"):
            mentions.append(_mention("code" if span[0] == "`" else "quotation", text, start, end))
        start = quoted.find(1, end)
    return mentions


def _mention(sort: Sort, text: str, start: int, end: int, opens: bool = False) -> Mention:
    return Mention(sort, text[start:end], start, end, _preposition_before(text, start), opens)


def _preposition_before(text: str, start: int) -> str | None:
    before = text[max(0, start - 12) : start].lower().split()
    return before[-1] if before and before[-1] in PREPOSITIONS else None


def _is_identifier(text: str, word: Word) -> bool:
    if text.startswith("()", word.end):
        return True
    if word.text.islower() and "_" not in word.text:
        return False
    inner = word.text.strip("_")
    return "_" in inner or any(a.islower() and b.isupper() for a, b in pairwise(inner))


def _may_name(text: str, words: Sequence[Word], at: int) -> bool:
    word = words[at]
    bare = word.lower.removesuffix("'s")
    if not word.capitalised or bare in FUNCTION_WORDS or bare == "i":
        return False
    following = words[at + 1].lower if at + 1 < len(words) else ""
    if _opens_sentence(text, words, at) and following in ("of", "for"):
        return False  # 'Revenue of X'
    return not (_opens_sentence(text, words, at) and (bare in REQUESTS or bare in _GREETINGS))


_GREETINGS = word_set("thanks thank yes no great good dear sorry sure right really perhaps maybe")


def _opens_sentence(text: str, words: Sequence[Word], at: int) -> bool:
    return at == 0 or any(mark in text[words[at - 1].end : words[at].start] for mark in ".?!:\n")


def _name_end(text: str, words: Sequence[Word], at: int, periods: set[int]) -> int:
    """The last word of the name that begins at word `at`."""
    last = at
    while last + 1 < len(words) and not words[last].lower.endswith("'s"):
        following = words[last + 1]
        gap = text[words[last].end : following.start]
        if gap not in (" ", " & ") or not following.lower or following.start in periods:
            break
        named = following.capitalised or following.text.isdigit()
        if not named or following.lower in FUNCTION_WORDS:
            break
        last += 1
    return last


def _name(text: str, words: Sequence[Word], at: int, last: int) -> Mention:
    """The name of words [at, last], with its article and kind: 'the Harrow bakery', 'the Orbit team'."""
    start, end = words[at].start, words[last].end
    if words[last].lower.endswith("'s"):
        return _mention("name", text, start, end - 2, _opens_sentence(text, words, at))
    following = words[last + 1] if last + 1 < len(words) else None
    article = at > 0 and words[at - 1].lower == "the" and words[at].start - words[at - 1].end == 1
    kind = following is not None and following.lower in NOUNS and following.start - end == 1
    if article and (kind or words[last].lower in NOUNS):
        start = words[at - 1].start
        end = following.end if kind and following else end
        return Mention("name", "the" + text[start + 3 : end], start, end, _preposition_before(text, start), at == 1)
    return _mention("name", text, start, end, _opens_sentence(text, words, at))

"""Words and clauses: which characters are quoted, what a word is, and whether a clause asks.

Everything here looks ahead a bounded number of words, so that a question of any length is read in linear time.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

# A plan reads its question, its parts and what stands between them several times: six times before this, a third of
# the time of a split.
_KEPT_TEXTS = 16


def word_set(words: str) -> frozenset[str]:
    """The words of a list written with spaces."""
    return frozenset(words.split())


QUESTION_WORDS = word_set(
    "what which who whom whose when where why how what's who's where's when's how's whats whos wheres whens hows"
)
PREPOSITIONS = word_set(
    "in at on by for from to of with during until since under into near about between within per over after before "
    "through against without inside outside"
)
AUXILIARIES = word_set(
    "is are was were am do does did can could will would shall should may might must has have had isn't aren't "
    "wasn't weren't don't doesn't didn't can't couldn't won't wouldn't shouldn't"
)
MODALS = word_set("do does did can could will would shall should may might must to")
REQUESTS = word_set(
    "tell give list explain compute write show find describe calculate name state compare summarize summarise "
    "translate convert define draft look count sort recommend suggest solve determine identify provide create generate "
    "fix implement check say print draw estimate prove design refactor rewrite rephrase paraphrase proofread correct "
    "classify extract outline evaluate answer help read report multiply add subtract divide"
)
TEXT_REQUESTS = word_set("translate summarize summarise rewrite rephrase paraphrase proofread correct classify extract")
MAKING_REQUESTS = word_set(
    "write create draft implement generate design convert refactor fix draw translate rewrite rephrase outline"
)
SUBJECTS = word_set("i you he she it we they there this that these those one anyone someone everyone")
DETERMINERS = word_set(
    "the a an my your his her its our their this that these those any some all each every both no another"
)
OPENERS = word_set(
    "and also then plus please so ok okay well hello hi hey but now next finally first second secondly third or "
    "additionally moreover furthermore thanks kindly firstly thirdly lastly besides oh btw ps p.s"
)
CONNECTIVES = word_set("and also then plus but additionally")
FUNCTION_WORDS = (
    QUESTION_WORDS
    | PREPOSITIONS
    | AUXILIARIES
    | SUBJECTS
    | DETERMINERS
    | OPENERS
    | word_set("me us him them be been being not as well if because than that's it's i'm i'd let same such")
)

_REAL_WORDS = word_set("hat hen here were hose hwy whee")


def _misspell(word: str) -> frozenset[str]:
    """What a slip makes of a word: two letters swapped, one doubled or, of four and more, one left out."""
    places = range(len(word))
    swapped = {word[:at] + word[at + 1] + word[at] + word[at + 2 :] for at in places[:-1]}
    doubled = {word[: at + 1] + word[at:] for at in places}
    shortened = {word[:at] + word[at + 1 :] for at in places if len(word) > 3}
    return frozenset(swapped | doubled | shortened)


_MISSPELT = {
    slip: word
    for word in ("who", "how", "why", "what", "when", "where", "whose", "which")
    for slip in _misspell(word) - QUESTION_WORDS - _REAL_WORDS
}
"""Question words alone, because they are where a question is split: 'Wich team meets today, how do I ...'."""

WORD = re.compile(r"\w+(?:[.'’\-]\w+)*")
_DELIMITER = re.compile(r"[`\"“«()\[\]{}]")
_LOOK_AHEAD = 12
_ASIDES: dict[str, list[tuple[str, ...]]] = {}
for _said in (
    "as well as",
    "while you are at it",
    "while you're at it",
    "while we are at it",
    "by the way",
    "hi there",
    "hello there",
    "hey there",
    "good morning",
    "good afternoon",
    "good evening",
    "on the one hand",
    "on the other hand",
    "in addition",
    "apart from that",
    "besides that",
    "after that",
):
    _ASIDES.setdefault(_said.split()[0], []).append(tuple(_said.split()))
"""What people say before and between questions, by its first word; like an opener it belongs to none."""
_KNOWING = (
    ("i", "want", "to", "know"),
    ("i", "would", "like", "to", "know"),
    ("i'd", "like", "to", "know"),
    ("i", "need", "to", "know"),
    ("i", "wonder"),
    ("i", "was", "wondering"),
    ("i", "need"),
    ("let", "me", "know"),
    ("do", "you", "know"),
)


@dataclass(frozen=True, slots=True)
class Word:
    """A word at [start, end) of its text.

    `lower` is empty where the word is quoted, in code or in parentheses; a misspelt question word is right there.
    """

    text: str
    start: int
    end: int
    lower: str

    @property
    def capitalised(self) -> bool:
        """Whether it is written like a name."""
        return self.text[0].isupper()


@dataclass(frozen=True, slots=True)
class Asking:
    """How a clause asks: from word `first`; `head` is its question word, if it has one."""

    kind: str
    first: int
    head: int | None
    request: str | None = None


@lru_cache(maxsize=_KEPT_TEXTS)
def find_quoted(text: str) -> bytes:
    """One byte per character: 1 inside code, quotation marks or parentheses, delimiters included."""
    quoted = bytearray(len(text))
    unclosed: set[str] = set()
    brackets: list[int] = []
    pairs: list[tuple[int, int]] = []
    covered_to = 0
    for found in _DELIMITER.finditer(text):
        position = found.start()
        if position < covered_to:
            continue
        character = text[position]
        closer = _closer_at(text, position)
        if closer and closer not in unclosed:
            end = text.find(closer, position + len(closer))
            if end >= 0 or closer == "```":
                covered_to = end + len(closer) if end >= 0 else len(text)
                quoted[position:covered_to] = b"\x01" * (covered_to - position)
                continue
            unclosed.add(closer)
        if character in "([{":
            brackets.append(position)
        elif character in ")]}" and brackets:
            pairs.append((brackets.pop(), position + 1))
    covered_to = 0
    for opened, end in sorted(pairs):
        if end > covered_to:
            start = max(opened, covered_to)
            quoted[start:end] = b"\x01" * (end - start)
            covered_to = end
    return bytes(quoted)


def _closer_at(text: str, position: int) -> str | None:
    """What closes the quotation that opens here, if one does."""
    character = text[position]
    if character == "`":
        return "```" if text.startswith("```", position) else "`"
    if character == "“":
        return "”"
    if character == "«":
        return "»"
    if character == '"' and (position == 0 or not text[position - 1].isalnum()):
        return '"'
    return None


@lru_cache(maxsize=_KEPT_TEXTS)
def read_words(text: str) -> tuple[Word, ...]:
    """The words of a text in order."""
    quoted = find_quoted(text)
    words: list[Word] = []
    for found in WORD.finditer(text):
        lower = "" if quoted[found.start()] else found.group().lower().replace("’", "'")
        words.append(Word(found.group(), found.start(), found.end(), _MISSPELT.get(lower, lower)))
    return tuple(words)


def read_asking(words: Sequence[Word], first: int, end: int) -> Asking | None:
    """How the clause of words [first, end) asks, or None for one that does not."""
    end = min(end, len(words), first + _LOOK_AHEAD * 2)
    start = skip_openers(words, first, end)
    if start >= end:
        return None
    word = words[start].lower
    following = words[start + 1].lower if start + 1 < end else ""
    if word in QUESTION_WORDS:
        return Asking("question", start, start)
    if word in PREPOSITIONS and following in QUESTION_WORDS:
        return Asking("question", start, start + 1)
    also = 1 if word == "i" and following == "also" else 0
    for phrase in _KNOWING:
        after = start + also + len(phrase)
        said = [words[start].lower, *(w.lower for w in words[start + also + 1 : min(end, after)])]
        if tuple(said) == phrase:
            return Asking("request", start, _embedded_head(words, after, end), "know")
    if word in AUXILIARIES and (following or start + 1 < end):
        if following == "you":
            verb = next((at for at in range(start + 2, min(start + 4, end)) if words[at].lower in REQUESTS), None)
            if verb is not None:
                return Asking("request", start, _embedded_head(words, verb + 1, end), words[verb].lower)
        return Asking("question", start, None)
    if word in REQUESTS and start + 1 < end:
        return Asking("request", start, _embedded_head(words, start + 1, end), word)
    return _read_opened(words, start, end)


def skip_openers(words: Sequence[Word], first: int, end: int, openers: frozenset[str] = OPENERS) -> int:
    """The index after the openers and asides that a clause begins with."""
    at = first
    while at < end and at - first < _LOOK_AHEAD:
        asides = _ASIDES.get(words[at].lower, ())
        aside = next(
            (said for said in asides if tuple(w.lower for w in words[at : min(end, at + len(said))]) == said), ()
        )
        if not aside and words[at].lower not in openers:
            break
        at += len(aside) or 1
    return at


def _read_opened(words: Sequence[Word], start: int, end: int) -> Asking | None:
    """A question after an adverbial: 'In Q3 2025, what was ...'."""
    if words[start].lower not in PREPOSITIONS:
        return None
    for at in range(start + 2, min(start + _LOOK_AHEAD, end)):
        if words[at].lower in QUESTION_WORDS and words[at].start - words[at - 1].end >= 2:
            return Asking("question", start, at)
    return None


def _embedded_head(words: Sequence[Word], start: int, end: int) -> int | None:
    """The question word right after 'tell me' and the like."""
    return next((at for at in range(start, min(start + 3, end)) if words[at].lower in QUESTION_WORDS), None)


def continues_asking(
    words: Sequence[Word], start: int, end: int, before: Asking, embedded: str | None, modal: bool, comma: bool
) -> bool:
    """Whether a connective before words [start, end) joins another clause that asks.

    `before` is how the clause in front asks; `embedded` is the last question word inside it after its head ('the
    firm which ...') and `modal` says whether it has a verb that could govern another ('how do I read and write').
    """
    start = skip_openers(words, start, end)
    if end - start < 3 or any(word.lower in _SHARED for word in words[start : min(end, start + _LOOK_AHEAD)]):
        return False
    word, following = words[start].lower, words[start + 1]
    if word in PREPOSITIONS and following.lower in QUESTION_WORDS:
        whole = before.kind == "request" or any(w.lower in AUXILIARIES for w in words[start : start + _LOOK_AHEAD])
        return whole and end - start > 3 and (embedded is None or (comma and embedded != following.lower))
    if word in QUESTION_WORDS:
        made = before.request in MAKING_REQUESTS and before.head != before.first
        if embedded is not None and (made or embedded == word or not comma):
            return False
        if word in ("when", "where", "why"):
            return following.lower in AUXILIARIES or (before.kind == "request" and before.head is not None)
        return True
    if word in AUXILIARIES:
        if following.lower in ("i", "you", "he", "she", "it", "we", "they", "there"):
            return True
        plain = word not in ("do", "have", "had", "has") or comma
        return plain and (following.lower in DETERMINERS or (following.capitalised and following.lower != ""))
    if word in REQUESTS:
        if following.lower in ("me", "us") or (before.kind == "request" and word == before.request):
            return True
        heads = following.lower in DETERMINERS | QUESTION_WORDS or following.capitalised or following.text[0].isdigit()
        return comma and heads and (before.kind == "request" or not modal)
    asking = read_asking(words, start, end)
    return (comma or word in ("i", "i'd")) and asking is not None and asking.request == "know"


def continues_objects(
    words: Sequence[Word], asking: Asking, first: int, at: int, following: int, end: int, comma: bool
) -> bool:
    """Whether a connective joins another thing asked for: 'tell me the job of A and the address of B'.

    Both sides say 'the ... of ...' in full, and the first is not what its 'of' binds to the second ('the sum of').
    """
    copula = asking.head is not None and words[min(asking.head + 1, end - 1)].lower in ("is", "was", "are", "were")
    if asking.request not in _LOOKUPS and not (asking.kind == "question" and copula):
        return False
    start = next((n for n in range(first, min(first + 6, at)) if words[n].lower == "the"), at)
    one, other = _read_object(words, start, at), _read_object(words, following, end)
    if one is None or other is None or words[one - 1].lower in _COMBINING:
        return False
    nested = next((n for n in range(one + 1, min(at, one + 12)) if words[n].lower == "the"), at)
    return comma or words[one - 1].lower == words[other - 1].lower or _read_object(words, nested, at) is None


def _read_object(words: Sequence[Word], start: int, end: int) -> int | None:
    """The index of the 'of' in 'the ... of ...' at `start`."""
    if start >= end or words[start].lower != "the":
        return None
    at = start + 1
    while at < min(end, start + 5) and words[at].lower not in FUNCTION_WORDS:
        at += 1
    complete = start + 1 < at < end - 1 and words[at].lower in ("of", "for", "in", "at", "on")
    return at if complete else None


_LOOKUPS = word_set("tell give state name find look show list know provide report read check say help")
_COMBINING = word_set("sum difference ratio product distance relation relationship comparison quotient mean average")
_SHARED = word_set("each both either neither latter former respectively")
"""Words that bind a clause to the one before it: '..., and when should I use each?' is no question of its own."""


def noun_phrase_end(text: str, words: Sequence[Word], first: int) -> int:
    """The index after the last word of the noun phrase that begins at word `first`, article not included."""
    at = first
    while at < len(words) and words[at].lower not in FUNCTION_WORDS:
        if at > first and text[words[at - 1].end : words[at].start].strip():
            break
        at += 1
    return at

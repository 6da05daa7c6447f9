"""The words of a text that say what it is about: stems, names and synonyms, for English."""

import re
from collections.abc import Sequence
from functools import lru_cache


def split_words(text: str) -> frozenset[str]:
    """The words of a list."""
    return frozenset(text.split())


_IRREGULAR = dict(
    pair.split(":")
    for pair in split_words(
        "sold:sell paid:pay rose:rise risen:rise fell:fall fallen:fall built:build began:begin begun:begin "
        "bought:buy held:hold lost:lose spent:spend grew:grow grown:grow led:lead won:win made:make said:say "
        "gave:give shown:show came:come stood:stand told:tell got:get ran:run took:take taken:take founded:found "
        "wrote:write written:write drew:draw drawn:draw people:person children:child men:man women:woman"
    )
)


@lru_cache(maxsize=4096)
def stem(word: str) -> str:
    """A word without the endings of number and tense: the same for 'cost', 'costs' and 'costing'."""
    word = word.lower()
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-2] if word.endswith(("ches", "shes", "sses", "xes")) else word[:-1]
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and re.search("[aeiouy]", word[: -len(ending)]):
            word = word[: -len(ending)]
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


# Words that say nothing about what a claim is of.
_STOP = split_words(
    "a an the and or of in on at to by as is are was were be been being has have had having do does did done this that "
    "these those it its they them their he she his her him we our us you your i my me there here which who whom whose "
    "what when where why how much many large big about during could would can might should with for from into than "
    "then so also too very just but s t"
)
# These stay in a subject although they are short: 'before tax' and 'with tax' are two prices.
_QUALIFIERS = split_words("with for from into than without before after per excluding including")
# Ways to state a figure; they do not change what it is of.
_NEUTRAL = split_words(
    "report record post reach total amount come stand state show say list give make figure number value sum accord "
    "according currently current now today approximately about around roughly exactly precisely actual actually "
    "respective please tell know find look read need want question ask "
    "stated reported corp corporation inc ltd llc gmbh ag plc co equal generate "
    "answer see note mention describe remain year month quarter"
)
_SYNONYMS = {
    word: group[0]
    for group in map(
        str.split,
        (
            "revenue sale sales turnover",
            "profit earning earnings",
            "employee staff headcount worker workforce",
            "cost price fee charge",
            "population inhabitant resident",
            "height high tall",
            "length long",
            "depth deep",
            "width wide",
            "weight weigh heavy",
            "distance far",
            "age old",
            "found establish",
            "begin start",
            "end finish",
            "deadline due",
        ),
    )
    for word in map(stem, group)
}
_NEGATIONS = split_words("not no never none neither cannot nor without")
_PARTIAL = re.compile(
    r"\bnot (?:only|all|always|every|necessarily|just|yet|often|both|fully|entirely)\b", re.IGNORECASE
)
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?|\d+(?:\.\d+)?")


def find_names(texts: Sequence[str]) -> frozenset[str]:
    """Stems of the words written as names: a capital inside a sentence, or a possessive at its start."""
    names = set()
    for text in texts:
        for match in re.finditer(r"(?<![.!?:]\s)(?<=\s)[\"'(]?([A-Z][^\W\d_]+)|\b([A-Z][^\W\d_]+)(?=['’]s\b)", text):
            word = unify(stem(match[1] or match[2]))
            if word not in _STOP and word not in _NEUTRAL:
                names.add(word)
    return frozenset(names)


def list_content_words(text: str, names: frozenset[str]) -> tuple[str, ...]:
    """The content words of a text in order, as stems, each once, synonyms as one word."""
    found: list[str] = []
    for match in WORD.finditer(text):
        word = re.sub(r"['’](?:s|S)$", "", match[0])
        lower = word.lower()
        if lower in _QUALIFIERS and not found:
            continue
        if (lower in _STOP and lower not in _QUALIFIERS) or lower in _NEGATIONS - _QUALIFIERS or "n't" in lower:
            continue
        root = unify(stem(word))
        if root in names or (root not in _NEUTRAL and lower not in _NEUTRAL):
            found.append(root)
    while found and found[-1] in _QUALIFIERS:
        found.pop()
    return tuple(dict.fromkeys(found))


def unify(root: str) -> str:
    """One stem for synonyms."""
    return _SYNONYMS.get(root, root)


def read_polarity(sentence: str) -> bool | None:
    """Whether a sentence says that something holds; None where it is negated in part or twice."""
    if _PARTIAL.search(sentence):
        return None
    words = [word.lower().replace("’", "'") for word in WORD.findall(sentence)]
    negations = sum(word in _NEGATIONS - _QUALIFIERS or word.endswith("n't") for word in words)
    return None if negations > 1 else negations == 0

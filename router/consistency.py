"""Consistency: which sub-answers contradict each other about the same thing, and whether evidence settles it.

A claim is a figure, a date, or a statement that holds or does not, together with its subject: the content words of its
clause, completed from the sub-query where the clause leaves them out ('It was 12 million.'). Two claims are about the
same thing when their subjects are equal, whatever their order; names, periods and qualifiers ('net', 'for children')
are words of the subject, so that a difference in any of them is a different thing. That misses paraphrases and raises
few false alarms, which is what may be shown to a user. Claims meet in a table keyed by subject, so that the time is
linear in the text. Settled means that the passage cited for one claim states it and the other's does not; a passage's
score is no evidence, because it says how near a passage is to the question and not which of two is true.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from router.claim import (
    MAX_SENTENCE_CHARS,
    MAX_TEXT_CHARS,
    Kind,
    Stated,
    mask_code,
    name_periods,
    read_asked,
    split_sentences,
    state_claims,
)
from router.content_words import WORD, find_names, list_content_words, read_polarity, stem, unify
from router.quantity import Date, Figure, agree_on_date, agree_on_figure, find_dates, find_figures
from router.question import Citation, SubAnswer, SubQuery, SubQueryId

MAX_CONTRADICTIONS = 8
"""Reported of one answer; more of them say nothing new about whom to trust."""
MAX_CLAIMS_OF_SUBJECT = 8
"""Of one sub-answer, compared with those of the others."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What one sub-answer says: `text` as it stands there, and the best passage that it cites for it.

    `supported` is whether that passage states the same.
    """

    sub_query: SubQueryId
    domain: str
    text: str
    citation: Citation | None
    supported: bool


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two claims about `subject` (its words) that cannot both be true, in the order of the plan.

    `settled` is the sub-query whose claim the evidence supports; None leaves it open. `reason` says why.
    """

    kind: Kind
    subject: tuple[str, ...]
    claims: tuple[Claim, Claim]
    settled: SubQueryId | None
    reason: str


def find_contradictions(sub_queries: Sequence[SubQuery], sub_answers: Iterable[SubAnswer]) -> tuple[Contradiction, ...]:
    """The contradictions between sub-answers of one plan, in its order; `citations` of each by the marks in its text.

    Sub-answers that failed or were refused are left out; the order in which they are given does not matter.
    """
    asked_by = {sub_query.id: sub_query for sub_query in sub_queries if sub_query.refusal is None}
    answered = sorted(
        (answer for answer in sub_answers if answer.failure is None and answer.sub_query in asked_by),
        key=lambda answer: answer.sub_query,
    )
    if len(answered) < 2:
        return ()
    texts = [
        text
        for answer in answered
        for text in (asked_by[answer.sub_query].text[:MAX_SENTENCE_CHARS], answer.text[:MAX_TEXT_CHARS])
    ]
    names = find_names(texts)
    by_id = {answer.sub_query: answer for answer in answered}
    table: dict[tuple[object, ...], dict[SubQueryId, list[Stated]]] = {}
    for answer in answered:
        for stated in state_claims(answer, read_asked(asked_by[answer.sub_query].text, names), names):
            for key in stated.keys:
                said = table.setdefault(key, {}).setdefault(answer.sub_query, [])
                if len(said) < MAX_CLAIMS_OF_SUBJECT:
                    said.append(stated)
    found: dict[tuple[SubQueryId, SubQueryId, str, str], tuple[Stated, Stated]] = {}
    for by_answer in table.values():
        for first, second in combinations(sorted(by_answer), 2):
            pair = _find_disagreement(by_answer[first], by_answer[second])
            if pair is not None:
                found.setdefault((first, second, pair[0].text, pair[1].text), pair)
    places = sorted(found)[:MAX_CONTRADICTIONS]
    return tuple(
        _settle(found[place], (by_id[place[0]], by_id[place[1]]), names, _tell_words(found[place][0].subject, texts))
        for place in places
    )


def describe_contradiction(contradiction: Contradiction) -> str:
    """A contradiction in one line, as the answer shows it."""
    first, second = contradiction.claims
    is_one_domain = first.domain == second.domain

    def tell(claim: Claim) -> str:
        who = f"{claim.domain} (part {claim.sub_query})" if is_one_domain else claim.domain
        mark = f" [{claim.citation.number}]" if claim.citation is not None else ""
        return f"{who} says {claim.text}{mark}"

    return f"Contradiction: {tell(first)}, {tell(second)}; {contradiction.reason}"


def _find_disagreement(first: Sequence[Stated], second: Sequence[Stated]) -> tuple[Stated, Stated] | None:
    """The first claims of two sub-answers when no claim of the one agrees with any of the other."""
    if any(_agree(one.value, other.value) for one in first for other in second):
        return None
    return first[0], second[0]


def _agree(first: Figure | Date | bool, second: Figure | Date | bool) -> bool:
    if isinstance(first, Figure) and isinstance(second, Figure):
        return agree_on_figure(first, second)
    if isinstance(first, Date) and isinstance(second, Date):
        return agree_on_date(first, second)
    return first == second


def _tell_words(subject: Sequence[str], texts: Iterable[str]) -> tuple[str, ...]:
    """A subject in words as they stand in the texts, in the order of their first appearance."""
    wanted = set(subject)
    words: dict[str, str] = {}
    for text in texts:
        for match in WORD.finditer(text):
            word = match[0].removesuffix("'s").removesuffix("’s")
            words.setdefault(unify(stem(word)), word)
    told = [word for root, word in words.items() if root in wanted]
    return (*told, *sorted(root.rpartition(":")[2] for root in wanted - words.keys()))


def _settle(
    pair: tuple[Stated, Stated], answers: tuple[SubAnswer, SubAnswer], names: frozenset[str], subject: tuple[str, ...]
) -> Contradiction:
    """The contradiction of two claims with what the passages say of it."""
    claims = []
    for stated, answer in zip(pair, answers, strict=True):
        supporting = [citation for citation in stated.citations if _states(citation, stated, names)]
        cited = supporting or stated.citations
        claims.append(
            Claim(answer.sub_query, answer.domain, stated.text, cited[0] if cited else None, bool(supporting))
        )
    first, second = claims
    settled: SubQueryId | None = None
    if first.supported and not second.supported:
        settled, reason = first.sub_query, _tell_support(first, second)
    elif second.supported and not first.supported:
        settled, reason = second.sub_query, _tell_support(second, first)
    elif first.supported:
        reason = "both cited passages say what is claimed, so this stays open"
    else:
        reason = "no cited passage states either, so this stays open"
    return Contradiction(pair[0].kind, subject, (first, second), settled, reason)


def _tell_support(supported: Claim, other: Claim) -> str:
    number = supported.citation.number if supported.citation is not None else 0
    against = f"[{other.citation.number}] does not state the other" if other.citation else "the other cites no passage"
    if other.citation is not None and other.citation.number == number:
        against = "and not the other"
        return f"[{number}] states {supported.text} {against}"
    return f"[{number}] states {supported.text}, {against}"


def _states(citation: Citation, stated: Stated, names: frozenset[str]) -> bool:
    """Whether a passage states a claim: the same value, in a text that names at least half of its subject."""
    text = mask_code(f"{citation.title}. {citation.text}"[:MAX_TEXT_CHARS])
    subject = set(stated.subject)
    if isinstance(stated.value, bool):
        for sentence, _ in split_sentences(text):
            polarity = read_polarity(sentence)
            if polarity == stated.value and subject <= set(list_content_words(sentence, names)):
                return True
        return False
    dates = find_dates(text)
    if isinstance(stated.value, Figure):
        agrees = any(
            figure.unit == stated.value.unit and agree_on_figure(figure, stated.value)
            for figure in find_figures(text, dates)
        )
    else:
        agrees = any(date.year is not None and agree_on_date(date, stated.value) for date in dates)
    return agrees and 2 * len(subject & (set(list_content_words(text, names)) | name_periods(dates))) >= len(subject)

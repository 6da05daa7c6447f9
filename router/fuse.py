"""Fusing: one answer from the sub-answers, in plan order, with citations numbered once.

`FusionStream` is the one logic: `fuse` feeds it whole texts, the gateway feeds it deltas as they come. A citation
mark is `[3]` (or `[1, 3]`) outside code; one that names no citation of its sub-answer is removed, because an invented
citation must not survive. What contradicts itself is told in lines of its own at the end; no sub-answer is changed.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from router.consistency import Contradiction, describe_contradiction, find_contradictions
from router.question import Answer, Citation, Failure, Plan, SubAnswer, SubQueryId

_MARK = re.compile(r"\[[1-9]\d{0,3}(?: ?, ?[1-9]\d{0,3}){0,15}\]")
_MARK_CHARACTERS = frozenset("0123456789, ")
_MAX_MARK = 100
_ABSENT = Failure("no_answer", "no answer arrived", True)


class MarkStream:
    """The citation marks of one text as it arrives: `renumber` gives the number to show, None for an invented one."""

    def __init__(self, renumber: Callable[[int], int | None]) -> None:
        self._renumber = renumber
        self._held = ""
        self._code = _CodeState()

    def feed(self, text: str) -> str:
        """The text with its marks renumbered; only white space and what may become a mark are held back."""
        out: list[str] = []
        for character in text:
            self._take(character, out)
        return "".join(out)

    def end(self) -> str:
        """What was held back."""
        held, self._held = self._held, ""
        return held

    def _take(self, character: str, out: list[str]) -> None:
        if "[" in self._held:
            if character == "]":
                out.append(self._read_mark(self._held + character))
                self._held = ""
                return
            if character in _MARK_CHARACTERS and len(self._held) < _MAX_MARK:
                self._held += character
                return
            out.append(self._held)
            self._held = ""
        in_code = self._code.read(character)
        if character.isspace() or (character == "[" and not in_code):
            self._held += character
            return
        out.append(self._held + character)
        self._held = ""

    def _read_mark(self, held: str) -> str:
        """A complete mark, with the white space before it, by the numbers of the answer."""
        space, mark = held[: held.index("[")], held[held.index("[") :]
        if not _MARK.fullmatch(mark):
            return held
        numbers = [int(number) for number in mark[1:-1].split(",")]
        shown = [number for number in map(self._renumber, numbers) if number is not None]
        if shown:
            return space + "".join(f"[{number}]" for number in dict.fromkeys(shown))
        if len(numbers) > 1:
            return held  # a list of numbers, not a citation
        return space if "\n" in space else ""


class FusionStream:
    """The answer of a plan as its text arrives: for each sub-query in plan order `start`, `feed` ..., `end`.

    Then `conclude`. What these return is to be shown at once; together it is the text of `answer()`.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._domains = {sub_query.id: sub_query.domain for sub_query in plan.sub_queries}
        self._remaining = [sub_query.id for sub_query in plan.sub_queries]
        self._several = len(plan.sub_queries) > 1
        self._shown: list[str] = []
        self._sub_answers: list[SubAnswer] = []
        self._numbers: dict[tuple[str, str, str], int] = {}
        self._citations: list[Citation] = []
        self._contradictions: tuple[Contradiction, ...] = ()
        self._begin(None, ())

    def _begin(self, sub_query: SubQueryId | None, citations: Iterable[Citation]) -> None:
        self._current = sub_query
        self._given = {citation.number: citation for citation in citations}
        self._cited: dict[int, None] = {}
        self._texts: list[str] = []
        self._marks = MarkStream(self._renumber)

    def start(self, sub_query: SubQueryId, citations: Sequence[Citation] = ()) -> None:
        """Open a sub-query's paragraph; `citations` are the passages in its prompt, by the numbers used there."""
        if self._current is not None or not self._remaining or self._remaining[0] != sub_query:
            expected = f"{self._remaining[0]} next" if self._remaining else "no more"
            raise ValueError(f"sub-query {sub_query} cannot start: the plan has {expected}, open is {self._current}")
        self._remaining.pop(0)
        self._begin(sub_query, citations)

    def feed(self, text: str) -> str:
        """The text with its marks renumbered; only white space and what may become a mark are held back."""
        return self._show(self._marks.feed(text))

    def end(self, sub_answer: SubAnswer) -> str:
        """What was held back, and the failure if the sub-answer has one."""
        if sub_answer.sub_query != self._current:
            raise ValueError(f"sub-query {sub_answer.sub_query} cannot end: open is {self._current}")
        held = self._marks.end()
        shown = self._show(held.rstrip() if self._several else held)
        failure = sub_answer.failure
        if failure is None and not self._texts and self._several:
            failure = Failure("empty_answer", "the answer is empty", True)
        if failure is not None:
            shown += self._show_failure(failure)
        self._fill_texts(sub_answer.citations)
        cited = tuple(self._citations[number - 1] for number in self._cited)
        self._sub_answers.append(replace(sub_answer, text="".join(self._texts), citations=cited))
        self._current = None
        return shown

    def conclude(self) -> str:
        """A line for each contradiction between the sub-answers."""
        self._contradictions = find_contradictions(self._plan.sub_queries, self._sub_answers)
        lines = "".join(f"\n\n{describe_contradiction(contradiction)}" for contradiction in self._contradictions)
        if lines:
            self._shown.append(lines)
        return lines

    def _fill_texts(self, citations: Iterable[Citation]) -> None:
        """Passages may come without text before an answer cites them and with it afterwards."""
        texts = {self._key(citation): citation.text for citation in citations if citation.text}
        self._citations = [
            citation if citation.text else replace(citation, text=texts.get(self._key(citation), ""))
            for citation in self._citations
        ]

    def answer(self) -> Answer:
        """Everything so far as one answer; the sub-answers cite by its numbers."""
        return Answer("".join(self._shown), tuple(self._citations), tuple(self._sub_answers))

    @property
    def contradictions(self) -> tuple[Contradiction, ...]:
        """What `conclude` has found."""
        return self._contradictions

    def _show(self, text: str) -> str:
        if self._several and not self._texts:
            text = text.lstrip()
        if not text:
            return ""
        labelled = text if self._texts or not self._several else f"{self._gap()}{self._domain()}: {text}"
        self._texts.append(text)
        self._shown.append(labelled)
        return labelled

    def _show_failure(self, failure: Failure) -> str:
        retry = " (it may be retried)" if failure.retryable else ""
        text = f"{self._gap()}{self._domain()}: could not answer this part: {failure.message}{retry}"
        self._shown.append(text)
        return text

    def _gap(self) -> str:
        return "\n\n" if self._shown else ""

    def _domain(self) -> str:
        return self._domains[self._current] if self._current is not None else ""

    def _renumber(self, number: int) -> int | None:
        citation = self._given.get(number)
        if citation is None:
            return None
        key = self._key(citation)
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers) + 1
            self._citations.append(replace(citation, number=self._numbers[key]))
        self._cited[self._numbers[key]] = None
        return self._numbers[key]

    @staticmethod
    def _key(citation: Citation) -> tuple[str, str, str]:
        return citation.domain, citation.source, citation.version


class _CodeState:
    """Whether a text is inside backticks, one character at a time; inline code ends at the end of its line."""

    def __init__(self) -> None:
        self._open = 0
        self._run = 0

    def read(self, character: str) -> bool:
        """Whether `character` stands in code."""
        if character == "`":
            self._run += 1
            return True
        if self._run:
            if self._open == 0:
                self._open = self._run if self._run != 2 else 0
            elif self._run >= self._open:
                self._open = 0
            self._run = 0
        if character == "\n" and self._open < 3:
            self._open = 0
        return self._open > 0


def fuse(plan: Plan, sub_answers: Iterable[SubAnswer]) -> Answer:
    """The answer of a plan from its sub-answers, given in any order; one that is absent is marked as failed."""
    by_id = {sub_answer.sub_query: sub_answer for sub_answer in sub_answers}
    stream = FusionStream(plan)
    for sub_query in plan.sub_queries:
        sub_answer = by_id.get(sub_query.id) or SubAnswer(sub_query.id, sub_query.domain, "", failure=_ABSENT)
        stream.start(sub_query.id, sub_answer.citations)
        stream.feed(sub_answer.text)
        stream.end(sub_answer)
    stream.conclude()
    return stream.answer()

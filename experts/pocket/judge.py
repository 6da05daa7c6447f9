"""Whether a reply is right: its figures or its text, the code it holds, and what it cites."""

import re
from dataclasses import dataclass

from experts.pocket.exercise import Asked
from experts.pocket.sandbox import passes_checks
from experts.prompt import REFUSAL

_CITATION = re.compile(r" ?((?:\[\d+\])+)$")


@dataclass(frozen=True)
class Verdict:
    """`answered`: the answer is right, whatever it cites. `right`: the citation is too."""

    answered: bool
    right: bool


def judge_reply(asked: Asked, reply: str) -> Verdict:
    """The verdict on one reply. A citation too many counts as wrong, as one that is missing does."""
    mark = _CITATION.search(reply)
    answer = reply[: mark.start()] if mark else reply
    numbers = [int(number) for number in re.findall(r"\d+", mark[1])] if mark else []
    if asked.cites_all:
        cited = sorted(numbers) == sorted(asked.cited)
    elif asked.cited:
        cited = len(numbers) == 1 and numbers[0] in asked.cited
    else:
        cited = not numbers
    answered = _is_answered(asked, answer)
    return Verdict(answered, answered and cited)


def _is_answered(asked: Asked, answer: str) -> bool:
    if asked.refused or answer == REFUSAL:
        return asked.answer == answer
    if asked.judge == "code":
        return passes_checks(answer, asked.checks)
    if asked.judge == "result":
        return answer == asked.result or answer.endswith(f" {asked.result}")
    return answer == asked.answer

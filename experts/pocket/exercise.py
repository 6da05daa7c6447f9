"""An exercise: passages, or none, and the questions asked over them with what a right answer is."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from experts.pocket.records import Record
from experts.prompt import REFUSAL

# text: the whole answer is as expected. result: it ends with the expected result, however it was reached.
# code: the answer is Python source under which every check holds.
Judge = Literal["text", "result", "code"]


@dataclass(frozen=True)
class Asked:
    """One question, and what the expert should say.

    `cited` are numbers of passages: any of them holds the answer, or, with `cites_all`, every one of them was used, in
    this order. It is empty for the refusal and where nothing is cited. `task` names the row of a report that the
    question counts in. `result` is the end of the answer that the judge `result` compares, and `checks` are the
    statements that the judge `code` runs after the answer.
    """

    question: str
    answer: str
    cited: Sequence[int] = ()
    task: str = "copy"
    judge: Judge = "text"
    cites_all: bool = False
    result: str = ""
    checks: Sequence[str] = ()

    @property
    def refused(self) -> bool:
        """Whether the passages do not say."""
        return self.answer == REFUSAL

    @property
    def target(self) -> str:
        """The answer as the expert is taught to say it, with its citation."""
        if not self.cited:
            return self.answer
        numbers = self.cited if self.cites_all else self.cited[:1]
        return f"{self.answer} {''.join(f'[{number}]' for number in numbers)}"


@dataclass(frozen=True)
class Exercise:
    """Passages and the questions asked over them, each on its own."""

    domain: str
    passages: Sequence[Record]
    asked: Sequence[Asked]


@dataclass(frozen=True)
class Wanted:
    """What kind of exercise is wanted: from which side of the split, how many questions, how hard.

    `passages` are the passage counts to choose from; a skill whose questions need more takes what it needs, one whose
    questions need none ignores them.
    """

    held_out: bool = False
    questions: int = 6
    passages: tuple[int, ...] = (3, 4)
    refusal_share: float = 0.16


@dataclass(frozen=True)
class Skill:
    """One thing a domain can do: how to draw an exercise in it, and its share of the domain's exercises."""

    draw: Callable[[random.Random, Wanted], Exercise]
    share: float = 1.0

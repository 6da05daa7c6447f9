"""What counts as right, and how sure one can be of a share of right answers."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from experts.prompt import REFUSAL

Rule = Literal["exact", "contains"]

_MARK = re.compile(r"\s*\[(\d{1,4}(?: ?, ?\d{1,4})*)\]")
_Z_95 = 1.959964


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer against what was wanted; `cited` is None where nothing was to be cited."""

    right: bool
    value: bool
    cited: bool | None
    refused: bool
    refusal_wanted: bool


@dataclass(frozen=True, slots=True)
class Share:
    """A share of `n` with its 95 % interval."""

    hits: int
    n: int
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.hits / self.n

    def __str__(self) -> str:
        return f"{self.share:.1%} ({self.low:.1%} to {self.high:.1%})"


@dataclass(frozen=True, slots=True)
class TaskScore:
    """What one set of cases came to. A share is None where no case asks for it.

    `right`: value and citations, or the refusal. `value`: right but for the marks. `cited`: of answers that should
    cite, those that cite exactly the passages wanted. `refused`: of refusals that were wanted. `wrongly_refused`: of
    answers that the passages hold.
    """

    right: Share
    value: Share
    cited: Share | None
    refused: Share | None
    wrongly_refused: Share | None


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How much more often B is right than A on the same cases; `p_value` is McNemar's exact one."""

    n: int
    only_a: int
    only_b: int
    difference: float
    low: float
    high: float
    p_value: float


def judge_answer(answer: str, wanted: str, rule: Rule) -> Judged:
    """Judge by a rule: `exact` wants the text itself, `contains` an answer that holds its value and cites the same.

    White space at the ends is passed over, and by `contains` the case of letters. Refusals are exact by either rule.
    """
    said, target = answer.strip(), wanted.strip()
    refused = said == REFUSAL
    if target == REFUSAL:
        return Judged(refused, refused, None, refused, refusal_wanted=True)
    marks = _read_marks(target)
    cited = _read_marks(said) == marks if marks else None
    bare, value = _strip_marks(said), _strip_marks(target)
    if rule == "contains":
        held = value.casefold() in bare.casefold()
        return Judged(held and cited is not False, held, cited, refused, refusal_wanted=False)
    return Judged(said == target, bare == value, cited, refused, refusal_wanted=False)


def score_answers(judged: Sequence[Judged]) -> TaskScore:
    """Shares of at least one judged answer."""
    cited = [one.cited for one in judged if one.cited is not None]
    refusals = [one.refused for one in judged if one.refusal_wanted]
    answerable = [one.refused for one in judged if not one.refusal_wanted]
    return TaskScore(
        right=estimate_share([one.right for one in judged]),
        value=estimate_share([one.value for one in judged]),
        cited=estimate_share(cited) if cited else None,
        refused=estimate_share(refusals) if refusals else None,
        wrongly_refused=estimate_share(answerable) if answerable else None,
    )


def estimate_share(outcomes: Sequence[bool]) -> Share:
    """A share of at least one outcome, with Wilson's score interval (Wilson 1927)."""
    n, hits = len(outcomes), sum(outcomes)
    share, z = hits / n, _Z_95
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # At the ends the bound is the share itself, but for rounding.
    return Share(hits, n, max(0.0, min(middle - reach, share)), min(1.0, max(middle + reach, share)))


def compare_paired(a: Sequence[bool], b: Sequence[bool]) -> PairedDifference:
    """B's share minus A's over the same cases, in the same order, at least one.

    The interval is Agresti and Min's (Statistics in Medicine 24, 2005), which holds its 95 % on few cases: half a case
    is added to each of the four outcomes. The p-value is McNemar's, exact.
    """
    n = len(a)
    only_a = sum(one and not other for one, other in zip(a, b, strict=True))
    only_b = sum(other and not one for one, other in zip(a, b, strict=True))
    padded, first, second = n + 2, only_a + 0.5, only_b + 0.5
    middle = (second - first) / padded
    reach = _Z_95 * math.sqrt(first + second - (second - first) ** 2 / padded) / padded
    apart = only_a + only_b
    tail = sum(math.comb(apart, k) for k in range(min(only_a, only_b) + 1))
    return PairedDifference(
        n=n,
        only_a=only_a,
        only_b=only_b,
        difference=(only_b - only_a) / n,
        low=max(-1.0, middle - reach),
        high=min(1.0, middle + reach),
        p_value=min(1.0, 2 * tail / 2**apart),
    )


def _strip_marks(text: str) -> str:
    return _MARK.sub("", text).strip()


def _read_marks(text: str) -> frozenset[int]:
    return frozenset(int(number) for mark in _MARK.findall(text) for number in mark.split(","))

"""Cascade: how likely an answer is right, and whether it is asked for again, of whom (after FrugalGPT).

FrugalGPT (Chen et al. 2023, arXiv 2305.05176, section 3) scores an answer with a learned function and moves on to the
next model below a threshold. The score here is a logistic one over what the gateway knows of an answer anyway.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from experts.fleet import Escalation
from experts.prompt import REFUSAL
from router.question import Citation
from router.variant import SAME, VariantOption

BUCKET = 10.0
"""Escalations that a domain may save up, so that a burst of hard questions is served and the share still holds."""

_WORD = re.compile(r"[^\W\d_]{4,}")
_FIGURE = re.compile(r"\d+(?:[.,]\d+)*")
_MARK = re.compile(r"\[\d{1,4}(?: ?, ?\d{1,4}){0,15}\]")
_REFUSALS = re.compile(
    re.escape(REFUSAL.rstrip(".")) + r"|\bI (?:do not|don't|cannot|can't|could not) (?:know|answer|say|tell|help)\b"
    r"|\bI(?: am|'m) (?:not sure|unable|sorry)\b|\bno information\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class AnswerSignals:
    """What speaks for or against an answer; None where it cannot be known.

    `logprob_mean` and `logprob_min` are natural logarithms over its tokens. `support` is the share of its content words
    and `figures` the share of its figures that stand in the passages it cites or in the question; None without passages
    or without figures.
    """

    predicted: float
    empty: bool
    refused: bool
    cut: bool
    cited: bool | None
    support: float | None
    figures: float | None
    logprob_mean: float | None
    logprob_min: float | None


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """Probability that an answer is right, and the signals that moved it most, as words."""

    probability: float
    reason: str


@dataclass(frozen=True, slots=True)
class ScorerWeights:
    """Log-odds added to the predicted probability's, each times what it names.

    The defaults are priors, not fits: no public set has answers with token probabilities of the models served here.
    On 1,200 held-out answers of the pocket experts they have an AUROC of 0.76, where a fit on half of
    these gives 0.84 on the other half, nearly all by the least log-probability; that is not shipped, since an answer
    of some hundred tokens has an unlikely one whether it is right or not (benchmarks/results/router_cascade.json).
    They are chosen so that one clear sign (a refusal, an unsupported figure, a mean token probability of 0.4) brings a
    likely answer (0.7) below an even chance, and no weak sign alone does.
    """

    refused: float = -2.5
    cut: float = -0.7
    uncited: float = -0.8
    support: float = 1.0
    """Times (support - 0.6): half of an answer's words are its question's and its own."""
    figures: float = 2.0
    """Times (figures - 0.75): below three of four figures found speaks against."""
    logprob_mean: float = 1.4
    """Times (mean log-probability + 0.25), within [-2, 0.25]: a mean token probability of 0.78 is neutral."""
    logprob_min: float = 0.2
    """Times (least log-probability + 2), within [-4, 2]."""


DEFAULT_WEIGHTS = ScorerWeights()


def observe_signals(
    question: str,
    answer: str,
    cited: Sequence[Citation],
    *,
    has_passages: bool,
    finish_reason: Literal["stop", "length"],
    predicted: float,
    logprobs: tuple[float, float] | None = None,
) -> AnswerSignals:
    """The signals of one answer; `cited` are the passages it cites, with text; `logprobs` are mean and minimum."""
    text = _MARK.sub(" ", answer)
    refused = bool(_REFUSALS.search(text))
    support = figures = None
    if has_passages and cited and not refused:
        known = "\n".join([question, *(f"{citation.title}\n{citation.text}" for citation in cited)]).lower()
        support = _share({word[:6] for word in _WORD.findall(text.lower())}, {w[:6] for w in _WORD.findall(known)})
        figures = _share(_figures(text), _figures(known))
    return AnswerSignals(
        predicted=predicted,
        empty=not text.strip(),
        refused=refused,
        cut=finish_reason == "length",
        cited=bool(cited) if has_passages and not refused else None,
        support=support,
        figures=figures,
        logprob_mean=logprobs[0] if logprobs is not None else None,
        logprob_min=logprobs[1] if logprobs is not None else None,
    )


def score_answer(signals: AnswerSignals, weights: ScorerWeights = DEFAULT_WEIGHTS) -> AnswerScore:
    """The predicted probability of a right answer, corrected by what the answer shows."""
    if signals.empty:
        return AnswerScore(0.0, "it is empty")
    moves: list[tuple[float, str]] = []
    if signals.refused:
        moves.append((weights.refused, "it refuses"))
    if signals.cut:
        moves.append((weights.cut, "it was cut at its limit"))
    if signals.cited is False:
        moves.append((weights.uncited, "it cites no passage"))
    if signals.support is not None:
        moves.append((weights.support * (signals.support - 0.6), f"{signals.support:.0%} of its words are supported"))
    if signals.figures is not None:
        moves.append(
            (weights.figures * (signals.figures - 0.75), f"{signals.figures:.0%} of its figures are supported")
        )
    if signals.logprob_mean is not None:
        value = min(max(signals.logprob_mean + 0.25, -2.0), 0.25)
        moves.append((weights.logprob_mean * value, f"mean token probability {math.exp(signals.logprob_mean):.2f}"))
    if signals.logprob_min is not None:
        value = min(max(signals.logprob_min + 2.0, -4.0), 2.0)
        moves.append((weights.logprob_min * value, f"least token probability {math.exp(signals.logprob_min):.2f}"))
    prior = min(max(signals.predicted, 0.01), 0.99)
    odds = math.log(prior / (1 - prior)) + sum(move for move, _ in moves)
    told = [words for _, words in sorted(moves, key=lambda each: -abs(each[0]))[:2]]
    return AnswerScore(1 / (1 + math.exp(-odds)), "; ".join([f"predicted {signals.predicted:.2f}", *told]))


def _figures(text: str) -> set[str]:
    return {figure.replace(",", "").rstrip(".") for figure in _FIGURE.findall(text)}


def _share(said: set[str], known: set[str]) -> float | None:
    return len(said & known) / len(said) if said else None


@dataclass(frozen=True, slots=True)
class EscalationBudget:
    """A token bucket per domain: every sub-query earns `share` of an escalation, each escalation takes one.

    Over n sub-queries at most share * n + 1 are escalated.
    """

    tokens: float = 1.0

    def earn(self, share: float) -> "EscalationBudget":
        """The budget after one more sub-query."""
        return EscalationBudget(min(self.tokens + share, BUCKET))

    def spend(self) -> "EscalationBudget":
        """The budget after one escalation; raises ValueError where there is none left."""
        if self.tokens < 1:
            raise ValueError(f"{self.tokens:.2f} escalations are left, one is needed")
        return EscalationBudget(self.tokens - 1)


@dataclass(frozen=True, slots=True)
class EscalationTarget:
    """Who is asked again."""

    domain: str
    variant: str
    predicted: float


@dataclass(frozen=True, slots=True)
class EscalationDecision:
    """Whether an answer is asked for again; `code` is one of a few words for metrics, `reason` a sentence."""

    escalate: bool
    code: Literal["likely_right", "likely_wrong", "refused", "no_stronger", "over_share"]
    reason: str


def choose_target(
    domain: str, variant: str, options: Sequence[VariantOption], generalist: str, general: VariantOption
) -> EscalationTarget | None:
    """Who could answer better: the domain's most likely right variant over `variant`, else the generalist's `general`.

    Of equally likely variants the dearer counts as the stronger. None where nobody is left.
    """
    now = next(option for option in options if option.variant == variant)
    stronger = [
        option
        for option in options
        if option.variant != variant
        and (
            option.predicted > now.predicted + SAME
            or (abs(option.predicted - now.predicted) <= SAME and option.cost > now.cost)
        )
    ]
    if stronger:
        best = max(stronger, key=lambda option: (option.predicted, option.cost))
        return EscalationTarget(domain, best.variant, best.predicted)
    if generalist != domain:
        return EscalationTarget(generalist, general.variant, general.predicted)
    return None


def decide_escalation(
    score: AnswerScore, refused: bool, target: EscalationTarget | None, settings: Escalation, budget: EscalationBudget
) -> EscalationDecision:
    """Escalate an answer that is less likely right than `settings.below`, where a target and the budget allow it."""
    if score.probability >= settings.below:
        return EscalationDecision(
            False, "likely_right", f"{score.probability:.2f} likely right, at least {settings.below:g}; {score.reason}"
        )
    why = f"{score.probability:.2f} likely right, below {settings.below:g}; {score.reason}"
    if target is None:
        return EscalationDecision(False, "no_stronger", f"{why}; nobody stronger is left to ask")
    if budget.tokens < 1:
        return EscalationDecision(
            False, "over_share", f"{why}; over {settings.share:.0%} of the domain's sub-queries are escalated already"
        )
    return EscalationDecision(True, "refused" if refused else "likely_wrong", why)

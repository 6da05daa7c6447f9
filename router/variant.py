"""Choosing a variant: the one that answers a sub-query well enough, cheaply enough and in time."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Quality = Literal["fast", "balanced", "best"]
"""What a caller wants: the cheapest variant, the best trade, or the most likely right."""

BALANCED_PRICE = 0.10
"""What the dearest variant's whole cost is worth in probability of a right answer, where the trade is `balanced`.

On RouteLLM's MMLU file, with a strong model of ten times the weak one's cost, it recovers 80 % of the gap between them
at 65 % of the strong calls; 0.15 would recover 52 % at 33 % (benchmarks/results/router_quality.json, `balanced_price`).
"""

SAME = 1e-9
"""Predictions and costs nearer than this are equal: the fleet file's order then decides."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that one answer may cost, in the fleet file's `cost`."""

    cost: float


@dataclass(frozen=True, slots=True)
class VariantOption:
    """A variant as it stands now.

    `predicted` is the probability of a right answer. `queue` are the sub-queries that its engine has in flight and
    `capacity` those that it runs at the same time; `answer_s` is the mean time of its recent answers.
    """

    variant: str
    predicted: float
    cost: float
    queue: int = 0
    capacity: int = 1
    answer_s: float = 0.0

    @property
    def wait_s(self) -> float:
        """Time until the next sub-query starts: what is over the capacity leaves at capacity / answer_s a second."""
        return max(0, self.queue + 1 - self.capacity) * self.answer_s / self.capacity


@dataclass(frozen=True, slots=True)
class VariantChoice:
    """The variant that answers, and why; `options` are all that were considered, in the fleet file's order."""

    variant: str
    predicted: float
    cost: float
    queue: int
    reason: str
    options: tuple[VariantOption, ...] = ()


def choose_variant(options: Sequence[VariantOption], wanted: Quality | Budget, ttft_slo_s: float) -> VariantChoice:
    """Pick one of a domain's variants, which are given in the fleet file's order; the first where all are equal.

    A variant whose queue alone would break `ttft_slo_s` is taken only where every other would break it too; then the
    one with the shortest wait is. Raises ValueError without options.
    """
    if not options:
        raise ValueError("no variant to choose from; a domain has at least one")
    if len(options) == 1:
        return _pick(options, options[0], "the domain's only variant")
    in_time = [option for option in options if option.wait_s <= ttft_slo_s]
    if not in_time:
        shortest = min(options, key=lambda option: option.wait_s)
        return _pick(
            options, shortest, f"every variant waits over {ttft_slo_s:g} s; the shortest wait, {shortest.wait_s:.2g} s"
        )
    chosen, reason = _trade(in_time, wanted)
    free, _ = _trade(options, wanted)
    if free is not chosen:
        reason = f"{free.variant} would wait {free.wait_s:.2g} s, over {ttft_slo_s:g} s; {reason}"
    return _pick(options, chosen, reason)


def _trade(options: Sequence[VariantOption], wanted: Quality | Budget) -> tuple[VariantOption, str]:
    """The best option by what is wanted, and what speaks for it."""
    if len(options) == 1:
        return options[0], "the only one in time"
    if isinstance(wanted, Budget):
        affordable = [option for option in options if option.cost <= wanted.cost + SAME]
        if not affordable:
            return _least(options, lambda option: option.cost), f"none costs at most {wanted.cost:g}; the cheapest"
        best = _least(affordable, lambda option: -option.predicted)
        return best, f"budget {wanted.cost:g}: the most likely right that it pays"
    if wanted == "fast":
        return _least(options, lambda option: option.cost), "fast: the cheapest"
    if wanted == "best":
        return _least(options, lambda option: -option.predicted), "best: the most likely right"
    dearest = max(option.cost for option in options)
    chosen = _least(options, lambda option: BALANCED_PRICE * option.cost / dearest - option.predicted)
    return chosen, "balanced: the most right for its cost"


def _least(options: Sequence[VariantOption], loss: Callable[[VariantOption], float]) -> VariantOption:
    """The option with the least loss; of equal ones the cheapest, then the first in the file."""
    lowest = min(loss(option) for option in options)
    equal = [option for option in options if loss(option) <= lowest + SAME]
    cheapest = min(option.cost for option in equal)
    return next(option for option in equal if math.isclose(option.cost, cheapest, rel_tol=SAME))


def _pick(options: Sequence[VariantOption], chosen: VariantOption, reason: str) -> VariantChoice:
    return VariantChoice(chosen.variant, chosen.predicted, chosen.cost, chosen.queue, reason, tuple(options))

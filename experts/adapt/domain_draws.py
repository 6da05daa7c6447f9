"""Which row of which domain a run trains on at each of its positions, while the domains' weights change."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Drawn:
    """Row `row` of the domain's rows."""

    domain: str
    row: int


class DomainDraws:
    """The rows of a run, planned step by step and the same whenever they are planned again.

    Each row is of the domain that is furthest below its share of the tokens, so that the tokens of a run follow the
    weights as closely as whole rows can; within a domain every row comes once before one comes twice. `weights_at`
    gives the weights of a step, from 1, and is asked once for each, in order.
    """

    def __init__(
        self,
        lengths: Mapping[str, Sequence[int]],
        batch_size: int,
        seed: int,
        weights_at: Callable[[int], Mapping[str, float]],
    ) -> None:
        self._lengths = lengths
        self._batch_size = batch_size
        self._seed = seed
        self._weights_at = weights_at
        self._planned: list[Drawn] = []
        self._ahead: dict[str, list[int]] = {domain: [] for domain in lengths}
        self._passes = dict.fromkeys(lengths, 0)
        self._owed = dict.fromkeys(lengths, 0.0)

    def find(self, position: int) -> Drawn:
        """What stands at a position, from 0; plans every step up to it that is not planned yet."""
        while position >= len(self._planned):
            self._plan_step(len(self._planned) // self._batch_size + 1)
        return self._planned[position]

    def _plan_step(self, step: int) -> None:
        weights = self._weights_at(step)
        drawn = [self._draw(weights) for _ in range(self._batch_size)]
        # Rows of similar length share a micro-batch; a step's gradient does not depend on their order.
        drawn.sort(key=lambda one: self._lengths[one.domain][one.row])
        self._planned += drawn

    def _draw(self, weights: Mapping[str, float]) -> Drawn:
        domain = max(self._lengths, key=lambda name: (self._owed[name] + weights[name], weights[name]))
        if not self._ahead[domain]:
            self._passes[domain] += 1
            rows = list(range(len(self._lengths[domain])))
            random.Random(f"{self._seed} {domain} {self._passes[domain]}").shuffle(rows)  # noqa: S311
            self._ahead[domain] = rows
        row = self._ahead[domain].pop()
        tokens = self._lengths[domain][row]
        for name, weight in weights.items():
            self._owed[name] += weight * tokens
        self._owed[domain] -= tokens
        return Drawn(domain, row)

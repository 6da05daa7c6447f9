"""What a gateway replica knows of its variants now: what is in flight, how long answers take, what may be escalated."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from experts.fleet import Engine, Fleet
from router.cascade import EscalationBudget
from router.quality import QualityModel, predict_quality
from router.question import Vector
from router.variant import Budget, Quality, VariantChoice, VariantOption, choose_variant

# Weight of the newest answer in the mean time of an engine's answers: the last twenty or so count.
NEWEST = 0.1


class VariantLoads:
    """Counts of one gateway replica; its event loop owns them. Other gateway replicas have their own."""

    def __init__(self) -> None:
        self._in_flight: Counter[str] = Counter()
        self._answer_s: dict[str, float] = {}
        self._budgets: dict[str, EscalationBudget] = {}

    @contextmanager
    def hold(self, engine: str) -> Iterator[None]:
        """Count a sub-query as in flight at an engine for the body of the `with`."""
        self._in_flight[engine] += 1
        try:
            yield
        finally:
            self._in_flight[engine] -= 1

    def note_answer(self, engine: str, seconds: float) -> None:
        """Take the time of a complete answer into the engine's mean."""
        before = self._answer_s.get(engine, seconds)
        self._answer_s[engine] = before + NEWEST * (seconds - before)

    def queue(self, engine: str) -> int:
        """Sub-queries in flight at an engine."""
        return self._in_flight[engine]

    def answer_s(self, engine: str) -> float:
        """Mean time of an engine's recent answers; 0 before the first."""
        return self._answer_s.get(engine, 0.0)

    def budget(self, domain: str) -> EscalationBudget:
        """What may be escalated of a domain now."""
        return self._budgets.get(domain, EscalationBudget())

    def earn(self, domain: str, share: float) -> None:
        """Count one sub-query of a domain."""
        self._budgets[domain] = self.budget(domain).earn(share)

    def spend(self, domain: str) -> None:
        """Count one escalation of a domain."""
        self._budgets[domain] = self.budget(domain).spend()


@dataclass(frozen=True, slots=True)
class Variants:
    """The variants of one fleet: what is predicted of them, and how loaded they are."""

    fleet: Fleet
    model: QualityModel | None
    loads: VariantLoads

    def options(self, domain: str, text: str, vector: Vector) -> tuple[VariantOption, ...]:
        """A domain's variants as they stand now for a sub-query, in the fleet file's order."""
        settings = self.fleet.domains[domain]
        # Where nothing is chosen and no answer is scored, the text is not looked at: its accuracy as stated is enough.
        matters = len(settings.variants) > 1 or self.fleet.router.escalation is not None
        predicted = predict_quality(self.model if matters else None, domain, settings, text, vector)
        options = []
        for name, variant in settings.variants.items():
            engine = self.fleet.engines[variant.engine]
            options.append(
                VariantOption(
                    name,
                    predicted[name],
                    variant.cost,
                    self.loads.queue(variant.engine),
                    count_capacity(engine),
                    self.loads.answer_s(variant.engine),
                )
            )
        return tuple(options)

    def choose(
        self, domain: str, text: str, vector: Vector, wanted: Quality | Budget | None, named: str | None = None
    ) -> VariantChoice:
        """The variant for a sub-query; `wanted` None is the fleet's default, `named` the one that the request names."""
        options = self.options(domain, text, vector)
        if named is not None:
            option = next(option for option in options if option.variant == named)
            return VariantChoice(
                named, option.predicted, option.cost, option.queue, "the request names this variant", options
            )
        settings = self.fleet.router
        return choose_variant(options, wanted or settings.quality, self.fleet.domains[domain].slo.ttft_s)


def count_capacity(engine: Engine) -> int:
    """Sub-queries that an engine surely runs at the same time: those of the replicas it always has."""
    return engine.max_num_seqs * max(1, engine.replicas.min)

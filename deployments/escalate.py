"""Acts on a held answer: scores it, and asks a stronger variant where it is likely wrong and the budget allows."""

import time

from deployments.gateway_metrics import GatewayMetrics
from deployments.variant_call import Reader, VariantCall, VariantCaller
from deployments.variant_loads import Variants
from experts.fleet import Escalation
from router.cascade import AnswerScore, AnswerSignals, choose_target, decide_escalation, observe_signals, score_answer
from router.question import EscalationRecord, SubQuery, Vector
from router.variant import VariantChoice, VariantOption


class Escalations:
    """Settles which answer the user reads, for the sub-queries of one request."""

    def __init__(
        self, settings: Escalation, variants: Variants, caller: VariantCaller, metrics: GatewayMetrics
    ) -> None:
        self._settings = settings
        self._variants = variants
        self._caller = caller
        self._metrics = metrics

    async def settle(
        self, sub_query: SubQuery, first: VariantCall, choice: VariantChoice, text: str, vector: Vector, reader: Reader
    ) -> tuple[VariantCall, VariantCall | None, EscalationRecord | None]:
        """The call that the user reads, the other one if two were made, and what happened.

        Never worse than no escalation: where the second call fails or scores lower, the first one stays.
        """
        domain = sub_query.domain
        self._variants.loads.earn(domain, self._settings.share)
        # One that failed has no answer to score; one too long to hold is shown already.
        if first.finished is None or not first.held:
            return first, None, None
        signals = _observe(first, text, choice.predicted)
        score = score_answer(signals)
        generalist = self._variants.fleet.generalist
        general = _strongest(self._variants.options(generalist, text, vector))
        options = choice.options or self._variants.options(domain, text, vector)
        target = choose_target(domain, first.variant, options, generalist, general)
        decision = decide_escalation(
            score, signals.refused, target, self._settings, self._variants.loads.budget(domain)
        )
        self._metrics.answers_scored.labels(domain, decision.code).inc()
        if not decision.escalate or target is None:
            return first, None, EscalationRecord(first.name, score.probability, decision.code, decision.reason)
        self._variants.loads.spend(domain)
        second = VariantCall(target.domain, target.variant, held=True)
        started = time.perf_counter()
        await self._caller.ask(second, sub_query.id, text, vector, reader)
        second_score = _score(second, text, target.predicted)
        kept = second_score is not None and second_score.probability >= score.probability
        self._metrics.escalations.labels(domain, decision.code, "second" if kept else "first").inc()
        record = EscalationRecord(
            first.name,
            score.probability,
            decision.code,
            decision.reason,
            second.name,
            second_score.probability if second_score is not None else None,
            "second" if kept else "first",
        )
        read, other = (second, first) if kept else (first, second)
        read.timings_s["escalate"] = time.perf_counter() - started
        return read, other, record


def _observe(call: VariantCall, text: str, predicted: float) -> AnswerSignals:
    finished = call.finished
    assert finished is not None
    known = finished.logprob_mean is not None and finished.logprob_min is not None
    return observe_signals(
        text,
        call.text,
        finished.cited,
        has_passages=bool(call.citations),
        finish_reason=finished.finish_reason,
        predicted=predicted,
        logprobs=(finished.logprob_mean or 0.0, finished.logprob_min or 0.0) if known else None,
    )


def _score(call: VariantCall, text: str, predicted: float) -> AnswerScore | None:
    return score_answer(_observe(call, text, predicted)) if call.finished is not None else None


def _strongest(options: tuple[VariantOption, ...]) -> VariantOption:
    return max(options, key=lambda option: (option.predicted, option.cost))

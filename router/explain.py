"""Explaining: a plan as plain data, the same for the API, the response field and the command line."""

from collections.abc import Mapping
from typing import Any

from router.question import Plan, SubQuery, SubQueryId
from router.variant import VariantChoice


def explain_plan(plan: Plan, choices: Mapping[SubQueryId, VariantChoice] | None = None) -> dict[str, Any]:
    """A plan as JSON can carry it, without vectors; scores have four decimals, seconds six.

    With `choices`, the variant that would answer each sub-query now, for what nobody refuses.
    """
    return {
        "question": plan.question,
        "sub_queries": [
            {**_explain(sub_query), **_explain_choice((choices or {}).get(sub_query.id))}
            for sub_query in plan.sub_queries
        ],
        "reasons": list(plan.reasons),
        "timings_s": {stage: round(float(seconds), 6) for stage, seconds in plan.timings_s.items()},
    }


def _explain(sub_query: SubQuery) -> dict[str, Any]:
    return {
        "id": int(sub_query.id),
        "text": sub_query.text,
        "span": [sub_query.span.start, sub_query.span.end] if sub_query.span is not None else None,
        "domain": sub_query.domain,
        "reason": sub_query.reason,
        "tier": sub_query.tier,
        "confidence": round(float(sub_query.confidence), 4),
        "candidates": [
            {"domain": candidate.domain, "score": round(float(candidate.score), 4)}
            for candidate in sub_query.candidates
        ],
        "needs": [int(need) for need in sub_query.needs],
        "refusal": sub_query.refusal,
    }


def _explain_choice(choice: VariantChoice | None) -> dict[str, Any]:
    if choice is None:
        return {}
    return {
        "variant": choice.variant,
        "predicted_quality": round(float(choice.predicted), 4),
        "cost": choice.cost,
        "queue": choice.queue,
        "variant_reason": choice.reason,
    }

"""Explaining: a plan as plain data, the same for the API, the response field and the command line."""

from typing import Any

from router.question import Plan


def explain_plan(plan: Plan) -> dict[str, Any]:
    """A plan as JSON can carry it, without vectors; scores have four decimals, seconds six."""
    return {
        "question": plan.question,
        "sub_queries": [
            {
                "id": int(sub_query.id),
                "text": sub_query.text,
                "domain": sub_query.domain,
                "reason": sub_query.reason,
                "candidates": [
                    {"domain": candidate.domain, "score": round(float(candidate.score), 4)}
                    for candidate in sub_query.candidates
                ],
                "needs": [int(need) for need in sub_query.needs],
            }
            for sub_query in plan.sub_queries
        ],
        "reasons": list(plan.reasons),
        "timings_s": {stage: round(float(seconds), 6) for stage, seconds in plan.timings_s.items()},
    }

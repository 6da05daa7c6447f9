"""What the fleet is doing, from what its replicas report: the bodies of /v1/fleet and /readyz."""

from collections.abc import Mapping, Sequence
from typing import Any

from deployments.expert_call import ReplicaState
from experts.fleet import Fleet

# A rate over less than this would be noise; the one before is given again.
MIN_RATE_WINDOW_S = 1.0


class TokenRates:
    """Completion tokens per second of each replica and domain, between one look and the one before.

    The first look gives the mean since the replica started.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}
        self._rates: dict[tuple[str, str], float] = {}

    def observe(self, states: Sequence[ReplicaState]) -> Mapping[tuple[str, str], float]:
        """Rates by replica and domain; replicas that are gone are forgotten."""
        seen: dict[tuple[str, str], tuple[float, int]] = {}
        rates: dict[tuple[str, str], float] = {}
        for state in states:
            for domain, tokens in state.completion_tokens.items():
                key = (state.replica, domain)
                at, before = self._seen.get(key, (0.0, 0))
                window_s = state.uptime_s - at
                if window_s < MIN_RATE_WINDOW_S and key in self._rates:
                    seen[key], rates[key] = self._seen[key], self._rates[key]
                    continue
                seen[key] = (state.uptime_s, tokens)
                rates[key] = max(0, tokens - before) / max(window_s, MIN_RATE_WINDOW_S)
        self._seen, self._rates = seen, rates
        return rates


def describe_fleet(
    fleet: Fleet, states: Sequence[ReplicaState], rates: Mapping[tuple[str, str], float]
) -> dict[str, Any]:
    """Per domain and variant the replicas of its engine; counters are the domain's, not the variant's."""
    return {
        "object": "fleet",
        "name": fleet.name,
        "generalist": fleet.generalist,
        "domains": [
            {
                "domain": name,
                "variant": variant_name,
                "answers": variant_name == next(iter(domain.variants)),
                "engine": variant.engine,
                **_describe_replicas(name, [state for state in states if state.engine == variant.engine], rates),
            }
            for name, domain in fleet.domains.items()
            for variant_name, variant in domain.variants.items()
        ],
    }


def _describe_replicas(
    domain: str, states: Sequence[ReplicaState], rates: Mapping[tuple[str, str], float]
) -> dict[str, Any]:
    versions = sorted({state.index_versions[domain] for state in states if domain in state.index_versions})
    return {
        "replicas": len(states),
        "nodes": sorted({state.node for state in states}),
        "running": sum(state.running for state in states),
        "requests": sum(state.requests.get(domain, 0) for state in states),
        "completion_tokens": sum(state.completion_tokens.get(domain, 0) for state in states),
        "tokens_per_s": round(sum(rates.get((state.replica, domain), 0.0) for state in states), 2),
        # More than one only while a new version is being taken up.
        "index_version": ", ".join(versions) or None,
        "index_problem": next(
            (state.index_problems[domain] for state in states if domain in state.index_problems), None
        ),
        "replica_states": [
            {
                "replica": state.replica,
                "node": state.node,
                "running": state.running,
                "requests": state.requests.get(domain, 0),
                "completion_tokens": state.completion_tokens.get(domain, 0),
                "tokens_per_s": round(rates.get((state.replica, domain), 0.0), 2),
                "index_version": state.index_versions.get(domain),
                "uptime_s": round(state.uptime_s, 3),
            }
            for state in states
        ],
    }


def explain_unready(fleet: Fleet, states: Sequence[ReplicaState]) -> list[str]:
    """Why the fleet is not ready, one reason per engine or domain; empty when it is."""
    answering = {state.engine for state in states}
    problems = [
        f"domain '{domain}' on engine '{state.engine}': {problem}"
        for state in states
        for domain, problem in state.problems.items()
    ]
    return problems + [
        f"engine '{name}' has no replica that answers; see `guildhall status` and the engine's log"
        for name, engine in fleet.engines.items()
        # An engine that scales to zero starts with its first request.
        if engine.replicas.min > 0 and fleet.domains_of(name) and name not in answering
    ]

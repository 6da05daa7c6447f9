"""What the fleet is doing, from what its replicas report: the bodies of /v1/fleet and /readyz."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from deployments.expert_call import ReplicaState
from experts.fleet import Engine, Fleet

if TYPE_CHECKING:
    # It takes Ray along, which a reader of states need not have.
    from deployments.scaling_record import ScalingRecord

EngineCondition = Literal["serving", "asleep", "unavailable"]

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
    fleet: Fleet,
    states: Sequence[ReplicaState],
    rates: Mapping[tuple[str, str], float],
    scaling: "Sequence[ScalingRecord]" = (),
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
                **_describe_replicas(
                    name,
                    fleet.engines[variant.engine],
                    [state for state in states if state.engine == variant.engine],
                    rates,
                ),
            }
            for name, domain in fleet.domains.items()
            for variant_name, variant in domain.variants.items()
        ],
        "scaling": [asdict(record) for record in scaling],
        "quotas": [
            {"node": node, **quota}
            # Replicas of one node read the same ledger; the last to answer read it last.
            for node, quotas in sorted({state.node: state.quotas for state in states}.items())
            for quota in quotas
        ],
    }


def _describe_replicas(
    domain: str, engine: Engine, states: Sequence[ReplicaState], rates: Mapping[tuple[str, str], float]
) -> dict[str, Any]:
    versions = sorted({state.index_versions[domain] for state in states if domain in state.index_versions})
    return {
        "state": describe_state(engine, states),
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
                "kv_tokens": state.kv_tokens,
                "asleep": state.asleep,
            }
            for state in states
        ],
    }


def describe_state(engine: Engine, states: Sequence[ReplicaState]) -> EngineCondition:
    """How an engine with these replicas stands: asleep where the next request wakes it."""
    if any(not state.asleep for state in states):
        return "serving"
    return "asleep" if states or engine.fewest_replicas == 0 else "unavailable"


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
        if engine.fewest_replicas > 0 and fleet.domains_of(name) and name not in answering
    ]

"""What a simulation, or a run of the real thing, comes to: throughput, TTFT, TPOT and SLO attainment."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cluster.simulation import PlacedReplica, Simulated
from experts.fleet import Slo


@dataclass(frozen=True, slots=True)
class Served:
    """One request that was answered: seconds to its first token and to its end, and tokens of the answer."""

    domain: str
    ttft_s: float
    latency_s: float
    output_tokens: int

    @property
    def tpot_s(self) -> float:
        """Seconds per token after the first; 0 where there is only one."""
        return (self.latency_s - self.ttft_s) / (self.output_tokens - 1) if self.output_tokens > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Quantiles:
    """None of them where nothing was measured."""

    p50: float | None
    p90: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class ServiceReport:
    """What one domain, or all of them, got. Requests that were refused miss their SLO."""

    arrived: int
    answered: int
    refused: int
    requests_per_s: float
    output_tokens_per_s: float
    ttft_s: Quantiles
    tpot_s: Quantiles
    slo_attainment: float | None


@dataclass(frozen=True, slots=True)
class SimulationReport:
    """The whole of a simulation; hours are of the GPUs, or of the cores, that replicas hold from start to end."""

    seconds: float
    total: ServiceReport
    domains: Mapping[str, ServiceReport]
    gpu_hours: float
    core_hours: float
    busy: Mapping[str, float]
    preemptions: int


def report_simulation(
    simulated: Simulated, placed: Sequence[PlacedReplica], slos: Mapping[str, Slo]
) -> SimulationReport:
    """The report by domain; `busy` is the share of the time in which an engine's replicas stepped."""
    seconds = simulated.ended_at_s
    served = list_served(simulated)
    refused = [request.arrival.domain for request in simulated.requests if request.refused]
    busy: dict[str, list[float]] = {}
    for one, use in zip(placed, simulated.uses, strict=True):
        busy.setdefault(one.settings.engine, []).append(use.busy_s / seconds if seconds else 0.0)
    return SimulationReport(
        seconds=seconds,
        total=report_service(served, len(refused), seconds, slos),
        domains={
            domain: report_service(
                [one for one in served if one.domain == domain], refused.count(domain), seconds, slos
            )
            for domain in slos
        },
        gpu_hours=sum(one.gpus for one in placed) * seconds / 3600,
        core_hours=sum(one.threads for one in placed if not one.gpus) * seconds / 3600,
        busy={engine: sum(shares) / len(shares) for engine, shares in busy.items()},
        preemptions=sum(request.preempted for request in simulated.requests),
    )


def list_served(simulated: Simulated) -> list[Served]:
    """What was answered, in order of arrival."""
    return [
        Served(
            request.arrival.domain,
            request.first_token_at - request.arrival.at_s,
            request.ended_at - request.arrival.at_s,
            request.arrival.output_tokens,
        )
        for request in simulated.requests
        if request.first_token_at is not None and request.ended_at is not None
    ]


def report_service(served: Sequence[Served], refused: int, seconds: float, slos: Mapping[str, Slo]) -> ServiceReport:
    """Requests that end in `seconds`; both TTFT and TPOT of a domain's SLO must hold."""
    arrived = len(served) + refused
    kept = sum(one.ttft_s <= slos[one.domain].ttft_s and one.tpot_s <= slos[one.domain].tpot_s for one in served)
    return ServiceReport(
        arrived=arrived,
        answered=len(served),
        refused=refused,
        requests_per_s=len(served) / seconds if seconds else 0.0,
        output_tokens_per_s=sum(one.output_tokens for one in served) / seconds if seconds else 0.0,
        ttft_s=measure_quantiles(one.ttft_s for one in served),
        tpot_s=measure_quantiles(one.tpot_s for one in served if one.output_tokens > 1),
        slo_attainment=kept / arrived if arrived else None,
    )


def measure_quantiles(values: Iterable[float]) -> Quantiles:
    known = list(values)
    if not known:
        return Quantiles(None, None, None)
    return Quantiles(*(float(found) for found in np.quantile(known, (0.5, 0.9, 0.99))))

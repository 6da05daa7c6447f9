"""Pocket experts behind real Ray Serve on this machine, while questions to one domain become ten times as many.

Finance has an engine of its own, which scales; the other domains share the second engine, which does not. Its weights
are random, of the pocket experts' architecture and without an end token, so that every answer takes the 48 steps of its
limit: 0.3 s of one core, of which a replica gives one answer at a time. All contenders get the same questions at the
same moments, one contender after another on the same Ray.
"""

import asyncio
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
from rich.console import Console

from benchmarks.overhead import build_weights
from deployments.applications import observe_weights, plan_serve_config
from deployments.cli_progress import Progress
from deployments.cli_serve import apply_config, await_ready
from deployments.environment import Environment, read_environment
from deployments.index_build import build_indexes
from deployments.local_ray import start_local_ray, stop_local_ray
from deployments.scaling_record import read_scaling
from deployments.up import connect_ray
from experts.fleet import Fleet, Variant
from experts.fleet_file import load_fleet
from experts.scaling_settings import Scaling

Contender = Literal["fixed", "ray-default", "guildhall"]
# Ray's default comes last: it keeps its replicas for ten minutes, which the next one would inherit.
CONTENDERS: tuple[Contender, ...] = ("fixed", "guildhall", "ray-default")
POCKET = Path(__file__).parents[1] / "cluster/fleets/pocket.yaml"
PORT = 8437
SPIKING = "finance"
QUIET = ("math", "coding")
ENGINE = "finance"
# As many as the machine has cores: a third replica would only take from the other two, and from who asks.
MOST = 2
# Through the gateway one replica gives about 1.5 answers a second on these cores: calm is an eighth of it, the spike
# is over it, and all together is less than two cores can do.
CALM_RATE = 0.18
SPIKE_FACTOR = 10.0
QUIET_RATE = 0.2
TTFT_SLO_S = 2.0
QUESTIONS = {
    "finance": "What was the revenue of Norvane Systems in Q2 2025?",
    "math": "What is the area of a circle with radius 3?",
    "coding": "What does the function load_events return?",
}

_HAS_TEXT = re.compile(r'"content": ?"[^"]')

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Asked:
    """One question: its domain, when it was to be sent, how late it was, seconds to its first text; None: it failed."""

    domain: str
    at_s: float
    late_s: float
    ttft_s: float | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one contender made of the replay."""

    attainment: float
    failed: int
    asked: int
    replica_s: float
    recover_s: float
    quiet_p99_calm_s: float
    quiet_p99_spike_s: float
    most_replicas: int
    late_p99_s: float
    """How late questions were sent: what the asking process itself lacked of the cores."""
    decisions: tuple[str, ...]


def build_fleet(folder: Path) -> Fleet:
    """The pocket fleet with an engine of its own for the domain that spikes; its weights are written to `folder`."""
    build_weights(folder)
    pocket = load_fleet(POCKET)
    shared = pocket.engines["pocket"].model_copy(update={"kv_cache_gib": 0.125})
    own = shared.model_copy(
        update={
            "model": str(folder),
            "max_num_seqs": 1,
            "max_in_flight": 4,
            "max_adapters": 0,
            "replicas": shared.replicas.model_copy(update={"min": 1, "max": MOST, "target_in_flight": 1}),
            "scaling": Scaling(hold_s=30, start_s=30),
        }
    )
    domains = dict(pocket.domains)
    spiking = domains[SPIKING]
    variants = {"plain": Variant(engine=ENGINE)}
    domains[SPIKING] = spiking.model_copy(
        update={"variants": variants, "slo": spiking.slo.model_copy(update={"ttft_s": TTFT_SLO_S})}
    )
    nodes = {name: node.model_copy(update={"cpus": MOST + 1}) for name, node in pocket.nodes.items()}
    return pocket.model_copy(
        update={
            "engines": {"pocket": shared, ENGINE: own},
            "domains": domains,
            "gateway": pocket.gateway.model_copy(update={"port": PORT}),
            "nodes": nodes,
        }
    )


def plan_contender(config: dict[str, Any], contender: Contender) -> dict[str, Any]:
    """The fleet's Serve config with the scaling of a contender for the engine that spikes."""
    if contender == "guildhall":
        return config
    applications = []
    for application in config["applications"]:
        if application["name"] == ENGINE:
            (deployment,) = application["deployments"]
            kept = {name: value for name, value in deployment.items() if name != "autoscaling_config"}
            # Ray's defaults for everything but the target, which is the one that Guildhall's policy has.
            most = 1 if contender == "fixed" else MOST
            scaling = {"min_replicas": 1, "max_replicas": most, "target_ongoing_requests": 1}
            application = {**application, "deployments": [{**kept, "autoscaling_config": scaling}]}
        applications.append(application)
    return {**config, "applications": applications}


def draw_arrivals(length_s: float, seed: int = 3) -> list[tuple[float, str]]:
    """When which domain is asked; the spike is the third fifth and the fourth of the replay."""
    random = np.random.default_rng(seed)
    begin, end = spike_of(length_s)
    arrivals: list[tuple[float, str]] = []
    for domain in (SPIKING, *QUIET):
        at = 0.0
        while at < length_s:
            spiking = domain == SPIKING and begin <= at < end
            rate = (CALM_RATE * (SPIKE_FACTOR if spiking else 1)) if domain == SPIKING else QUIET_RATE
            at += random.exponential(1 / rate)
            # A gap that was drawn before the spike must not swallow its beginning.
            if domain == SPIKING and not spiking and at > begin and at - begin < 1 / CALM_RATE:
                at = begin
            arrivals.append((at, domain))
    return sorted(arrival for arrival in arrivals if arrival[0] < length_s)


def spike_of(length_s: float) -> tuple[float, float]:
    """When the spike begins and ends."""
    return 0.3 * length_s, 0.7 * length_s


async def replay(arrivals: Sequence[tuple[float, str]], url: str) -> list[Asked]:
    """Ask every question at its moment, whether or not earlier ones are answered."""
    begin = time.monotonic()

    async def ask(client: httpx.AsyncClient, at: float, domain: str) -> Asked:
        await asyncio.sleep(max(0.0, begin + at - time.monotonic()))
        sent = time.monotonic()
        late = sent - begin - at
        body = {
            "model": f"guildhall/{domain}",
            "messages": [{"role": "user", "content": QUESTIONS[domain]}],
            "stream": True,
        }
        first: float | None = None
        try:
            async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
                async for line in response.aiter_lines():
                    if first is None and response.status_code == 200 and _HAS_TEXT.search(line):
                        first = time.monotonic() - sent
        except httpx.HTTPError:
            return Asked(domain, at, late, None)
        return Asked(domain, at, late, first)

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=180, limits=limits, trust_env=False) as client:
        return list(await asyncio.gather(*(ask(client, at, domain) for at, domain in arrivals)))


async def watch(until: asyncio.Event) -> tuple[float, int, list[str]]:
    """Replica-seconds of the engine, most replicas at once, and the reasons of changes."""
    replica_s, most, reasons, last = 0.0, 0, list[str](), time.monotonic()
    while not until.is_set():
        # In a thread, because a controller that lacks a core answers after seconds, and questions are asked meanwhile.
        states = await asyncio.to_thread(_observe_replicas)
        now = time.monotonic()
        count = sum(states.values())
        replica_s += count * (now - last)
        most, last = max(most, count), now
        for record in await asyncio.to_thread(read_scaling, [ENGINE]):
            reason = f"{record.replicas}: {record.reason}"
            if not reasons or reasons[-1].partition(":")[0] != str(record.replicas):
                reasons.append(reason)
        await asyncio.sleep(0.5)
    return replica_s, most, reasons


async def run_contender(length_s: float, url: str) -> tuple[list[Asked], float, int, list[str]]:
    """One replay with what was watched meanwhile."""
    ended = asyncio.Event()
    watching = asyncio.create_task(watch(ended))
    asked = await replay(draw_arrivals(length_s), url)
    ended.set()
    return asked, *(await watching)


def judge(asked: Sequence[Asked], length_s: float, replica_s: float, most: int, reasons: Sequence[str]) -> Outcome:
    """Figures of one replay; a question that failed has missed its SLO."""
    begin, end = spike_of(length_s)
    spiking = [one for one in asked if one.domain == SPIKING]
    late = [one.at_s for one in spiking if one.at_s >= begin and not _kept(one)]
    calm, spike = (
        [one.ttft_s or TTFT_SLO_S * 10 for one in asked if one.domain in QUIET and inside(one.at_s)]
        for inside in (lambda at: at < begin, lambda at: begin <= at < end)
    )
    return Outcome(
        attainment=sum(map(_kept, spiking)) / len(spiking),
        failed=sum(one.ttft_s is None for one in asked),
        asked=len(asked),
        replica_s=round(replica_s, 1),
        recover_s=round(max(late) - begin, 1) if late else 0.0,
        quiet_p99_calm_s=round(float(np.quantile(calm, 0.99)), 3),
        quiet_p99_spike_s=round(float(np.quantile(spike, 0.99)), 3),
        most_replicas=most,
        late_p99_s=round(float(np.quantile([one.late_s for one in asked], 0.99)), 3),
        decisions=tuple(reasons),
    )


def _kept(one: Asked) -> bool:
    return one.ttft_s is not None and one.ttft_s <= TTFT_SLO_S


def run_live(length_s: float) -> dict[str, Any]:
    """All contenders, one after another."""
    outcomes: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bench-autoscale-") as folder:
        data_dir = Path(folder)
        environment: Environment = read_environment()
        weights = data_dir / "weights"
        weights.mkdir()
        fleet = build_fleet(weights)
        progress = Progress(console)
        built = build_indexes(fleet, data_dir, progress)
        config = plan_serve_config(fleet, {name: source for name, (source, _) in built.items()}, observe_weights(fleet))
        local = start_local_ray(data_dir, MOST + 4)
        try:
            with connect_ray(local, environment):
                for contender in CONTENDERS:
                    chosen = plan_contender(config, contender)
                    apply_config(chosen, progress, shared=False)
                    await_ready(chosen, progress, time.monotonic() + 600, None)
                    url = f"http://127.0.0.1:{PORT}"
                    for _ in range(3):
                        asyncio.run(replay([(0.0, domain) for domain in QUESTIONS], url))
                    _settle()
                    asked, replica_s, most, reasons = asyncio.run(run_contender(length_s, url))
                    outcomes[contender] = asdict(judge(asked, length_s, replica_s, most, reasons))
                    console.print(contender, outcomes[contender])
        finally:
            stop_local_ray(data_dir, local)
    return outcomes


def _observe_replicas() -> dict[str, int]:
    """Replicas of the engine that spikes, by state."""
    from ray import serve

    states = serve.status().applications[ENGINE].deployments["Expert"].replica_states
    return {str(state): count for state, count in states.items()}


def _settle() -> None:
    """Wait until the engine is back at one replica, so that no contender begins with another's."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if sum(_observe_replicas().values()) == 1:
            return
        time.sleep(0.5)

"""A day of eight domains on 200 nodes, simulated once a second: fixed replicas, Ray Serve's policy, Guildhall's.

Every engine is a line (first come, first served) before its replicas; how fast these answer comes from the planner's
cost model. A request keeps its SLO when its wait and its prefill are within it; slots are few enough for TPOT to hold.
Coarse on purpose: requests of one second are alike, and load is spread evenly over an engine's replicas.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from ray.serve._private.autoscaling_state import AutoscalingContext
from ray.serve.autoscaling_policy import _apply_delay_logic, _apply_scaling_factors, _core_replica_queue_length_policy
from ray.serve.config import AutoscalingConfig

from benchmarks.autoscale_traffic import DAY_S, DOMAINS, DomainTraffic, Floats, Trace, draw_day, load_trace
from cluster.accelerators import ACCELERATORS
from cluster.arrivals import ArrivalHistory
from cluster.cost_model import Build, Roofline
from cluster.model_shape import find_shape
from cluster.scaling_share import Room
from deployments.scaling_demand import EngineDemand
from deployments.scaling_desk import Observation, ScalingDesk
from experts.fleet import Engine
from experts.scaling_settings import ForecastScaling, Scaling, ScheduleWindow

NODES = 200
MOST = 80
SLOTS = 32
TTFT_SLO_S = 2.0
DECIDE_EVERY_S = 5
MODEL = "Qwen/Qwen2.5-7B-Instruct"
GPU = "L40S"
MONDAY = datetime(2026, 11, 23, tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Service:
    """How fast one replica answers: `per_s[b]` answers a second with b in flight, `prefill_s` to a first token."""

    per_s: tuple[float, ...]
    prefill_s: float

    def look_up(self, in_flight: float) -> float:
        """Answers a second with so many in flight, between whole numbers linear."""
        below = int(in_flight)
        if below >= SLOTS:
            return self.per_s[SLOTS]
        return self.per_s[below] + (self.per_s[below + 1] - self.per_s[below]) * (in_flight - below)

    @staticmethod
    def of(trace: Trace) -> "Service":
        engine = Engine(model=MODEL, device="gpu", max_num_seqs=SLOTS)
        steps = Roofline(Build.of(engine, find_shape(MODEL, {})), ACCELERATORS[GPU], 1)
        whole, batches = np.array([1.0]), np.arange(1, SLOTS + 1, dtype=float)
        prefill = float(steps.interpolate_prefill(whole, trace.prompt_tokens)[0])
        decode = steps.interpolate_decode(whole, batches, trace.prompt_tokens + trace.output_tokens / 2)[0]
        # Each answer costs its own prefill, in which nobody decodes, and its share of the steps.
        per_s = batches / (batches * prefill + trace.output_tokens * decode)
        return Service((0.0, *map(float, per_s)), prefill)

    def find_in_flight(self, utilization: float) -> float:
        """Requests in flight at which a replica does this share of the most that it can do."""
        return next(float(count) for count in range(1, SLOTS + 1) if self.per_s[count] >= utilization * self.per_s[-1])

    def answer_s(self, in_flight: float) -> float:
        """Time of an answer beside so many."""
        return in_flight / self.look_up(in_flight)


@dataclass(slots=True)
class Line:
    """One engine: what waits, what is answered, and the replicas on their way in and out."""

    arrivals: Floats
    service: Service
    ready: int
    target: int
    starting: list[float] = field(default_factory=list)
    leaving: list[float] = field(default_factory=list)
    active: float = 0.0
    head: int = 0
    arrived: float = 0.0
    admitted: float = 0.0
    admissions: Floats = field(default_factory=lambda: np.zeros(DAY_S))
    replica_s: float = 0.0
    missed: float = 0.0

    @property
    def waiting(self) -> float:
        return self.arrived - self.admitted

    def step(self, second: int, curve: Floats) -> None:
        """One second: arrivals join, replicas answer, free slots take the head of the line."""
        self.arrived = curve[second]
        if self.ready:
            busy = min(SLOTS, self.active / self.ready)
            self.active -= min(self.active, self.ready * self.service.look_up(busy))
        taken = min(self.waiting, max(0.0, self.ready * SLOTS - self.active))
        self.active += taken
        self.admitted += taken
        self.admissions[second] = self.admitted
        while self.head < second and curve[self.head] <= self.admitted + 1e-9:
            self.head += 1
        self.replica_s += self.ready + len(self.starting) + len(self.leaving)


Decide = Callable[[int, Sequence[Line]], list[int]]


@dataclass(frozen=True, slots=True)
class Day:
    """What one contender made of the day."""

    attainment: float
    by_domain: dict[str, float]
    replica_hours: float
    recover_s: dict[str, float]
    most_nodes: int
    starts: int


def simulate_day(
    arrivals: dict[str, Floats], services: dict[str, Service], first: Sequence[int], decide: Decide, start_s: float
) -> Day:
    """Run the day; `decide` gives every engine's target each second, and what it may start fits 200 nodes."""
    lines = [Line(arrivals[name], services[name], count, count) for (name, count) in zip(arrivals, first, strict=True)]
    curves = [np.cumsum(line.arrivals) for line in lines]
    most = starts = 0
    for second in range(DAY_S):
        for line, curve in zip(lines, curves, strict=True):
            line.ready += sum(1 for at in line.starting if at <= second)
            line.starting = [at for at in line.starting if at > second]
            line.leaving = [at for at in line.leaving if at > second]
            line.step(second, curve)
        used = sum(line.ready + len(line.starting) + len(line.leaving) for line in lines)
        most = max(most, used)
        for line, target in zip(lines, decide(second, lines), strict=True):
            line.target = target
            has = line.ready + len(line.starting)
            for _ in range(max(0, min(target - has, NODES - used))):
                line.starting.append(second + start_s)
                used += 1
                starts += 1
            for _ in range(max(0, has - target)):
                if line.starting:
                    line.starting.pop()
                else:
                    # It takes nothing new and stays until its longest answer is out, about twice the mean one.
                    busy = max(1.0, min(SLOTS, line.active / line.ready))
                    line.ready -= 1
                    line.leaving.append(second + 2 * line.service.answer_s(busy))
    return _judge(arrivals, lines, curves, most, starts)


def _judge(arrivals: dict[str, Floats], lines: Sequence[Line], curves: Sequence[Floats], most: int, starts: int) -> Day:
    kept, by_domain, recover = 0.0, {}, {}
    for domain, line, curve in zip(DOMAINS, lines, curves, strict=True):
        seconds = np.arange(DAY_S)
        # The last of a second's arrivals is admitted when the curve of admissions reaches theirs.
        waits = np.searchsorted(line.admissions, curve - 1e-6) - seconds
        good = (waits + line.service.prefill_s <= TTFT_SLO_S) & (waits < DAY_S)
        kept += float(line.arrivals[good].sum())
        by_domain[domain.name] = float(line.arrivals[good].sum() / line.arrivals.sum())
        for bump in domain.bumps:
            bad = np.flatnonzero(
                ~good[bump.start_s : bump.start_s + 3600] & (line.arrivals[bump.start_s : bump.start_s + 3600] > 0)
            )
            recover[f"{domain.name} at {bump.start_s / 3600:.1f} h"] = float(bad[-1] + 1) if len(bad) else 0.0
    total = sum(float(day.sum()) for day in arrivals.values())
    return Day(kept / total, by_domain, sum(line.replica_s for line in lines) / 3600, recover, most, starts)


class Fixed:
    """The replicas that the busiest five minutes of an ordinary day need, all day."""

    def __init__(self, counts: Sequence[int]) -> None:
        self.counts = list(counts)

    def __call__(self, second: int, lines: Sequence[Line]) -> list[int]:
        return self.counts


class RayDefault:
    """Ray Serve's own policy functions, its defaults (mean of 30 s, up after 30 s, down after 600 s) and a target."""

    def __init__(self, targets: Sequence[float]) -> None:
        self.configs = [
            AutoscalingConfig(min_replicas=1, max_replicas=MOST, target_ongoing_requests=target) for target in targets
        ]
        self.states: list[dict[str, Any]] = [{} for _ in DOMAINS]
        self.seen: list[list[float]] = [[] for _ in DOMAINS]

    def __call__(self, second: int, lines: Sequence[Line]) -> list[int]:
        targets = []
        for index, line in enumerate(lines):
            config, seen = self.configs[index], self.seen[index]
            seen.append(line.waiting + line.active)
            del seen[: -int(config.look_back_period_s)]
            context = AutoscalingContext(
                deployment_id=None,
                deployment_name="",
                app_name=None,
                current_num_replicas=line.ready,
                target_num_replicas=line.target,
                running_replicas=[],
                total_num_requests=sum(seen) / len(seen),
                total_queued_requests=0.0,
                aggregated_metrics=None,
                raw_metrics=None,
                capacity_adjusted_min_replicas=1,
                capacity_adjusted_max_replicas=MOST,
                policy_state={},
                last_scale_up_time=None,
                last_scale_down_time=None,
                current_time=float(second),
                config=config,
            )
            desired, _ = _core_replica_queue_length_policy(context)
            scaled = _apply_scaling_factors(desired, line.ready, config)
            wanted, self.states[index] = _apply_delay_logic(
                max(0, scaled), line.target, config, self.states[index], _now=float(second)
            )
            targets.append(max(1, min(MOST, wanted)))
        return targets


class Guildhall:
    """The desk that runs in Serve's controller; there it decides every second, here every fifth, which is cheaper."""

    def __init__(
        self,
        targets: Sequence[float],
        start_s: float,
        profiles: Mapping[str, Sequence[float | None]],
        scheduled: Mapping[str, int],
    ) -> None:
        self.targets: list[int] = []
        self.desk = ScalingDesk(
            write=lambda record: None,
            keep_profile=lambda engine, profile: None,
            read_profiles=lambda: profiles,
            read_sleeps=dict,
        )
        room = Room(NODES, 10 * NODES)
        self.demands = [
            EngineDemand(
                engine=domain.name,
                fewest=1,
                most=MOST,
                target_in_flight=target,
                scaling=Scaling(
                    start_s=start_s, forecast=ForecastScaling(), schedule=_plan_windows(domain, scheduled[domain.name])
                ),
                ttft_slo_s={domain.name: TTFT_SLO_S},
                gpus=1,
                cpus=1,
                node_type=None,
                idle_sleep_s=None,
                room=room,
            )
            for domain, target in zip(DOMAINS, targets, strict=True)
        ]

    def __call__(self, second: int, lines: Sequence[Line]) -> list[int]:
        if second % DECIDE_EVERY_S and self.targets:
            return self.targets
        self.targets = [
            self.desk.decide(demand, _observe(demand.engine, second, line))
            for demand, line in zip(self.demands, lines, strict=True)
        ]
        return self.targets


def _observe(name: str, second: int, line: Line) -> Observation:
    """All replicas of a line as if they were one that adds them up."""
    busy = max(1.0, min(SLOTS, line.active / max(1, line.ready)))
    prefilling = min(line.active, line.arrivals[second] * line.service.prefill_s)
    figures = {
        "arrived": line.admitted,
        "in_flight": line.active,
        "waiting": prefilling,
        "kv_use": line.active / SLOTS * 0.8,
        "answer_s": line.service.answer_s(busy),
        f"ttft_s.{name}": (second - line.head if line.waiting >= 1 else 0) + line.service.prefill_s,
    }
    return Observation(MONDAY + second, line.target, line.ready, line.waiting, {"all": figures})


def _plan_windows(domain: DomainTraffic, replicas: int) -> tuple[ScheduleWindow, ...]:
    """What an operator writes down of what is known: when, and the replicas that it took last time."""
    windows = []
    for bump in domain.bumps:
        if bump.known:
            start, end = (
                f"{at // 3600:02d}:{at % 3600 // 60:02d}" for at in (bump.start_s, bump.start_s + bump.length_s)
            )
            windows.append(ScheduleWindow(name="known event", replicas=replicas, start=start, end=end))
    return tuple(windows)


def learn_profile(arrivals: Floats, start_s: float) -> list[float | None]:
    """What the day before leaves in a history."""
    history = ArrivalHistory()
    for second in range(DAY_S):
        history.observe(MONDAY - DAY_S + second, float(arrivals[second]), start_s)
    history.observe(MONDAY, 0.0, start_s)
    return history.dump_profile()


def count_needed(rate: float, service: Service, in_flight: float) -> int:
    """Replicas that carry a rate with so many in flight at each."""
    return max(1, ceil(rate / service.look_up(in_flight)))


def run_day(traces: Path, start_s: float, theirs: Sequence[float], ours: float, seed: int = 7) -> dict[str, Any]:
    """All contenders on the same day, each aiming at a utilization of its replicas; Ray's default once for each."""
    loaded = {domain.name: load_trace(traces, domain.trace) for domain in DOMAINS}
    arrivals = {domain.name: draw_day(domain, loaded[domain.name], seed) for domain in DOMAINS}
    services = {name: Service.of(trace) for name, trace in loaded.items()}
    before = {domain.name: draw_day(domain, loaded[domain.name], seed + 1, bumps=False) for domain in DOMAINS}
    busiest = {name: float(day.reshape(-1, 300).mean(axis=1).max()) for name, day in before.items()}
    targets = {name: service.find_in_flight(ours) for name, service in services.items()}
    scheduled = {name: min(MOST, count_needed(rate, services[name], targets[name])) for name, rate in busiest.items()}
    first = [count_needed(float(day[:600].mean()), services[name], targets[name]) for name, day in arrivals.items()]
    fixed = list(scheduled.values())
    profiles = {name: learn_profile(day, start_s) for name, day in before.items()}
    contenders: dict[str, Decide] = {"fixed": Fixed(fixed)}
    for share in theirs:
        in_flight = [service.find_in_flight(share) for service in services.values()]
        contenders[f"ray-default-{share:g}"] = RayDefault(in_flight)
    contenders["guildhall"] = Guildhall(list(targets.values()), start_s, profiles, scheduled)
    days = {}
    for name, decide in contenders.items():
        days[name] = simulate_day(arrivals, services, fixed if name == "fixed" else first, decide, start_s)
    return {"requests": int(sum(day.sum() for day in arrivals.values())), "start_s": start_s, "days": days}

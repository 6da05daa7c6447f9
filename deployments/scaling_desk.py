"""Where the policies of all engines meet: the one owner of what they remember, in the process of Serve's controller.

Every application has its own policy, which sees its own deployment only; a spike in one must still not take the
machines of another. Serve runs all policies in one thread of one process, so what they share is an object there: no
message, no lock, no second owner (docs/decisions/0012).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from math import inf, isfinite

from cluster.arrivals import ArrivalHistory
from cluster.scaling import Need, ReplicaStats, ScalingDecision, ScalingSnapshot, choose_replicas
from cluster.scaling_share import Claim, Grant, share_replicas
from deployments.cluster_notes import leave_note, read_notes
from deployments.logs import log_event
from deployments.scaling_demand import EngineDemand, read_demands
from deployments.scaling_record import ScalingRecord, write_scaling

# Serve asks ten times a second, and replicas report once.
DECIDE_EVERY_S = 1.0
RECORD_EVERY_S = 5.0
KEEP_PROFILE_EVERY_S = 300.0
# An engine without replicas that has requests is not asked about: Serve starts one replica by itself.
WAKING_AFTER_S = 3.0
FORGET_AFTER_S = 600.0
# A queue of thousands weighs no more than this: it is a spike's own, and others have done nothing to deserve it.
MOST_PRESSURE = 2.0
# Weight of the newest start in the mean time of one.
NEWEST_START = 0.5
NEWEST_ANSWER = 0.2
# Replicas and handles report at different moments, so that a request may be seen at neither for a second or two.
FORGIVEN = 0.2


@dataclass(frozen=True, slots=True)
class Observation:
    """What Serve and the replicas say of an engine now; `figures` are those of `ReplicaLoad.record`, by replica."""

    at_s: float
    target: int
    running: int
    queued: float
    figures: Mapping[str, Mapping[str, float]]


@dataclass(slots=True)
class _Engine:
    demand: EngineDemand
    history: ArrivalHistory = field(default_factory=ArrivalHistory)
    needs: list[tuple[float, int]] = field(default_factory=list)
    arrived: dict[str, float] = field(default_factory=dict)
    total: float = 0.0
    counted: float = 0.0
    arrived_at: float = 0.0
    answer_s: float = 0.0
    start_s: float | None = None
    starting: list[float] = field(default_factory=list)
    target: int | None = None
    running: int = 0
    decided_at: float = 0.0
    decision: ScalingDecision | None = None
    granted: int = 0
    capped: str = ""
    recorded_at: float = -inf
    kept_at: float = 0.0
    changes_up: int = 0
    changes_down: int = 0


class ScalingDesk:
    """Decides for every engine from what all have reported; whoever holds it calls it from one thread."""

    def __init__(
        self,
        write: Callable[[ScalingRecord], None] = write_scaling,
        keep_profile: Callable[[str, Sequence[float | None]], None] | None = None,
        read_profiles: Callable[[], Mapping[str, Sequence[float | None]]] | None = None,
        read_sleeps: Callable[[], Mapping[str, float]] | None = None,
        read_demands: Callable[[], Mapping[str, EngineDemand]] = read_demands,
    ) -> None:
        self._engines: dict[str, _Engine] = {}
        self._read_demands = read_demands
        self._demands: Mapping[str, EngineDemand] = {}
        self._demands_at = -inf
        self._write = write
        self._keep_profile = keep_profile or _keep_profile
        self._read_profiles = read_profiles or _read_profiles
        self._read_sleeps = read_sleeps or _read_sleeps

    def find_demand(self, engine: str, now_s: float) -> EngineDemand | None:
        """What the fleet file says of an engine, as of a second ago at most; None before it was said."""
        if not 0 <= now_s - self._demands_at < DECIDE_EVERY_S:
            self._demands, self._demands_at = self._read_demands(), now_s
        return self._demands.get(engine)

    def decide(self, demand: EngineDemand, seen: Observation) -> int:
        """How many replicas to ask for; within a second of the last decision the same."""
        engine = self._engines.get(demand.engine)
        if engine is None:
            # What runs when the desk begins was needed until now, as far as it knows: a new controller takes none away.
            engine = _Engine(demand, kept_at=seen.at_s, needs=[(seen.at_s, seen.target)])
            self._engines[demand.engine] = engine
            engine.history.load_profile(self._read_profiles().get(demand.engine, ()))
        if engine.demand == demand and engine.decision and seen.at_s - engine.decided_at < DECIDE_EVERY_S:
            return engine.granted
        engine.demand = demand
        self._observe_starts(engine, seen)
        self._observe_arrivals(engine, seen)
        snapshot = self._take_snapshot(engine, seen)
        engine.decision = choose_replicas(snapshot)
        engine.decided_at = seen.at_s
        engine.needs.append((seen.at_s, engine.decision.needed))
        keep_s = max(demand.scaling.hold_s, demand.idle_sleep_s or 0.0)
        engine.needs = _thin([need for need in engine.needs if seen.at_s - need[0] <= keep_s])
        before = engine.granted if isfinite(engine.recorded_at) else seen.target
        grant = self._share(seen.at_s)[demand.engine]
        engine.granted = max(demand.fewest, grant.replicas)
        engine.capped = grant.reason
        self._record(engine, seen, before)
        return engine.granted

    def _observe_starts(self, engine: _Engine, seen: Observation) -> None:
        """How long replicas take from being asked for to serving."""
        if engine.target is None:
            # What runs when the desk first looks was started before; what does not is starting now.
            engine.target, engine.running = seen.running, seen.running
        engine.starting += [seen.at_s] * max(0, seen.target - engine.target)
        for _ in range(max(0, seen.running - engine.running)):
            if engine.starting:
                seconds = seen.at_s - engine.starting.pop(0)
                before = engine.start_s if engine.start_s is not None else seconds
                engine.start_s = before + NEWEST_START * (seconds - before)
        if seen.target <= seen.running:
            engine.starting.clear()
        engine.target, engine.running = seen.target, seen.running

    def _observe_arrivals(self, engine: _Engine, seen: Observation) -> None:
        engine.total += sum(
            max(0.0, figures.get("arrived", 0.0) - engine.arrived.get(replica, 0.0))
            for replica, figures in seen.figures.items()
        )
        engine.arrived = {replica: figures.get("arrived", 0.0) for replica, figures in seen.figures.items()}
        # A request that waits before any replica has arrived as well, and must not arrive again when one takes it.
        arrived = max(0.0, engine.total + seen.queued - engine.counted)
        # Who gave up waiting was counted and never reaches a replica.
        gave_up = max(0.0, engine.counted - engine.total - seen.queued)
        engine.counted += arrived - FORGIVEN * gave_up
        if arrived > 0:
            engine.arrived_at = seen.at_s
        engine.history.observe(seen.at_s, arrived, self._start_s(engine))
        times = [figures["answer_s"] for figures in seen.figures.values() if figures.get("answer_s")]
        if times:
            mean = sum(times) / len(times)
            engine.answer_s += (NEWEST_ANSWER if engine.answer_s else 1.0) * (mean - engine.answer_s)
        if seen.at_s - engine.kept_at >= KEEP_PROFILE_EVERY_S:
            engine.kept_at = seen.at_s
            self._keep_profile(engine.demand.engine, engine.history.dump_profile())

    def _take_snapshot(self, engine: _Engine, seen: Observation) -> ScalingSnapshot:
        demand, start_s = engine.demand, self._start_s(engine)
        settings = demand.scaling
        asked_at = self._read_sleeps().get(demand.engine, 0.0) if demand.fewest == 0 and seen.target else 0.0
        return ScalingSnapshot(
            at=datetime.fromtimestamp(seen.at_s, UTC),
            fewest=demand.fewest,
            most=demand.most,
            target_in_flight=demand.target_in_flight,
            scaling=settings,
            target=seen.target,
            running=seen.running,
            replicas=tuple(_read_stats(figures, demand.ttft_slo_s) for figures in seen.figures.values()),
            queued=seen.queued,
            rate=engine.history.rate,
            answer_s=engine.answer_s,
            ttft_slo_s=min(demand.ttft_slo_s.values()),
            start_s=start_s,
            forecast=engine.history.forecast(start_s, settings.forecast.quantile) if settings.forecast else None,
            needs=tuple(Need(seen.at_s - at, replicas) for at, replicas in engine.needs),
            hold_s=demand.idle_sleep_s,
            sleep=asked_at > engine.arrived_at,
        )

    def _share(self, at_s: float) -> dict[str, Grant]:
        """What every engine may have, by the newest decision about each."""
        self._engines = {
            name: engine for name, engine in self._engines.items() if at_s - engine.decided_at <= FORGET_AFTER_S
        }
        claims = []
        for name, engine in self._engines.items():
            assert engine.decision is not None
            demand, decision = engine.demand, engine.decision
            waking = int(at_s - engine.decided_at > WAKING_AFTER_S)
            claims.append(
                Claim(
                    name,
                    floor=max(demand.fewest, waking, min(1, decision.needed)),
                    needed=max(decision.needed, waking),
                    wanted=max(decision.replicas, waking),
                    running=engine.running,
                    weight=demand.scaling.priority * min(MOST_PRESSURE, max(1.0, decision.pressure)),
                    gpus=demand.gpus,
                    cpus=demand.cpus,
                    node_type=demand.node_type,
                )
            )
        room = self._engines[max(self._engines, key=lambda name: self._engines[name].decided_at)].demand.room
        return share_replicas(claims, room)

    def _start_s(self, engine: _Engine) -> float:
        return engine.demand.scaling.start_s if engine.start_s is None else engine.start_s

    def _record(self, engine: _Engine, seen: Observation, before: int) -> None:
        decision = engine.decision
        assert decision is not None
        changed = engine.granted != before
        engine.changes_up += int(engine.granted > before)
        engine.changes_down += int(engine.granted < before)
        if not changed and seen.at_s - engine.recorded_at < RECORD_EVERY_S:
            return
        engine.recorded_at = seen.at_s
        if changed:
            log_event(
                "replicas_chosen",
                engine=engine.demand.engine,
                replicas=engine.granted,
                before=before,
                policy=decision.policy,
                reason=decision.reason,
                capped=engine.capped,
            )
        self._write(
            ScalingRecord(
                engine=engine.demand.engine,
                at=seen.at_s,
                running=seen.running,
                replicas=engine.granted,
                wanted=decision.replicas,
                policy=decision.policy,
                reason=decision.reason,
                wishes=decision.wishes,
                capped=engine.capped,
                pressure=round(decision.pressure, 3),
                rate=round(engine.history.rate, 3),
                start_s=round(self._start_s(engine), 1),
                changes_up=engine.changes_up,
                changes_down=engine.changes_down,
            )
        )


@cache
def open_desk() -> ScalingDesk:
    """The desk of this process."""
    return ScalingDesk()


def _read_stats(figures: Mapping[str, float], ttft_slo_s: Mapping[str, float]) -> ReplicaStats:
    return ReplicaStats(
        in_flight=figures.get("in_flight", 0.0),
        waiting=figures.get("waiting", 0.0),
        waiting_tokens=figures.get("waiting_tokens", 0.0),
        kv_use=figures.get("kv_use", 0.0),
        lateness=max((figures.get(f"ttft_s.{domain}", 0.0) / slo for domain, slo in ttft_slo_s.items()), default=0.0),
    )


def _thin(needs: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """Only what can still be the highest of a window that ends later: newer ones that are higher hide older ones."""
    kept: list[tuple[float, int]] = []
    for at, replicas in needs:
        while kept and kept[-1][1] <= replicas:
            kept.pop()
        kept.append((at, replicas))
    return kept


def _keep_profile(engine: str, profile: Sequence[float | None]) -> None:
    leave_note("arrivals", engine, [None if rate is None else round(rate, 4) for rate in profile])


def _read_profiles() -> Mapping[str, Sequence[float | None]]:
    return {note.about: note.body for note in read_notes("arrivals")}


def _read_sleeps() -> Mapping[str, float]:
    return {note.about: note.at for note in read_notes("sleep-requests")}

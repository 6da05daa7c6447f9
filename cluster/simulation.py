"""The simulator: a fleet's replicas under given arrivals, as discrete events.

Same arrivals, same replicas and same seed, same result. A replica's steps take what its profile or roofline says; where
threads of one node are more than its cores, each gets its part of them (processor sharing).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import ceil
from random import Random

from cluster.core_slots import SLOTS_PER_CORE
from cluster.simulation_engine import Grant, Load, ReplicaSettings, SimulatedReplica, SimulatedRequest
from cluster.simulation_requests import Arrival
from cluster.step_times import StepTimes

Share = Callable[[str, float, Sequence[Load]], Sequence[Grant]]
"""What the replicas of one node may use next, from the node, the time and their loads, in the same order."""

# A sharing decision is asked again after as many steps at most; the live one is asked in every step, and between two
# arrivals it changes slowly.
_SHARED_STRIDE = 8
# Samples of the timeline; more than a plot shows pixels for would only be slower.
_SAMPLES = 400


@dataclass(frozen=True, slots=True)
class PlacedReplica:
    """A replica, its step times, its node, the threads that its steps compute with there, and the GPUs that it holds.

    `host_threads` is the part of a core that its other processes take while it steps: what waits for them is small, and
    what they take is missing where cores are short.
    """

    settings: ReplicaSettings
    times: StepTimes
    node: str
    threads: float
    gpus: float
    host_threads: float = 0.0

    @property
    def cores(self) -> float:
        return self.threads + self.host_threads


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment: requests waiting and running, and KV tokens held, by replica."""

    at_s: float
    waiting: tuple[int, ...]
    running: tuple[int, ...]
    kv_tokens_used: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReplicaUse:
    """What a replica did: seconds in which it stepped, and requests that it gave up room of."""

    busy_s: float
    steps: int


@dataclass(frozen=True, slots=True)
class Simulated:
    """Every arrival with what came of it, in order of arrival; `ended_at_s` is when the last answer was complete."""

    requests: tuple[SimulatedRequest, ...]
    uses: tuple[ReplicaUse, ...]
    timeline: tuple[Sample, ...]
    ended_at_s: float


@dataclass(slots=True)
class _Stride:
    """Steps under way: `left` seconds of them at full speed from `since` on; `version` tells stale events."""

    steps: int = 0
    unit_s: float = 0.0
    left_s: float = 0.0
    since: float = 0.0
    version: int = 0


@dataclass(slots=True)
class _Node:
    """One machine's cores, and who computes on them now."""

    cores: float
    members: list[int] = field(default_factory=list)
    active: set[int] = field(default_factory=set)
    speed: float = 1.0
    crowded: bool = False


class _Simulation:
    """The state of one run; only `simulate` makes one."""

    def __init__(
        self, placed: Sequence[PlacedReplica], cores: Mapping[str, float], share: Share | None, seed: int
    ) -> None:
        self._placed = placed
        self._share = share
        self._random = Random(seed)  # noqa: S311  # a simulation's, not a secret's
        self._replicas = [SimulatedReplica(one.settings, one.times) for one in placed]
        self._strides = [_Stride() for _ in placed]
        self._nodes = {name: _Node(number) for name, number in cores.items()}
        self._by_engine: dict[str, list[int]] = {}
        for place, one in enumerate(placed):
            self._nodes[one.node].members.append(place)
            self._by_engine.setdefault(one.settings.engine, []).append(place)
        for node in self._nodes.values():
            node.crowded = sum(placed[place].cores for place in node.members) > node.cores
        self._events: list[tuple[float, int, int, int]] = []
        self._order = count()
        self._ended_at_s = 0.0

    def run(self, arrivals: Sequence[Arrival], engines: Mapping[str, str]) -> Simulated:
        requests = tuple(SimulatedRequest(number, arrival) for number, arrival in enumerate(arrivals))
        timeline: list[Sample] = []
        step_s = max(arrivals[-1].at_s, 1.0) / _SAMPLES if arrivals else 1.0
        place = 0
        while place < len(requests) or self._events:
            arrives_at = requests[place].arrival.at_s if place < len(requests) else None
            if arrives_at is not None and (not self._events or arrives_at <= self._events[0][0]):
                now = arrives_at
                self._accept(requests[place], engines, now)
                place += 1
            else:
                now, _, replica, version = heappop(self._events)
                if version != self._strides[replica].version:
                    continue
                self._end_stride(replica, now)
            if now >= len(timeline) * step_s:
                timeline.append(self._observe(now))
        uses = tuple(ReplicaUse(replica.busy_s, replica.steps_done) for replica in self._replicas)
        return Simulated(requests, uses, tuple(timeline), self._ended_at_s)

    def _accept(self, request: SimulatedRequest, engines: Mapping[str, str], now: float) -> None:
        place = self._choose_replica(engines[request.arrival.domain])
        replica, stride = self._replicas[place], self._strides[place]
        if not replica.accept(request):
            request.refused = True
            return
        if not stride.steps:
            if self._share is None:
                self._begin_stride(place, now)
            else:
                self._begin_shared(self._placed[place].node, now)
        elif stride.steps > 1 and len(replica.waiting) == 1 and replica.admits():
            # The batch changes at the end of the step under way.
            self._progress(place, now)
            done = stride.steps * stride.unit_s - stride.left_s
            steps = min(stride.steps, max(1, ceil(done / stride.unit_s - 1e-9)))
            stride.left_s -= (stride.steps - steps) * stride.unit_s
            stride.steps = steps
            self._schedule(place, now)

    def _choose_replica(self, engine: str) -> int:
        """As Ray Serve: the less busy of two at random."""
        places = self._by_engine[engine]
        if len(places) == 1:
            return places[0]
        one, other = self._random.sample(places, 2)
        return one if self._replicas[one].in_flight <= self._replicas[other].in_flight else other

    def _begin_stride(self, place: int, now: float, at_most: int | None = None) -> None:
        replica, stride, node = self._replicas[place], self._strides[place], self._nodes[self._placed[place].node]
        steps, unit_s = replica.plan_stride(now)
        stride.steps, stride.unit_s = steps if at_most is None else min(steps, at_most), unit_s
        stride.left_s, stride.since = stride.steps * unit_s, now
        self._set_active(place, node, stride.steps > 0, now)
        if stride.steps:
            self._schedule(place, now)

    def _begin_shared(self, name: str, now: float) -> None:
        """Steps of one node's replicas, by turn, as far as the slots of its cores go."""
        assert self._share is not None
        node = self._nodes[name]
        grants = self._share(name, now, [self._replicas[member].observe_load() for member in node.members])
        free = SLOTS_PER_CORE * node.cores
        ready: list[tuple[int, int]] = []
        for member, grant in zip(node.members, grants, strict=True):
            self._replicas[member].grant = grant
            if self._strides[member].steps:
                free -= self._placed[member].threads
            elif self._replicas[member].in_flight:
                ready.append((grant.turn, member))
        ready.sort()
        short = sum(self._placed[member].threads for _, member in ready) > free
        for _, member in ready:
            if self._placed[member].threads <= free:
                self._begin_stride(member, now, 1 if short else _SHARED_STRIDE)
                free -= self._placed[member].threads if self._strides[member].steps else 0.0

    def _end_stride(self, place: int, now: float) -> None:
        replica, stride = self._replicas[place], self._strides[place]
        replica.busy_s += stride.steps * stride.unit_s
        steps, stride.steps = stride.steps, 0
        if replica.take_steps(steps, now):
            self._ended_at_s = now
        if self._share is None:
            self._begin_stride(place, now)
            return
        self._set_active(place, self._nodes[self._placed[place].node], False, now)
        self._begin_shared(self._placed[place].node, now)

    def _set_active(self, place: int, node: _Node, active: bool, now: float) -> None:
        if not node.crowded or (place in node.active) == active:
            return
        before = node.speed
        for member in node.active:
            self._progress(member, now)
        if active:
            node.active.add(place)
        else:
            node.active.discard(place)
        taken = sum(self._placed[member].cores for member in node.active)
        node.speed = min(1.0, node.cores / taken) if taken else 1.0
        if node.speed != before:
            for member in sorted(node.active - {place}):
                self._schedule(member, now)

    def _progress(self, place: int, now: float) -> None:
        """Count what was computed since the last look."""
        stride = self._strides[place]
        stride.left_s = max(0.0, stride.left_s - (now - stride.since) * self._nodes[self._placed[place].node].speed)
        stride.since = now

    def _schedule(self, place: int, now: float) -> None:
        stride = self._strides[place]
        stride.version += 1
        speed = self._nodes[self._placed[place].node].speed
        heappush(self._events, (now + stride.left_s / speed, next(self._order), place, stride.version))

    def _observe(self, now: float) -> Sample:
        loads = [replica.observe_load() for replica in self._replicas]
        return Sample(
            now,
            tuple(load.waiting for load in loads),
            tuple(load.running for load in loads),
            tuple(load.kv_used for load in loads),
        )


def simulate(
    arrivals: Sequence[Arrival],
    placed: Sequence[PlacedReplica],
    engines: Mapping[str, str],
    cores: Mapping[str, float],
    share: Share | None = None,
    seed: int = 0,
) -> Simulated:
    """What comes of arrivals, in order of time, until the last is answered or refused.

    `engines` are by domain, `cores` by node. Without `share` every replica may always use all that it has.
    """
    return _Simulation(placed, cores, share, seed).run(arrivals, engines)

"""What the policies of all engines remember and share, by a clock that the test moves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.scaling_share import Room
from deployments import scaling_desk, scaling_policy
from deployments.scaling_demand import EngineDemand, plan_demand
from deployments.scaling_desk import Observation, ScalingDesk
from deployments.scaling_plan import plan_autoscaling
from deployments.scaling_record import ScalingRecord
from experts.fleet import Domain, Engine, Fleet, NodeType, Replicas, Slo, Variant
from experts.scaling_settings import ForecastScaling, Scaling, ScheduleWindow


@dataclass
class Desk:
    """A desk whose records and profiles stay here."""

    records: list[ScalingRecord] = field(default_factory=list)
    profiles: dict[str, Sequence[float | None]] = field(default_factory=dict)
    sleeps: dict[str, float] = field(default_factory=dict)
    demands: dict[str, EngineDemand] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.desk = ScalingDesk(
            self.records.append,
            self.profiles.__setitem__,
            lambda: self.profiles,
            lambda: self.sleeps,
            lambda: dict(self.demands),
        )


@pytest.fixture(autouse=True)
def no_desk_yet() -> Iterator[None]:
    scaling_desk.open_desk.cache_clear()
    yield
    scaling_desk.open_desk.cache_clear()


def demand(engine: str = "law", **changes: Any) -> EngineDemand:
    plain = EngineDemand(
        engine=engine,
        fewest=1,
        most=20,
        target_in_flight=4,
        scaling=Scaling(hold_s=10, start_s=30),
        ttft_slo_s={engine: 1.0},
        gpus=1,
        cpus=1,
        node_type=None,
        idle_sleep_s=None,
        room=Room(10, 100),
    )
    return replace(plain, **changes)


def look(
    at_s: float, in_flight: float, *, target: int = 1, running: int | None = None, **figures: float
) -> Observation:
    running = target if running is None else running
    report: Mapping[str, float] = {"in_flight": in_flight, **figures}
    return Observation(at_s, target, running, 0.0, {"one": report} if running else {})


def test_a_spike_in_one_engine_leaves_the_other_its_need() -> None:
    desk = Desk().desk
    quiet, busy = demand("quiet"), demand("busy")
    assert desk.decide(quiet, look(0, 8, target=2)) == 2
    assert desk.decide(busy, look(0.1, 400, target=1)) == 8, "20 wanted of a room of 10"
    assert desk.decide(quiet, look(1.2, 8, target=2)) == 2


def test_an_engine_that_wakes_from_nothing_gets_a_machine_although_serve_does_not_ask_for_it() -> None:
    desk = Desk().desk
    sleeper, busy = demand("sleeper", fewest=0), demand("busy")
    assert desk.decide(sleeper, look(0, 0, target=0)) == 0
    assert desk.decide(busy, look(1, 400, target=10)) == 10
    # Serve starts the sleeper's first replica by itself, and asks its policy nothing until it runs.
    assert desk.decide(busy, look(5, 400, target=10)) == 9


def test_between_two_looks_of_a_second_nothing_is_decided_anew() -> None:
    desk = Desk().desk
    assert desk.decide(demand(), look(0, 8)) == 2
    assert desk.decide(demand(), look(0.5, 80)) == 2
    assert desk.decide(demand(), look(1.0, 12)) == 3


def test_the_time_that_replicas_take_to_start_is_measured_and_used() -> None:
    desk = Desk()
    window = ScheduleWindow(name="noon", replicas=3, start="12:00", end="13:00")
    noon = 12 * 3600
    asked = demand(scaling=Scaling(hold_s=0, start_s=30, schedule=(window,)))
    assert desk.desk.decide(asked, look(noon - 1000, 8, target=1)) == 2
    desk.desk.decide(asked, look(noon - 999, 8, target=2, running=1))
    desk.desk.decide(asked, look(noon - 909, 8, target=2, running=2))
    assert desk.records[-1].start_s == 90
    assert desk.desk.decide(asked, look(noon - 95, 0, target=1)) == 1
    assert desk.desk.decide(asked, look(noon - 89, 0, target=1)) == 3


def test_decisions_are_written_when_they_change_and_now_and_then() -> None:
    desk = Desk()
    for second in range(12):
        desk.desk.decide(demand(), look(second, 8 if second == 6 else 2, target=1 if second < 7 else 2))
    assert [(record.at, record.replicas, record.policy) for record in desk.records] == [
        (0, 1, "floor"),
        (5, 1, "floor"),
        (6, 2, "load"),
        (11, 2, "floor"),
    ]
    assert desk.records[2].reason == "8 requests in flight, 4 per replica"
    assert desk.records[-1].reason == "at least 1; 2 were needed within 10 s"
    assert desk.records[-1].changes_up == 1


def test_what_somebody_asked_to_sleep_sleeps_until_something_arrives() -> None:
    desk = Desk(sleeps={"law": 100.0})
    idle = demand(fewest=0, scaling=Scaling(hold_s=1000))
    assert desk.desk.decide(idle, look(101, 0, arrived=0)) == 0
    assert desk.desk.decide(idle, look(102, 1, target=1, arrived=1)) == 1
    assert desk.desk.decide(idle, look(103, 0, target=1, arrived=1)) == 1, "the request after it made it void"


def test_arrivals_are_counted_once_whether_they_wait_before_a_replica_or_at_one() -> None:
    desk = Desk()
    asked = demand(scaling=Scaling(hold_s=10, start_s=30, forecast=ForecastScaling()))
    for second in range(120):
        # Two arrive each second; each waits one second before a replica takes it.
        desk.desk.decide(asked, replace(look(second, 2, arrived=2.0 * second), queued=2.0))
    assert desk.records[-1].rate == pytest.approx(2, rel=0.05)


def test_a_new_controller_takes_no_replica_away_before_the_hold_is_over() -> None:
    desk = Desk().desk
    assert desk.decide(demand(), look(0, 0, target=5)) == 5
    assert desk.decide(demand(), look(9, 0, target=5)) == 5
    assert desk.decide(demand(), look(11, 0, target=5)) == 1


def test_a_new_controller_knows_the_days_before() -> None:
    first = Desk()
    asked = demand(scaling=Scaling(hold_s=0, start_s=30, forecast=ForecastScaling()))
    for second in range(1200):
        first.desk.decide(asked, look(second, 0, arrived=5.0 * second))
    assert [rate for rate in first.profiles["law"] if rate is not None] == pytest.approx([5, 5, 5], rel=0.05)
    second_desk = Desk(profiles=dict(first.profiles))
    second_desk.desk.decide(asked, look(0, 0))
    assert second_desk.records[-1].replicas == 1


def make_fleet() -> Fleet:
    return Fleet(
        name="office",
        engines={"law": Engine(model="a/b", replicas=Replicas(min=1, max=6, target_in_flight=4))},
        domains={
            "law": Domain(description="Contracts.", variants={"full": Variant(engine="law")}, slo=Slo(ttft_s=1.5))
        },
        generalist="law",
        nodes={"here": NodeType(cpus=8, memory_gib=16)},
    )


@dataclass(frozen=True)
class ReplicaName:
    unique_id: str


def make_context(**changes: Any) -> Any:
    replica = ReplicaName("r1")
    series = {"in_flight": [9.0, 40.0], "ttft_s.law": [0.1, 3.0]}
    metrics = {name: {replica: [SimpleNamespace(value=value) for value in values]} for name, values in series.items()}
    fields = {
        "running_replicas": [replica],
        "raw_metrics": metrics,
        "current_time": 10.0,
        "target_num_replicas": 1,
        "current_num_replicas": 1,
        "total_queued_requests": 0.0,
    }
    return SimpleNamespace(**(fields | changes))


def test_the_policy_takes_what_the_file_says_now_and_the_newest_figure_of_each_replica(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk()
    monkeypatch.setattr(scaling_desk, "ScalingDesk", lambda: desk.desk)
    fleet = make_fleet()
    config = plan_autoscaling("law", fleet.engines["law"])
    policy = scaling_policy.ReplicaPolicy(**config["policy"]["policy_kwargs"])
    assert policy(make_context(target_num_replicas=2)) == (2, {}), "nothing was said of the engine yet"
    desk.demands["law"] = plan_demand(fleet, "law", fleet.engines["law"])
    assert policy(make_context(current_time=make_context().current_time + 1)) == (6, {})
    assert desk.records[-1].wishes[1].reason == "40 requests in flight, 4 per replica"
    assert desk.records[-1].capped == "", "the cap of the engine is not one of the fleet"


def test_a_policy_that_fails_keeps_what_there_is_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fleet = make_fleet()
    config = plan_autoscaling("law", fleet.engines["law"])
    policy = scaling_policy.ReplicaPolicy(**config["policy"]["policy_kwargs"])

    def fail() -> ScalingDesk:
        raise RuntimeError("no desk")

    monkeypatch.setattr(scaling_desk, "ScalingDesk", fail)
    assert policy(make_context(target_num_replicas=3)) == (3, {})
    assert policy(make_context(target_num_replicas=4)) == (4, {})


def test_what_changes_with_the_file_is_not_what_makes_serve_start_replicas_anew() -> None:
    fleet = make_fleet()
    config = plan_autoscaling("law", fleet.engines["law"])
    assert config["policy"]["policy_kwargs"] == {"engine": "law"}


def test_serves_own_targets_are_always_set_and_its_delays_are_none() -> None:
    fleet = make_fleet()
    config = plan_autoscaling("law", fleet.engines["law"])
    assert config["target_ongoing_requests"] == 4
    assert (config["upscale_delay_s"], config["downscale_delay_s"]) == (0, 0)
    assert (config["min_replicas"], config["max_replicas"]) == (1, 6)


def test_the_desk_of_a_process_is_one() -> None:
    assert scaling_desk.open_desk() is scaling_desk.open_desk()

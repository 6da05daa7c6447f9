"""Guildhall's policy inside the real Serve controller, over replicas that only wait: up, shared, down, to nothing."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import serve
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from deployments.expert_call import TextDelta
from deployments.local_ray import start_local_ray, stop_local_ray, use_token
from deployments.replica_load import ReplicaLoad
from deployments.scaling_demand import leave_demands
from deployments.scaling_plan import plan_autoscaling
from deployments.scaling_record import ScalingRecord, read_scaling
from experts.fleet import Domain, Engine, Fleet, NodeType, Replicas, Slo, Variant
from experts.scaling_settings import FleetScaling, Scaling

pytestmark = pytest.mark.ray_local

PATIENCE_S = 60.0
ANSWER_S = 0.6
HOLD_S = 3


class Waiter:
    """Stands for an expert's replica: answers after a while, and counts as one does."""

    def __init__(self) -> None:
        self._load = ReplicaLoad()

    async def answer(self, domain: str, seconds: float = ANSWER_S) -> str:
        with self._load.hold(domain) as visit:
            await asyncio.sleep(0.05)
            self._load.note(visit, TextDelta("a"))
            await asyncio.sleep(seconds)
            self._load.note_end(visit, 0)
        return serve.get_replica_context().replica_id.unique_id

    async def record_autoscaling_stats(self) -> dict[str, float]:
        return self._load.record()


def make_fleet() -> Fleet:
    scaling = Scaling(hold_s=HOLD_S, start_s=2)
    return Fleet(
        name="waiting",
        engines={
            "busy": Engine(model="a/b", replicas=Replicas(min=1, max=4, target_in_flight=2), scaling=scaling),
            "quiet": Engine(model="a/b", replicas=Replicas(min=0, max=2, target_in_flight=2), scaling=scaling),
        },
        domains={
            name: Domain(description="Waits a while.", variants={"full": Variant(engine=name)}, slo=Slo(ttft_s=1))
            for name in ("busy", "quiet")
        },
        generalist="busy",
        nodes={"here": NodeType(cpus=16, memory_gib=4)},
        scaling=FleetScaling(max_cpus=3),
    )


@pytest.fixture(scope="module")
def handles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, DeploymentHandle]]:
    data_dir = tmp_path_factory.mktemp("scaling")
    local = start_local_ray(data_dir, 16)
    try:
        with use_token(local):
            ray.init(address=local.address, log_to_driver=False, logging_level="ERROR")
            serve.start(proxy_location="Disabled")
            fleet = make_fleet()
            leave_demands(fleet)
            yield {name: deploy(fleet, name) for name in fleet.engines}
            ray.shutdown()
    finally:
        stop_local_ray(Path(data_dir), local)


def deploy(fleet: Fleet, name: str) -> DeploymentHandle:
    waiter = serve.deployment(
        Waiter,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=4,
        max_queued_requests=200,
        graceful_shutdown_timeout_s=30,
        graceful_shutdown_wait_loop_s=0.2,
        autoscaling_config=plan_autoscaling(name, fleet.engines[name]),
    )
    return serve.run(waiter.bind(), name=name, route_prefix=None)


def record_of(engine: str) -> ScalingRecord | None:
    return next(iter(read_scaling([engine])), None)


def _has_ended(answer: DeploymentResponse) -> bool:
    try:
        return bool(answer.result(timeout_s=0))
    except TimeoutError:
        return False


def target_of(engine: str) -> int | None:
    record = record_of(engine)
    return record.replicas if record is not None else None


def wait_for(claim: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := claim()):
        assert time.monotonic() < deadline, [record_of("busy"), record_of("quiet")]
        time.sleep(0.1)
    return found


def count_replicas(engine: str) -> int:
    states = serve.status().applications[engine].deployments["Waiter"].replica_states
    return int(Counter(states).get("RUNNING", 0))


def test_a_spike_gets_replicas_up_to_the_cap_a_sleeper_wakes_beside_it_and_no_request_is_cut(
    handles: dict[str, DeploymentHandle],
) -> None:
    assert count_replicas("busy") == 1
    answers = []
    woken: DeploymentResponse | None = None
    deadline = time.monotonic() + PATIENCE_S
    while woken is None or not _has_ended(woken):
        assert time.monotonic() < deadline, [record_of("busy"), record_of("quiet")]
        answers += [handles["busy"].answer.remote("busy") for _ in range(3)]
        if woken is None and count_replicas("busy") == 3:
            # The fleet's cap of three cores is reached; the sleeping engine still gets the one that its floor needs.
            woken = handles["quiet"].answer.remote("quiet")
        time.sleep(0.2)
    served = Counter(answer.result(timeout_s=PATIENCE_S) for answer in answers)
    assert len(served) >= 3, "every replica answered"
    assert sum(served.values()) == len(answers)
    busy = record_of("busy")
    assert busy is not None
    assert busy.capped == "" or busy.capped.endswith("the fleet has no more CPU cores")
    assert busy.changes_up >= 1

    # Four that last longer than the hold keep two replicas of three; the third is told to go while it answers.
    lasting = [handles["busy"].answer.remote("busy", HOLD_S + 6) for _ in range(4)]
    wait_for(lambda: target_of("busy") == 2)
    with pytest.raises(TimeoutError):
        lasting[0].result(timeout_s=0)
    assert len([answer.result(timeout_s=PATIENCE_S) for answer in lasting]) == 4, "nobody is cut off"

    wait_for(lambda: count_replicas("busy") == 1 and count_replicas("quiet") == 0)
    quiet = wait_for(lambda: record_of("quiet"))
    assert (quiet.replicas, quiet.policy) == (0, "floor")

"""Ray's own autoscaler adds a node for the replica that demand asks for, and takes it away; without it all goes on."""

from typing import Any

import pytest

from benchmarks.added_node import run_fleet
from benchmarks.hosts import open_hosts
from tests.deployments.hosts_needed import require_hosts
from tests.encoder_files import lend_encoder_files

pytestmark = [pytest.mark.engine, pytest.mark.hosts]

WHAT = ["node_s", "replica_s", "index_s"]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What happened on the machine, which is gone."""
    require_hosts()
    with open_hosts(["machine"], tmp_path_factory.mktemp("hosts") / "hosts") as hosts:
        figures = run_fleet(hosts.machines[0], lend_encoder_files)
    print(figures)  # noqa: T201
    return figures


def test_demand_adds_a_node_with_a_replica_and_an_index_and_its_end_takes_all_three_away(seen: dict[str, Any]) -> None:
    demand = seen["demand"]
    assert list(demand["added"]) == WHAT
    assert demand["added"]["node_s"] < demand["added"]["replica_s"]
    assert sorted(demand["gone"]) == sorted(WHAT)
    assert demand["gone"]["replica_s"] < demand["gone"]["node_s"]
    assert (demand["answered"] > 0, demand["failures"]) == (True, [])


def test_while_the_autoscaler_stands_still_every_question_is_answered_and_then_a_node_is_added(
    seen: dict[str, Any],
) -> None:
    stalled = seen["stalled"]
    assert (stalled["meanwhile"]["answered"] > 0, stalled["failures"]) == (True, [])
    assert list(stalled["added"]) == WHAT


def test_every_question_is_answered_after_the_autoscaler_was_killed_and_nobody_starts_it_again(
    seen: dict[str, Any],
) -> None:
    killed = seen["killed"]
    assert (killed["answered"] > 0, killed["failures"]) == (True, [])
    assert killed["started_again_by_ray"] is False

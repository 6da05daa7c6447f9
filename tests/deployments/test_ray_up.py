"""`ray up` with a rendered cluster file starts a fleet on machines of their own, which outlives one of them."""

import os
import re
from pathlib import Path

import pytest

from benchmarks.host_fleet import ANSWER, FLEET_FILE, find_processes
from benchmarks.hosts import HOME, open_hosts
from benchmarks.ray_up import GATEWAY, MACHINES, run_fleet
from tests.conftest import ROOT
from tests.deployments.hosts_needed import require_hosts
from tests.encoder_files import lend_encoder_files

pytestmark = [pytest.mark.engine, pytest.mark.hosts]


def find_network_devices() -> set[str]:
    return set(os.listdir("/sys/class/net"))


def read_shown_commands() -> list[str]:
    """The lines for hosts of the page about operations, with this test's hosts, user, key and fleet."""
    section = (ROOT / "docs/operations.md").read_text().partition("### Hosts that are there already")[2]
    (block, *_) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    names = {
        "cluster/fleets/pocket.yaml": FLEET_FILE,
        "--host 192.0.2.10 --host 192.0.2.11": "--host 10.77.1.2 --host 10.77.1.3 --host 10.77.1.4",
        "--ssh-user ubuntu": "--ssh-user root",
        "~/.ssh/id_ed25519": f"{HOME}/.ssh/id_ed25519",
    }
    for shown, ours in names.items():
        assert shown in block
        block = block.replace(shown, ours)
    return [line.partition("   #")[0] for line in block.splitlines()]


def test_ray_up_serves_a_fleet_over_ssh_that_recovers_when_a_machine_is_taken_away(tmp_path: Path) -> None:
    require_hosts()
    before = find_network_devices()
    shown = read_shown_commands()
    with open_hosts(MACHINES, tmp_path / "hosts") as hosts:
        # The gateway's machine: a second start of an engine is what `make bench-ray_up` has the time for.
        cluster, said = run_fleet(hosts, lend_encoder_files, lost=GATEWAY, to_the_end=False)
        assert ANSWER in said
        print(cluster.seconds)  # noqa: T201
        assert [command for command in cluster.commands if command in shown] == shown
        assert sum(host.is_up for host in hosts.machines) == 2
        assert find_processes(hosts.machines[0], "ray::") == []
    assert not any(host.is_up for host in [hosts.operator, *hosts.machines])
    assert find_network_devices() == before

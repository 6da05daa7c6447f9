"""Demand makes Ray's own autoscaler add a node for a replica and its index, and the end of demand takes all away.

    make bench-added_node

A machine made of namespaces has Ray's autoscaler v2 over nodes that Ray itself starts there. Once demand has come and
gone, it comes again while the autoscaler's process stands still. Needs root, openssh-server and rsync.
"""

import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from benchmarks.host_fleet import ENGINE_NAME, FLEET_FILE, write_project
from benchmarks.hosts import DATA, HOME, Host, open_hosts
from benchmarks.ray_up import lend_shipped_encoder
from benchmarks.result import save_result

TIMEOUT_S = 3000.0
TARGET_IN_FLIGHT = 1
HOLD_S = 5.0

console = Console(stderr=True)


def run_fleet(machine: Host, lend_encoders: Callable[[Path], None]) -> dict[str, Any]:
    """Start a fleet of one or two replicas on a machine and have demand come and go.

    Returns what `benchmarks.added_node_process` says; raises RuntimeError where that fails.
    """
    project = machine.home / "guildhall"
    write_project(project)
    fleet: dict[str, Any] = yaml.safe_load((project / FLEET_FILE).read_text())
    fleet["engines"][ENGINE_NAME] |= {
        "replicas": {"min": 1, "max": 2, "target_in_flight": TARGET_IN_FLIGHT},
        "scaling": {"hold_s": HOLD_S},
    }
    (project / FLEET_FILE).write_text(yaml.safe_dump(fleet, sort_keys=False))
    (machine.home / ".bashrc").write_text(
        "export PATH=$HOME/.guildhall-venv/bin:$PATH RAY_AUTH_MODE=disabled RAY_USAGE_STATS_ENABLED=0\n"
        f"export GUILDHALL_DATA_DIR={HOME}/{DATA}\n"
    )
    lend_encoders(machine.disk.parent / "shared")
    log = machine.home / "added_node.log"
    command = f"cd guildhall && exec python -m benchmarks.added_node_process 2> {HOME}/{log.name}"
    done = subprocess.run(
        machine.plan_command(command), stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}:\n{log.read_text(errors='replace')[-6000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Run once and write the result."""
    # It takes Ray along, which a test that only calls `run_fleet` need not.
    from benchmarks.added_node_process import NODE_IDLE_S, PAUSE_S, STALL_S, STREAMS

    with tempfile.TemporaryDirectory(prefix="gh-") as folder, open_hosts(["machine"], Path(folder)) as hosts:
        (machine,) = hosts.machines
        seen = run_fleet(machine, lend_shipped_encoder)
    figures = {
        "phases": seen,
        "added": "seconds until there are a second node, replica and index: of `demand` since the first question, of "
        "`stalled` since the autoscaler goes on",
        "gone": f"seconds since the last answer; a replica goes after {HOLD_S:g} s without demand, a node after "
        f"{NODE_IDLE_S:g} s without a replica",
        "stalled": f"the autoscaler stands still until a replica has waited for a node for {STALL_S:g} s",
        "killed": f"the first {STALL_S:g} s after it",
        "load": f"{STREAMS} streams of questions, each with a pause of {PAUSE_S:g} s after an answer; one engine of 4 "
        f"million parameters with one or two replicas, one for each {TARGET_IN_FLIGHT} in flight",
        "repeats": 1,
    }
    console.print(f"wrote {save_result('added_node', figures)}")


if __name__ == "__main__":
    main()

"""A fleet on three machines that `ray up` starts over ssh: how long each step takes, and a machine taken away.

    make bench-ray_up

Needs root, openssh-server and rsync. The machines have the packages of the lock already; installing them takes minutes.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.host_fleet import (
    ANSWER,
    FLEET_FILE,
    PROJECT,
    QUESTION,
    asking,
    find_host_of,
    find_processes,
    write_project,
)
from benchmarks.hosts import HOME, Hosts, open_hosts
from benchmarks.result import save_result
from retrieval.encoder import SHIPPED_ENCODER

MACHINES = ("head", "first", "second")
STEP_TIMEOUT_S = 900.0
ENGINE = "VLLM::EngineCore"
GATEWAY = "ray::ServeReplica:gateway:Gateway"

console = Console(stderr=True)


@dataclass(slots=True)
class RayUp:
    """A cluster on hosts that an operator commands; `seconds` has what each step took."""

    hosts: Hosts
    commands: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 1)
        console.print(f"{name}: {self.seconds[name]} s")

    def operate(self, command: str) -> str:
        """Run a command as the operator does, in the project's folder; raises RuntimeError where it fails."""
        self.commands.append(command)
        done = self.hosts.operator.run(f"cd {PROJECT} && {command}", timeout_s=STEP_TIMEOUT_S)
        if done.returncode:
            raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stdout[-6000:]}")
        return done.stdout

    def on_head(self, command: str) -> str:
        """`ray exec`: run a command on the head, as its user."""
        return self.operate(f"ray exec cluster.yaml '{command}'")

    def await_nodes(self, count: int) -> None:
        """Wait until that many Ray nodes live."""
        ask = 'import ray; ray.init(log_to_driver=False); print(sum(node["Alive"] for node in ray.nodes()))'
        found = 0
        deadline = time.monotonic() + STEP_TIMEOUT_S
        while found != count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{found} Ray nodes of {count} after {STEP_TIMEOUT_S:g} s")
            said = self.hosts.machines[0].run(f"RAY_ADDRESS=auto python -c '{ask}' 2>&1 | tail -n 1").stdout.strip()
            found = int(said) if said.isdecimal() else found


def run_fleet(
    hosts: Hosts, lend_encoders: Callable[[Path], None], lost: str = ENGINE, to_the_end: bool = True
) -> tuple[RayUp, str]:
    """Bring the fleet up as docs/operations.md says, ask it, take away the machine of a process, and end it.

    `to_the_end`: the machine comes back before, and all that is Ray's is waited for to go. Returns what was done with
    its seconds, and the first answer.
    """
    operator = hosts.operator
    write_project(operator.disk / "home" / PROJECT.name)
    lend_encoders(operator.disk.parent / "shared")
    # The operator's own Guildhall and Ray.
    (operator.home / ".bashrc").write_text("export PATH=$HOME/.guildhall-venv/bin:$PATH PYTHONPATH=$HOME/project\n")
    cluster = RayUp(hosts)
    addresses = " ".join(f"--host {host.address}" for host in hosts.machines)
    # In the order and the words of docs/operations.md.
    cluster.operate("ray get-auth-token --generate > /dev/null")
    cluster.operate("python -c 'import secrets; print(secrets.token_urlsafe(32))' > ~/.guildhall-keys")
    cluster.operate("chmod 600 ~/.guildhall-keys")
    cluster.operate(
        f"guildhall render ray-up {FLEET_FILE} --provider onprem {addresses} --ssh-user root "
        f"--ssh-key {HOME}/.ssh/id_ed25519 --out cluster.yaml"
    )
    with cluster.step("ray_up"):
        cluster.operate("ray up cluster.yaml --yes")
    with cluster.step("workers_join"):
        cluster.await_nodes(len(MACHINES))
    with cluster.step("guildhall_up"):
        cluster.on_head(f"cd guildhall && RAY_ADDRESS=auto guildhall up {FLEET_FILE}")
    with cluster.step("question"):
        said = cluster.on_head(f'guildhall ask --url http://127.0.0.1:8000 "{QUESTION}"')
    machine = find_host_of(hosts, lost)
    key = (operator.home / ".guildhall-keys").read_text().strip()
    with asking(hosts.machines[0], key) as questions:
        questions.await_served_since(time.monotonic(), STEP_TIMEOUT_S)
        moment = time.monotonic()
        machine.power_off()
        cluster.seconds["served_again_after_a_machine_was_lost"] = round(
            questions.await_served_since(moment + 1, STEP_TIMEOUT_S) + 1, 1
        )
    if to_the_end:
        with cluster.step("machine_joins_again"):
            hosts.boot(machine)
            cluster.await_nodes(len(MACHINES))
    with cluster.step("ray_down"):
        cluster.operate("ray down cluster.yaml --yes")
    if to_the_end:
        # `ray down` stops the head alone; workers end when they have missed it for a minute.
        with cluster.step("workers_end"):
            deadline = time.monotonic() + STEP_TIMEOUT_S
            while left := [host.name for host in hosts.machines if find_processes(host, "ray::")]:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"Ray runs on {', '.join(left)} {STEP_TIMEOUT_S:g} s after `ray down`")
                time.sleep(1)
    return cluster, said


def lend_shipped_encoder(data_dir: Path) -> None:
    """Prepare the encoder's files once, in the folder that all machines share."""
    from deployments.fleet_encoder import load_fleet_encoder

    load_fleet_encoder(SHIPPED_ENCODER, data_dir)


def main() -> None:
    """Run once and write the result."""
    with tempfile.TemporaryDirectory(prefix="gh-") as folder, open_hosts(MACHINES, Path(folder)) as hosts:
        cluster, said = run_fleet(hosts, lend_shipped_encoder)
    if ANSWER not in said:
        raise RuntimeError(f"the fleet answered: {said}")
    figures: dict[str, Any] = {
        "seconds": cluster.seconds,
        "load": f"{len(MACHINES)} machines made of namespaces on this one; one engine of 4 million parameters, one "
        "index, one gateway; one question after another from the head",
        "repeats": 1,
    }
    console.print(f"wrote {save_result('ray_up', figures)}")


if __name__ == "__main__":
    main()

"""How long a fleet does not answer, and how long it cannot be changed, when a part of it is taken away.

    make bench-control_plane_faults

Three machines made of namespaces on this one, started as KubeRay's pods are: a head without replicas whose state is in
a real Redis, and two workers whose proxies take the questions. What is deployed is the Serve config that
`guildhall render k8s` writes. The faults: the replica killed, the Serve controller (which scales the fleet) standing
still and then killed, the head's machine restarted, a worker's machine lost. Needs root, openssh-server, rsync and
redis-server.
"""

import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from benchmarks.host_fleet import FLEET_FILE, Questions, asking, find_host_of, find_processes, write_project
from benchmarks.hosts import DATA, HOME, ROOT, Host, Hosts, open_hosts
from benchmarks.ray_up import ENGINE, MACHINES, lend_shipped_encoder
from benchmarks.result import save_result, summarize
from cluster.ray_node import OBJECT_STORE_BYTES
from k8s.container_fleet import DATA as POD_DATA
from k8s.container_fleet import HOME as POD_HOME

REPEATS = 3
TIMEOUT_S = 900.0
# Longer than Serve's health checks, its proxies' and the clients' patience with one question.
STALL_S = 30.0
# What a pod's restart takes beside Ray's own start.
POD_START_S = 5.0
CONTROLLER = "ray::ServeController"
REPLICA = "ray::ServeReplica:pocket:Expert"

console = Console(stderr=True)

# Ray's own interface, as KubeRay calls it: the config goes in by PUT, GET says how every application is.
_SERVE = """
import json, sys, urllib.request
from pathlib import Path
body = Path(sys.argv[1]).read_bytes() if sys.argv[1:] else None
token = (Path.home() / ".ray/auth_token").read_text().strip()
request = urllib.request.Request("http://127.0.0.1:8265/api/serve/applications/", body,
    {"Authorization": "Bearer " + token, "Content-Type": "application/json"}, method="PUT" if body else "GET")
with urllib.request.urlopen(request, timeout=20) as reply:
    said = reply.read()
if not body:
    print(json.dumps({name: one["status"] for name, one in json.loads(said)["applications"].items()}))
"""


@dataclass(slots=True)
class Fault:
    """One kind of fault over repeats: seconds until served again, until it can be changed again, questions lost."""

    served_s: list[float] = field(default_factory=list)
    changeable_s: list[float] = field(default_factory=list)
    failed_questions: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Cluster:
    """The machines with Ray on them, the head first."""

    hosts: Hosts
    redis_password: str
    key: str

    @property
    def head(self) -> Host:
        return self.hosts.machines[0]

    def check(self, host: Host, command: str) -> str:
        """Run a command on a host in the project's folder; raises RuntimeError where it fails."""
        done = host.run(f"cd guildhall && {command}", timeout_s=TIMEOUT_S)
        if done.returncode:
            raise RuntimeError(f"{host.name}: {command} ended with {done.returncode}:\n{done.stdout[-4000:]}")
        return done.stdout

    def start_ray(self, host: Host) -> None:
        """Start a host's Ray as KubeRay does: the head with its state in Redis, a worker that waits for the head."""
        store = f"--object-store-memory={OBJECT_STORE_BYTES} --disable-usage-stats"
        if host is self.head:
            redis = f"RAY_REDIS_ADDRESS={self.hosts.operator.address}:6379"
            self.check(
                host,
                f"{redis} ray start --head --num-cpus=0 --redis-password={self.redis_password} --port=6379 {store}",
            )
        else:
            self.check(
                host, f"RAY_gcs_rpc_server_reconnect_timeout_s=600 ray start --address={self.head.address}:6379 {store}"
            )

    def observe_applications(self) -> dict[str, str]:
        """The status of every application by Ray's word; empty while nobody says."""
        done = self.head.run(f"python -c {_quote(_SERVE)}", timeout_s=60)
        said: dict[str, str] = json.loads(done.stdout) if done.returncode == 0 else {}
        return said

    def await_running(self, since: float) -> float:
        """Seconds since a moment until Ray says that every application runs."""
        found: dict[str, str] = {}
        while not found or set(found.values()) != {"RUNNING"}:
            if time.monotonic() - since > TIMEOUT_S:
                raise TimeoutError(f"not every application runs after {TIMEOUT_S:g} s: {found}")
            found = self.observe_applications()
            time.sleep(0.5)
        return time.monotonic() - since


def kill_replica(cluster: Cluster) -> None:
    host = find_host_of(cluster.hosts, REPLICA)
    for title in (REPLICA, ENGINE):
        for pid in find_processes(host, title):
            host.run(f"kill -9 {pid}")


def stall_controller(cluster: Cluster) -> None:
    (pid,) = find_processes(cluster.head, CONTROLLER)
    cluster.head.run(f"kill -STOP {pid}")
    time.sleep(STALL_S)
    cluster.head.run(f"kill -9 {pid}")


def restart_head(cluster: Cluster) -> None:
    cluster.hosts.unplug(cluster.head)
    time.sleep(POD_START_S)
    cluster.hosts.boot(cluster.head)
    cluster.start_ray(cluster.head)


def lose_worker(cluster: Cluster) -> None:
    cluster.hosts.unplug(find_host_of(cluster.hosts, ENGINE))


FAULTS: dict[str, Callable[[Cluster], None]] = {
    "head_restarted": restart_head,
    "controller_stalled": stall_controller,
    "replica_killed": kill_replica,
    "worker_lost": lose_worker,
}


def measure(cluster: Cluster, fault: Fault, inflict: Callable[[Cluster], None]) -> None:
    """Inflict a fault while questions are asked at the workers from outside, and wait until all is well again."""
    workers = [host.address for host in cluster.hosts.machines[1:]]
    with asking(cluster.hosts.operator, cluster.key, workers) as questions:
        questions.await_served_since(time.monotonic(), TIMEOUT_S)
        moment = time.monotonic()
        inflict(cluster)
        # What is asked just before the blow is noticed may still be answered.
        fault.served_s.append(await_quiet(questions, moment))
        fault.changeable_s.append(cluster.await_running(moment))
        questions.await_served_since(time.monotonic(), TIMEOUT_S)
        fault.failed_questions.append(questions.count_failures(moment))
    for host in cluster.hosts.machines:
        if not host.is_up:
            cluster.hosts.boot(host)
            cluster.start_ray(host)


def await_quiet(questions: Questions, moment: float, quiet_s: float = 20.0) -> float:
    """Seconds from a moment until the last failure after it was over; 0 without one.

    Waits until nothing has failed for `quiet_s`; raises TimeoutError.
    """
    while True:
        questions.await_served_since(time.monotonic(), TIMEOUT_S)
        failed = [one for one in list(questions.asked) if one.asked >= moment and one.wrong]
        last = failed[-1].answered if failed else moment
        if time.monotonic() - last > quiet_s:
            return (
                questions.await_served_since(failed[-1].asked, TIMEOUT_S) + failed[-1].asked - moment if failed else 0.0
            )
        time.sleep(1)


@contextmanager
def open_cluster(folder: Path) -> Iterator[Cluster]:
    """The machines with Redis, Ray and a fleet that serves."""
    with open_hosts(MACHINES, folder) as hosts:
        cluster = Cluster(hosts, secrets.token_hex(16), secrets.token_hex(16))
        token = secrets.token_hex(32)
        for host in hosts.machines:
            write_project(host.home / "guildhall")
            (host.home / ".ray").mkdir()
            (host.home / ".ray/auth_token").write_text(token)
            (host.home / ".bashrc").write_text(
                "export PATH=$HOME/.guildhall-venv/bin:$PATH RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0\n"
                f"export GUILDHALL_API_KEYS={cluster.key} GUILDHALL_DATA_DIR={HOME}/{DATA}\n"
            )
        lend_shipped_encoder(folder / "shared")
        redis = f"redis-server --bind {hosts.operator.address} --requirepass {cluster.redis_password} --save ''"
        with (folder / "redis.log").open("wb") as log:
            # It ends with its machine.
            subprocess.Popen(hosts.operator.plan_command(f"exec {redis}"), stdout=log, stderr=log)
        for host in hosts.machines:
            cluster.start_ray(host)
        cluster.check(cluster.head, f"python -m deployments.index_preparation {FLEET_FILE}")
        (cluster.head.home / "serve.json").write_text(json.dumps(render_serve_config(cluster.head.home / "guildhall")))
        began = time.monotonic()
        cluster.check(cluster.head, f"python -c {_quote(_SERVE)} {HOME}/serve.json")
        console.print(f"every application runs after {cluster.await_running(began):.0f} s")
        yield cluster


def render_serve_config(project: Path) -> dict[str, Any]:
    """The Serve config of the fleet's RayService, with its folders where these machines have them."""
    done = subprocess.run(
        [sys.executable, "-m", "deployments.cli", "render", "k8s", FLEET_FILE],
        cwd=project,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(project)},
        capture_output=True,
        text=True,
        check=True,
    )
    (service,) = [one for one in yaml.safe_load_all(done.stdout) if one["kind"] == "RayService"]
    text: str = service["spec"]["serveConfigV2"]
    config: dict[str, Any] = yaml.safe_load(
        text.replace(POD_HOME, f"{HOME}/guildhall").replace(POD_DATA, f"{HOME}/{DATA}")
    )
    return config


def _quote(script: str) -> str:
    return "'" + script.replace("'", "'\\''") + "'"


def main() -> None:
    """Inflict every fault in turn, `REPEATS` times or as often as the first argument says, and write the result."""
    repeats = int(sys.argv[1]) if sys.argv[1:] else REPEATS
    faults = {name: Fault() for name in FAULTS}
    with tempfile.TemporaryDirectory(prefix="gh-") as folder, open_cluster(Path(folder)) as cluster:
        for _ in range(repeats):
            for name, inflict in FAULTS.items():
                measure(cluster, faults[name], inflict)
                console.print(f"{name}: {faults[name]}")
    figures = {
        "faults": {
            name: {
                "served_again_s": summarize(fault.served_s),
                "changeable_again_s": summarize(fault.changeable_s),
                "failed_questions": summarize(fault.failed_questions),
            }
            for name, fault in faults.items()
        },
        "served_again_s": "from the fault until the first of the right answers that no failure follows; 0: none failed",
        "changeable_again_s": "from the fault until Ray Serve says that every application runs",
        "controller_stalled": f"stopped for {STALL_S:g} s, then killed; the times count from its stop",
        "head_restarted": f"its machine is off for {POD_START_S:g} s",
        "load": "one question after another at a worker that listens, with a pause of 0.2 s; one engine",
    }
    console.print(f"wrote {save_result('control_plane_faults', figures)}")


if __name__ == "__main__":
    main()

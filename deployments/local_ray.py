"""The Ray of this machine that `guildhall up` starts and `guildhall down` ends.

It is one process, `python -m deployments.local_ray`, that leads a session of its own and starts Ray's processes inside
it. Its pid and start time stand in a state file, so that a pid which now belongs to somebody else is never touched.
Ray listens on loopback only and asks for a token that only this user can read, because whoever reaches it runs code.

`ray.init` instead of `ray start --head --block`: ready at the same time (5 to 7 s on 2 cores), but ended in 2 s instead
of 31 s, and without the Ray Client server, its fixed port and its memory (91 MB).
"""

import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cluster.ray_node import OBJECT_STORE_BYTES
from experts.errors import ConfigurationError, Unavailable

STATE_FILE = "ray.json"
TOKEN_FILE = "ray-token"  # noqa: S105 - the name of a file
LOG_FILE = "ray.log"
LOCK_FILE = "up.lock"
ADDRESS_FILE = "address"
TARGETS_FILE = "metrics-targets.json"

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 15.0
# How often processes hand their metrics to the agent that Prometheus scrapes; Ray's own 10 s is for large clusters.
METRICS_INTERVAL_MS = 5000


@dataclass(frozen=True, slots=True)
class LocalRay:
    """A Ray that was started here; `started` tells its process from a later one with the same pid."""

    pid: int
    started: str
    address: str
    cpus: int
    folder: str
    """Ray's sessions and their logs; removed when it ends."""
    token_file: str
    keys: str = ""
    """Digest of the API keys that its processes inherited."""


def start_local_ray(data_dir: Path, cpus: int, keys: str = "") -> LocalRay:
    """Start a Ray with that many logical CPUs and return once it accepts drivers; raises Unavailable."""
    return await_local_ray(data_dir, launch_local_ray(data_dir, cpus, keys))


def launch_local_ray(data_dir: Path, cpus: int, keys: str = "") -> LocalRay:
    """Start it without waiting; its address is empty until `await_local_ray`. Raises Unavailable when one runs."""
    if find_local_ray(data_dir) is not None:
        raise Unavailable(f"a Ray of {data_dir} is running already; stop it with: guildhall down")
    data_dir.mkdir(parents=True, exist_ok=True)
    token_file = _write_token(data_dir)
    # Unix sockets below it may have paths of 107 characters at most, so it cannot lie in the data folder.
    folder = tempfile.mkdtemp(prefix="guildhall-", dir="/tmp")
    with (data_dir / LOG_FILE).open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "deployments.local_ray", folder, str(cpus)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **_variables(token_file), "PYTHONPATH": _python_path()},
        )
    ray = LocalRay(process.pid, _observe_start(process.pid) or "", "", cpus, folder, str(token_file), keys)
    # Written before Ray is up: if this process dies now, `guildhall down` still finds the one it started.
    _write_state(data_dir, ray)
    return ray


def await_local_ray(data_dir: Path, ray: LocalRay) -> LocalRay:
    """Wait until it accepts drivers; raises Unavailable with the end of its log, and ends it, when it does not."""
    answer = Path(ray.folder) / ADDRESS_FILE
    log = data_dir / LOG_FILE
    deadline = time.monotonic() + START_TIMEOUT_S
    while not answer.exists():
        ended = not _is_running(ray)
        if ended or time.monotonic() > deadline:
            stop_local_ray(data_dir, ray)
            why = "ended while starting" if ended else f"was not ready within {START_TIMEOUT_S:.0f} s"
            raise Unavailable(f"the local Ray {why}; its log {log} ends with:\n{read_tail(log)}")
        time.sleep(0.05)
    ray = replace(ray, address=answer.read_text(encoding="utf-8").strip())
    shutil.copyfile(Path(ray.folder) / TARGETS_FILE, data_dir / TARGETS_FILE)
    _write_state(data_dir, ray)
    return ray


def find_local_ray(data_dir: Path) -> LocalRay | None:
    """The running Ray that was started with this data folder; a state file whose process is gone is removed."""
    path = data_dir / STATE_FILE
    try:
        ray = LocalRay(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error}); end the Ray that it named, if one runs, and delete the file"
        ) from error
    if _is_running(ray):
        return ray
    # When its leader is killed, Ray's agents stay. The session's number alone could by now be somebody else's; who
    # also holds files of this Ray's own folder open is one of its processes.
    if _observe_start(ray.pid) is None:
        _end_session(ray.pid, ray.folder)
    _forget(data_dir, ray)
    return None


def stop_local_ray(data_dir: Path, ray: LocalRay) -> None:
    """End it and everything in its session: SIGTERM, then SIGKILL after `STOP_TIMEOUT_S`."""
    if _is_running(ray):
        os.kill(ray.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while _is_running(ray) and time.monotonic() < deadline:
            time.sleep(0.05)
        # Engines that do not notice that Ray is gone; the session has them all.
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while _end_session(ray.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        if _is_running(ray):
            raise Unavailable(f"process {ray.pid} of the local Ray does not end; end it with: kill -9 {ray.pid}")
    _forget(data_dir, ray)


@contextmanager
def hold_lock(data_dir: Path) -> Iterator[None]:
    """Only one `guildhall up` or `guildhall down` at a time for one data folder; raises Unavailable at once."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / LOCK_FILE).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Unavailable(
                f"another `guildhall up` or `guildhall down` is working on {data_dir}; wait for it or end it"
            ) from error
        yield


@contextmanager
def use_token(ray: LocalRay | None) -> Iterator[None]:
    """Let this process speak to the Ray that was started here; None (a cluster of somebody else) changes nothing."""
    if ray is None:
        yield
        return
    variables = _variables(Path(ray.token_file))
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    _reread_ray_settings(loopback=True)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _reread_ray_settings(loopback=False)


def read_tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log, or a word on why there are none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 65_536))
            text = file.read().decode("utf-8", "replace")
    except OSError as error:
        return f"(no log: {error.strerror})"
    return "\n".join(text.rstrip().splitlines()[-lines:]) or "(the log is empty)"


def _variables(token_file: Path) -> Mapping[str, str]:
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        # Ray's own switch for "this node only": it then takes 127.0.0.1 as its address, also where it is told
        # 127.0.0.1, which it otherwise replaces by an address that other machines reach.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def _reread_ray_settings(loopback: bool) -> None:
    """Ray reads its settings once, at import; a process that imported it before must read them again."""
    if "ray" in sys.modules:
        from ray import _raylet
        from ray._private import ray_constants

        settings: Any = _raylet  # A compiled module; its types are not known.
        settings.Config.initialize("")
        settings.AuthenticationTokenLoader.instance().reset_cache()
        ray_constants.ENABLE_RAY_CLUSTER = not loopback and not ray_constants.IS_WINDOWS_OR_OSX


def _python_path() -> str:
    """Where Ray's workers find Guildhall when it is run from a checkout that is not installed."""
    root = str(Path(__file__).resolve().parent.parent)
    known = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != root]
    return os.pathsep.join([root, *known])


def _write_token(data_dir: Path) -> Path:
    path = data_dir / TOKEN_FILE
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(descriptor, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secrets.token_hex(32))
    return path


def _write_state(data_dir: Path, ray: LocalRay) -> None:
    path = data_dir / STATE_FILE
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps(asdict(ray), indent=2) + "\n", encoding="utf-8")
    aside.replace(path)


def _forget(data_dir: Path, ray: LocalRay) -> None:
    (data_dir / STATE_FILE).unlink(missing_ok=True)
    (data_dir / TOKEN_FILE).unlink(missing_ok=True)
    (data_dir / TARGETS_FILE).unlink(missing_ok=True)
    shutil.rmtree(ray.folder, ignore_errors=True)


def _is_running(ray: LocalRay) -> bool:
    _reap(ray.pid)
    return bool(ray.started) and _observe_start(ray.pid) == ray.started


def _reap(pid: int) -> None:
    """Take note of a child's end, without which it stays in the process table; others' children are left alone."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _observe_start(pid: int) -> str | None:
    """When a process started, in a form that no later process with its pid has; None when there is none."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            # The command name, in parentheses, may hold spaces; the fields after it do not. 22nd field: start time.
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        except OSError:
            return None
        return None if fields[0] == "Z" else f"{boot}/{fields[19]}"
    shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S607
    return shown.stdout.strip() or None


def _end_session(leader: int, folder: str | None = None) -> int:
    """Kill the processes of a session, only those with files open in `folder` if one is named; say how many."""
    found = 0
    for pid in _observe_pids():
        try:
            ours = pid != os.getpid() and os.getsid(pid) == leader and _observe_start(pid) is not None
            if ours and (folder is None or _has_open(pid, folder)):
                found += 1
                os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
    _reap(leader)
    return found


def _has_open(pid: int, folder: str) -> bool:
    try:
        return any(str(link.readlink()).startswith(f"{folder}/") for link in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def _observe_pids() -> list[int]:
    if Path("/proc/self").exists():
        return [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]
    shown = subprocess.run(["ps", "-A", "-o", "pid="], capture_output=True, text=True, check=False)  # noqa: S607
    return [int(pid) for pid in shown.stdout.split()]


def _write_targets(folder: Path, nodes: list[dict[str, Any]]) -> None:
    """Where Prometheus finds the metrics, as its file_sd_configs have it; Ray's dashboard would, and is left out."""
    targets = [f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in nodes]
    document = [{"targets": targets, "labels": {"job": "ray"}}]
    (folder / TARGETS_FILE).write_text(json.dumps(document) + "\n", encoding="utf-8")


def run_head(folder: Path, cpus: int) -> None:
    """Be the Ray of this machine until SIGTERM; the address goes to `folder/address` once drivers may come."""
    import ray

    context = ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=False,
        _temp_dir=str(folder),
        _system_config={"metrics_report_interval_ms": METRICS_INTERVAL_MS},
    )
    _write_targets(folder, ray.nodes())
    aside = folder / "address.new"
    aside.write_text(context.address_info["gcs_address"], encoding="utf-8")
    aside.replace(folder / ADDRESS_FILE)
    # At exit Ray ends its processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        signal.pause()


if __name__ == "__main__":
    run_head(Path(sys.argv[1]), int(sys.argv[2]))

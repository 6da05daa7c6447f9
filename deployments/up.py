"""`guildhall up` and `guildhall down`: a fleet file to a serving fleet, and back to nothing."""

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from math import ceil
from pathlib import Path

import httpx

from deployments.api_keys import ApiKeys, check_listen_address, load_api_keys, load_index_keys
from deployments.cli_changes import Changes
from deployments.cli_progress import Progress
from deployments.client import GatewayClient, connect_gateway
from deployments.elastic_kv import check_elastic, find_elastic
from deployments.engine_sharing import remove_ledgers
from deployments.environment import Environment
from deployments.local_ray import (
    LocalRay,
    await_local_ray,
    find_local_ray,
    hold_lock,
    launch_local_ray,
    stop_local_ray,
    use_token,
)
from experts.errors import ConfigurationError, Unavailable
from experts.fleet import Fleet
from experts.fleet_file import load_fleet

READY_TIMEOUT_S = 900.0
SHUTDOWN_TIMEOUT_S = 30.0
# Replicas look every 0.2 s; reading and checking a version of a million passages takes tens of seconds.
FOLLOW_TIMEOUT_S = 300.0
FOLLOW_POLL_S = 0.1
FLEET_FILE = "fleet-file"
# Logical CPUs of Ray for what is not an engine: the gateway and tasks that build applications.
SPARE_CPUS = 2
OUR_APPLICATIONS = "deployments.applications:"


@dataclass(frozen=True, slots=True)
class UpReport:
    """A fleet that serves: where, what was changed to get there, each index's version, and seconds per stage."""

    fleet: str
    url: str
    ray_address: str
    started_ray: bool
    changes: Changes
    indexes: Mapping[str, str]
    timings_s: Mapping[str, float]
    total_s: float


def bring_up(file: Path, environment: Environment, progress: Progress, timeout_s: float = READY_TIMEOUT_S) -> UpReport:
    """Bring the fleet of a file up, or change the running one into it, and return once it answers.

    Raises FleetFileError, ConfigurationError or Unavailable; what was started until then stays for `bring_down`.
    """
    began = time.monotonic()
    with progress.stage("fleet file"):
        fleet = load_fleet(file)
        keys = load_api_keys(environment)
        check_listen_address(fleet.gateway.host, keys)
        if environment.ray_address is None:
            check_elastic(find_elastic(fleet))
        progress.update("fleet file", f"{fleet.name}: {len(fleet.domains)} domains, {len(fleet.engines)} engines")
    if not keys:
        progress.say("no API key is configured: the gateway listens on loopback only; GUILDHALL_API_KEYS opens it")
    with hold_lock(environment.data_dir):
        local, started = _launch_ray(fleet, _digest_keys(keys, environment), environment, progress)
        # While Ray starts: both want the processor, but Ray waits for its own processes most of the time.
        from deployments.index_build import build_indexes

        built = build_indexes(fleet, environment.data_dir, progress)
        from deployments.applications import observe_weights, plan_serve_config

        sources = {name: source for name, (source, _) in built.items()}
        checksums = observe_weights(fleet)
        if local is not None and not local.address:
            local = await_local_ray(environment.data_dir, local)
        if progress.is_running("ray"):
            progress.finish("ray", local.address if local is not None else "")
        with connect_ray(local, environment) as address:
            from deployments.cli_serve import apply_config, await_ready
            from deployments.cluster_nodes import match_cluster_nodes

            # A Ray of one machine has nothing to choose from.
            nodes = match_cluster_nodes(fleet) if local is None else None
            config = plan_serve_config(fleet, sources, checksums, nodes)
            changes = apply_config(config, progress, shared=local is None)
            logs = Path(local.folder) / "session_latest" / "logs" if local is not None else None
            woken = _wake_new(fleet, changes)
            await_ready(config, progress, time.monotonic() + timeout_s, logs, woken)
            url = gateway_url(fleet.gateway.host, fleet.gateway.port)
            if keys and local is None:
                check_keys_required(url)
            with closing(connect_gateway(environment, url)) as gateway:
                changed = {name: change.version for name, (_, change) in built.items() if change.changed}
                await_versions(changed, gateway, progress)
        remember_fleet(environment.data_dir, file)
    return UpReport(
        fleet=fleet.name,
        url=url,
        ray_address=address,
        started_ray=started,
        changes=changes,
        indexes={name: change.version for name, (_, change) in built.items()},
        timings_s=progress.timings_s,
        total_s=round(time.monotonic() - began, 3),
    )


def bring_down(environment: Environment, progress: Progress) -> str | None:
    """Stop the fleet; returns what was stopped, None when nothing ran.

    The Ray that `bring_up` started ends with it. On another cluster only Guildhall's applications are deleted: their
    index actors end themselves when the last replica that uses them is gone.
    """
    with hold_lock(environment.data_dir):
        local = find_local_ray(environment.data_dir)
        if local is not None:
            with progress.stage("serve"):
                # Requests under way end in peace; if Serve does not answer, ending Ray ends it too.
                if local.address:
                    _shut_down_serve(local, environment, progress)
            with progress.stage("ray", f"process {local.pid}"):
                stop_local_ray(environment.data_dir, local)
            remove_ledgers(environment.data_dir)
            return f"the fleet and its Ray (process {local.pid})"
    if environment.ray_address is None:
        return None
    with connect_ray(None, environment) as address:
        from deployments.cli_serve import delete_applications

        deleted = delete_applications(OUR_APPLICATIONS)
    return f"applications {', '.join(deleted)} on Ray at {address}" if deleted else None


def await_versions(wanted: Mapping[str, str], gateway: GatewayClient, progress: Progress) -> None:
    """Wait until every replica of a domain serves its index at least as new as wanted; they follow by themselves.

    Raises Unavailable with what they serve instead.
    """
    waiting = dict(wanted)
    deadline = time.monotonic() + FOLLOW_TIMEOUT_S
    while waiting:
        lines = gateway.observe_fleet()["domains"]
        for name, version in wanted.items():
            served = {
                str(state["index_version"])
                for line in lines
                if line["domain"] == name
                for state in line["replica_states"]
            }
            if name in waiting and all(_has(label, version) for label in served):
                progress.say(f"  index {name}: {', '.join(sorted(served)) or 'no replica runs'}")
                waiting.pop(name)
        if waiting and time.monotonic() > deadline:
            name = next(iter(waiting))
            line = next(line for line in lines if line["domain"] == name)
            raise Unavailable(
                f"replicas of domain '{name}' serve its index at {line['index_version']} and not at {waiting[name]} "
                f"after {FOLLOW_TIMEOUT_S:.0f} s: {line['index_problem'] or 'their log says why'}; see "
                "`guildhall status`"
            )
        time.sleep(FOLLOW_POLL_S if waiting else 0)


def _has(served: str, wanted: str) -> bool:
    """Whether a state of an index, as `<version>.<commit>`, is the one wanted or a later one."""
    (version, _, commit), (wanted_version, _, wanted_commit) = served.partition("."), wanted.partition(".")
    # With the commit that publishes a version the one before it is served until the new one is open.
    return version == wanted_version or (commit.isdecimal() and int(commit) > int(wanted_commit))


def remember_fleet(data_dir: Path, file: Path) -> None:
    """Make a fleet file the one that `guildhall index` works on when it is told none."""
    (data_dir / FLEET_FILE).write_text(str(file.absolute()), encoding="utf-8")


def plan_logical_cpus(fleet: Fleet, cores: int) -> int:
    """CPUs that a local Ray must claim so that every replica may start; Ray counts them, the system shares them."""
    engines = sum(engine.cpus * max(engine.replicas.max, 1) for engine in fleet.engines.values())
    return max(cores, ceil(engines) + fleet.gateway.replicas + SPARE_CPUS)


def gateway_url(host: str, port: int) -> str:
    """Where this machine reaches the gateway that listens on an address."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - compared, not listened on
    return f"http://{f'[{reachable}]' if ':' in reachable and not reachable.startswith('[') else reachable}:{port}"


def check_keys_required(url: str) -> None:
    """Raise ConfigurationError when a gateway on somebody else's cluster asks for no API key.

    Keys never travel through Serve's configuration: its replicas read them from their own node's environment.
    """
    if httpx.get(f"{url}/v1/models", timeout=10, trust_env=False).status_code != 401:
        raise ConfigurationError(
            f"the gateway at {url} asks for no API key although this environment has some; set GUILDHALL_API_KEYS in "
            "the environment of the cluster's nodes, restart Ray there, then run `guildhall up` again"
        )


def check_port(host: str, port: int) -> None:
    """Raise ConfigurationError when something listens already where the gateway shall."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as error:
            raise ConfigurationError(
                f"the gateway cannot listen on {host} port {port}: {error.strerror}; "
                "end what listens there or set gateway.port to a free port"
            ) from error


@contextmanager
def connect_ray(local: LocalRay | None, environment: Environment) -> Iterator[str]:
    """Be a driver of the local Ray, or else of the one at RAY_ADDRESS; gives its address."""
    address = local.address if local is not None else environment.ray_address
    with use_token(local):
        import ray

        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = "the local Ray" if local is not None else "the Ray cluster of RAY_ADDRESS"
            todo = "run `guildhall down`, then try again" if local is not None else "correct or unset RAY_ADDRESS"
            raise Unavailable(f"{where} at {address} does not answer ({error}); {todo}") from error
        try:
            yield str(ray.get_runtime_context().gcs_address)
        finally:
            ray.shutdown()


def _wake_new(fleet: Fleet, changes: Changes) -> frozenset[str]:
    """Begin to start, for this once, new engines that may sleep, so that a mistake in one is found now; their names."""
    from deployments.sleep_control import call_awake

    new = {change.name for change in changes.applications if change.kind in {"added", "restarted"}}
    woken = frozenset(name for name, engine in fleet.engines.items() if name in new and engine.sleeps_to_zero)
    call_awake(woken)
    return woken


def _digest_keys(keys: ApiKeys, environment: Environment) -> str:
    """What tells one set of keys from another; empty without any."""
    writing = load_index_keys(environment).digests
    digests = [*sorted(keys.digests), *(b"index" + digest for digest in sorted(writing))]
    return sha256(b"".join(digests)).hexdigest() if digests else ""


def _launch_ray(fleet: Fleet, keys: str, environment: Environment, progress: Progress) -> tuple[LocalRay | None, bool]:
    """The Ray to use, None for that of RAY_ADDRESS, and whether it is being started now."""
    if environment.ray_address is not None:
        progress.finish("ray", f"RAY_ADDRESS={environment.ray_address}")
        return None, False
    cpus = plan_logical_cpus(fleet, os.cpu_count() or 1)
    local = find_local_ray(environment.data_dir)
    if local is None:
        check_port(fleet.gateway.host, fleet.gateway.port)
        progress.start("ray", f"starting with {cpus} logical CPUs")
        return launch_local_ray(environment.data_dir, cpus, keys), True
    for differs, what in (
        (local.keys != keys, "other API keys"),
        (local.cpus < cpus, f"{local.cpus} logical CPUs, the fleet now needs {cpus}"),
    ):
        if differs:
            raise ConfigurationError(
                f"the local Ray (process {local.pid}) was started with {what}; run `guildhall down`, then `up` again"
            )
    if local.address:
        progress.finish("ray", f"{local.address}, running already")
    else:
        progress.start("ray", "another start was interrupted; waiting for it")
    return local, False


def _shut_down_serve(local: LocalRay, environment: Environment, progress: Progress) -> None:
    try:
        with connect_ray(local, environment):
            from ray import serve

            serve.shutdown()
    except Exception as error:  # noqa: BLE001 - whatever it is, the processes are ended next
        progress.update("serve", f"did not shut down in order: {type(error).__name__}")

"""What `guildhall sleep` and `guildhall wake` do. Needs a connected driver."""

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ray import serve
from ray.exceptions import RayError
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from deployments.applications import EXPERT_DEPLOYMENT, GATEWAY_APPLICATION
from deployments.cli_progress import Progress
from deployments.cluster_notes import leave_note, remove_note
from deployments.engine_turn import read_waits
from experts.errors import BadRequest, NotServing, Unavailable
from experts.fleet import Fleet

POLL_S = 0.25
# The policy decides within a second; a replica answers what it has, and its index actors follow within one lease.
ASLEEP_TIMEOUT_S = 120.0
# As long as `guildhall up` waits for engines by default.
AWAKE_TIMEOUT_S = 900.0

logging.getLogger("ray.serve").setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class SleepReport:
    """Engines that were put to sleep or woken, each with all the domains that it answers for."""

    domain: str
    state: str
    engines: Mapping[str, tuple[str, ...]]
    seconds: float


def put_to_sleep(domain: str, progress: Progress) -> SleepReport:
    """Let the engines of a domain sleep now, and return when they do.

    Raises BadRequest for a domain without such an engine, Unavailable where requests keep one awake.
    """
    began = time.monotonic()
    fleet = read_running_fleet()
    engines = choose_engines(fleet, domain)
    for name in engines:
        with progress.stage(f"engine {name}"):
            if fleet.engines[name].sleeps_to_zero:
                leave_note("sleep-requests", name, {})
                _await_no_replica(name, progress)
            elif not all(_find_engine(name).broadcast("fall_asleep").results(timeout_s=ASLEEP_TIMEOUT_S)):
                raise Unavailable(_explain_busy(name))
    return SleepReport(domain, "asleep", engines, round(time.monotonic() - began, 3))


def wake_up(domain: str, progress: Progress) -> SleepReport:
    """Wake the engines of a domain, as a request would, and return when they are awake."""
    began = time.monotonic()
    fleet = read_running_fleet()
    engines = choose_engines(fleet, domain)
    wake_engines(list(engines), progress)
    return SleepReport(domain, "awake", engines, round(time.monotonic() - began, 3))


def wake_engines(engines: list[str], progress: Progress) -> None:
    """Wake engines at the same time; on one node their turns come one after another."""
    calls = call_awake(engines)
    for name in engines:
        progress.start(f"engine {name}")
    deadline = time.monotonic() + AWAKE_TIMEOUT_S
    while calls:
        waits = read_waits()
        for name, call in list(calls.items()):
            try:
                call.result(timeout_s=POLL_S / len(calls))
            except TimeoutError:
                progress.update(f"engine {name}", waits.get(name, "waking"))
                if time.monotonic() > deadline:
                    raise Unavailable(
                        f"engine '{name}' is not awake after {AWAKE_TIMEOUT_S:.0f} s and goes on waking; see its log"
                    ) from None
            except (RayError, RayServeException) as error:
                raise Unavailable(f"engine '{name}' could not be woken: {error}; see its log") from error
            else:
                progress.finish(f"engine {name}", "awake")
                calls.pop(name)


def call_awake(engines: Iterable[str]) -> dict[str, "DeploymentResponse[None]"]:
    """Begin to wake engines: for a call that finds no replica Serve starts one, and one that sleeps in place wakes."""
    calls = {}
    for name in engines:
        remove_note("sleep-requests", name)
        calls[name] = _find_engine(name).wake.remote()
    return calls


def read_running_fleet() -> Fleet:
    """The fleet that the gateway was last told to serve; raises NotServing when none runs."""
    client = _get_global_client(raise_if_no_controller_running=False)
    details = client.get_serve_details() if client is not None else {}
    config = details.get("applications", {}).get(GATEWAY_APPLICATION, {}).get("deployed_app_config")
    if not config:
        raise NotServing("no fleet is running here; start one with: guildhall up FILE")
    return Fleet.model_validate(config["deployments"][0]["user_config"]["fleet"])


def choose_engines(fleet: Fleet, domain: str) -> dict[str, tuple[str, ...]]:
    """The engines that answer for a domain and may sleep, each with every domain that it answers for.

    Raises BadRequest for a domain that is unknown or has none.
    """
    if domain not in fleet.domains:
        raise BadRequest(f"no domain '{domain}' in fleet '{fleet.name}'; it has {', '.join(fleet.domains)}", "domain")
    names = dict.fromkeys(variant.engine for variant in fleet.domains[domain].variants.values())
    sleeping = [name for name in names if fleet.engines[name].sleep is not None]
    if not sleeping:
        raise BadRequest(
            f"domain '{domain}' has no engine that may sleep: {', '.join(names)} without `sleep` in the fleet file; "
            f"add engines.{next(iter(names))}.sleep, then run `guildhall up` again",
            "domain",
        )
    return {name: tuple(fleet.domains_of(name)) for name in sleeping}


def _await_no_replica(name: str, progress: Progress) -> None:
    client = _get_global_client()
    deadline = time.monotonic() + ASLEEP_TIMEOUT_S
    while replicas := [
        str(replica["state"])
        for deployment in client.get_serve_details()["applications"][name]["deployments"].values()
        for replica in deployment["replicas"]
    ]:
        progress.update(f"engine {name}", f"{len(replicas)} replicas left")
        if time.monotonic() > deadline:
            raise Unavailable(_explain_busy(name))
        time.sleep(POLL_S)


def _explain_busy(name: str) -> str:
    return (
        f"engine '{name}' is still awake after {ASLEEP_TIMEOUT_S:.0f} s, since requests keep coming; it sleeps by "
        "itself once it is idle, see `guildhall status`"
    )


def _find_engine(name: str) -> DeploymentHandle:
    return serve.get_deployment_handle(EXPERT_DEPLOYMENT, name, _check_exists=False)

"""What `guildhall up` does to Ray Serve: compare, apply, wait. Needs a connected driver."""

import json
import logging
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

import httpx
from ray import serve
from ray.serve._private.client import ServeControllerClient
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from deployments.cli_changes import Changes, plan_changes
from deployments.cli_progress import Progress
from deployments.cluster_notes import read_notes
from deployments.engine_turn import read_waits
from deployments.local_ray import read_tail
from experts.errors import ConfigurationError, Unavailable

GATEWAY = "gateway"
POLL_S = 0.25
# A replica that fails its health check is replaced by Serve; one that stays away this long is not coming back.
UNHEALTHY_GRACE_S = 30.0
MESSAGE_LINES = 12
PROBE_TIMEOUT_S = 10.0
# After every replica runs, the gateway loads its encoder (5 s on 2 idle cores); this is for busy ones.
GATEWAY_TIMEOUT_S = 180.0

logging.getLogger("ray.serve").setLevel(logging.WARNING)


def apply_config(config: Mapping[str, Any], progress: Progress, *, shared: bool, ours: str = "deployments.") -> Changes:
    """Say what a config (ServeDeploySchema as a dict) changes, then apply it; Serve changes only what differs.

    Raises ConfigurationError where applying would touch what is not Guildhall's on a `shared` cluster, or needs another
    HTTP server.
    """
    schema = ServeDeploySchema.model_validate(config)
    desired = [_plain(application.model_dump(exclude_unset=True)) for application in schema.applications]
    client = _find_client()
    details = client.get_serve_details() if client is not None else {}
    running = _observe_configs(details)
    if client is not None:
        _check_http(details, config)
        foreign = [name for name, app in running.items() if not str(app.get("import_path", "")).startswith(ours)]
        if shared and foreign:
            raise ConfigurationError(
                f"the Ray cluster serves applications that are not Guildhall's ({', '.join(foreign)}), and applying a "
                "fleet would delete them; use a Ray cluster of its own for the fleet"
            )
        failed = [name for name in running if _status(details, name) == "DEPLOY_FAILED"]
        if failed:
            progress.say(f"removed first, because they had failed: {', '.join(failed)}")
            client.delete_apps(failed)
            running = {name: app for name, app in running.items() if name not in failed}
    changes = plan_changes(running, desired)
    for change in changes.applications:
        progress.say(f"  {change}")
    with progress.stage("serve", "nothing to change" if client is not None and not changes else ""):
        serve.start(proxy_location=config.get("proxy_location"), http_options=dict(config["http_options"]))
        if changes:
            _get_global_client().deploy_apps(schema)
    return changes


def await_ready(
    config: Mapping[str, Any],
    progress: Progress,
    deadline: float,
    logs: Path | None,
    woken: Collection[str] = (),
) -> None:
    """Wait until every application runs, those `woken` with a replica, and the gateway says it is ready.

    Raises Unavailable with the failure's message and the end of the replica's log, or what is missing at `deadline`
    (time.monotonic). `logs` is where Ray's logs are, if on this machine.
    """
    client = _get_global_client()
    names = [str(application["name"]) for application in config["applications"]]
    experts = {str(application["name"]): _name_experts(application) for application in config["applications"]}
    waiting = list(names)
    for name in names:
        progress.start(_stage(name))
    unhealthy: dict[str, float] = {}
    while waiting:
        details = client.get_serve_details()
        waits = read_waits()
        mps_off = {note.about: note.body for note in read_notes("mps-off")}
        for name in list(waiting):
            status = _status(details, name)
            application = details.get("applications", {}).get(name, {})
            if status == "RUNNING" and (name not in woken or _has_replica(application)):
                progress.finish(_stage(name), _describe(application) + experts.get(name, ""))
                if name in mps_off:
                    progress.say(f"  {name}: on time slices of its GPU, since MPS is off: {mps_off[name]}")
                waiting.remove(name)
                continue
            progress.update(_stage(name), _describe(application, waits.get(name)))
            if status == "UNHEALTHY":
                unhealthy.setdefault(name, time.monotonic())
            else:
                unhealthy.pop(name, None)
            lasting = name in unhealthy and time.monotonic() - unhealthy[name] > UNHEALTHY_GRACE_S
            if status == "DEPLOY_FAILED" or lasting:
                progress.fail(_stage(name), status)
                raise Unavailable(_explain_failure(name, application, logs))
        if waiting and time.monotonic() > deadline:
            name = waiting[0]
            application = details.get("applications", {}).get(name, {})
            raise Unavailable(
                f"not ready in time: {', '.join(waiting)}; starting goes on: wait for it with `guildhall up` or stop "
                f"it with `guildhall down`; '{name}' is {_describe(application)}\n"
                f"{_explain_failure(name, application, logs)}"
            )
        time.sleep(POLL_S if waiting else 0)
    _await_gateway(config, progress, deadline)


def delete_applications(prefix: str) -> list[str]:
    """Delete the applications whose import path begins so, and return their names."""
    client = _find_client()
    if client is None:
        return []
    running = _observe_configs(client.get_serve_details())
    ours = [name for name, app in running.items() if str(app.get("import_path", "")).startswith(prefix)]
    client.delete_apps(ours)
    return ours


def _await_gateway(config: Mapping[str, Any], progress: Progress, deadline: float) -> None:
    from deployments.up import gateway_url

    url = gateway_url(config["http_options"]["host"], config["http_options"]["port"])
    problem = "no answer"
    deadline = min(deadline, time.monotonic() + GATEWAY_TIMEOUT_S)
    with progress.stage("ready", url):
        while time.monotonic() < deadline:
            try:
                answer = httpx.get(f"{url}/readyz", timeout=PROBE_TIMEOUT_S, trust_env=False)
            except httpx.HTTPError as error:
                problem = type(error).__name__
            else:
                if answer.status_code == 200:
                    return
                problem = _read_reasons(answer)
            progress.update("ready", f"{url}: {problem}")
            time.sleep(POLL_S)
        raise Unavailable(f"the gateway at {url} runs but is not ready: {problem}; see `guildhall status`")


def _read_reasons(answer: httpx.Response) -> str:
    try:
        return "; ".join(str(reason) for reason in answer.json()["reasons"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code} {_first_line(answer.text)}"


def _find_client() -> ServeControllerClient | None:
    return _get_global_client(raise_if_no_controller_running=False)


def _observe_configs(details: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The configs of running applications; one that was not deployed from a config has none of its own."""
    return {
        str(name): _plain(application.get("deployed_app_config") or {"name": name})
        for name, application in details.get("applications", {}).items()
        if _value(application.get("status")) not in {"DELETING", "NOT_STARTED"}
    }


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON would carry it, so that tuples, enums and numbers compare equal."""
    plain: dict[str, Any] = json.loads(json.dumps(config, default=_value))
    return plain


def _value(thing: Any) -> str:
    return str(getattr(thing, "value", thing))


def _status(details: Mapping[str, Any], name: str) -> str:
    return _value(details.get("applications", {}).get(name, {}).get("status", "NOT_STARTED"))


def _check_http(details: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    now, wanted = details.get("http_options") or {}, config["http_options"]
    differing = [key for key in ("host", "port", "request_timeout_s") if key in now and now[key] != wanted.get(key)]
    if differing:
        shown = ", ".join(f"{key} is {now[key]}, the fleet file asks for {wanted.get(key)}" for key in differing)
        raise ConfigurationError(
            f"the running HTTP server cannot be changed in place: {shown}; run `guildhall down`, then `up` again"
        )


def _stage(name: str) -> str:
    return name if name == GATEWAY else f"engine {name}"


def _name_experts(application: Mapping[str, Any]) -> str:
    """The experts that an application's engine answers for."""
    configs = [deployment.get("user_config") or {} for deployment in application.get("deployments", ())]
    domains = [domain for config in configs for domain in config.get("domains", ())]
    return f", experts {', '.join(domains)}" if domains else ""


def _has_replica(application: Mapping[str, Any]) -> bool:
    deployments = application.get("deployments", {}).values()
    return any(_value(replica.get("state")) == "RUNNING" for item in deployments for replica in item["replicas"])


def _describe(application: Mapping[str, Any], waits: str | None = None) -> str:
    """One line on where an application stands: its replicas by state, and if it is not well why: what it `waits` for
    itself, else what Serve says."""
    deployments = application.get("deployments", {}).values()
    states: dict[str, int] = {}
    for replica in [replica for deployment in deployments for replica in deployment.get("replicas", ())]:
        state = _value(replica.get("state")).lower()
        states[state] = states.get(state, 0) + 1
    parts = [f"{count} {state}" for state, count in sorted(states.items())]
    status = _value(application.get("status", "NOT_STARTED"))
    if status == "RUNNING":
        return ", ".join(parts) or "0 running"
    messages = [str(deployment.get("message") or "") for deployment in deployments]
    said = waits or _first_line(next((one for one in messages if one), str(application.get("message") or "")))
    return ", ".join([*(parts or [status.lower()]), *([said] if said else [])])


def _first_line(text: str) -> str:
    return shorten(text.strip().splitlines()[0], 160, placeholder=" …") if text.strip() else ""


def _explain_failure(name: str, application: Mapping[str, Any], logs: Path | None) -> str:
    deployments = application.get("deployments", {}).values()
    messages = [str(application.get("message") or ""), *(str(item.get("message") or "") for item in deployments)]
    longest = max(messages, key=len).strip().splitlines()
    lines = [f"application '{name}' is {_value(application.get('status', 'NOT_STARTED'))}; Ray Serve says:"]
    lines += [f"  {line}" for line in longest[-MESSAGE_LINES:]]
    replicas = [
        replica
        for item in deployments
        for replica in (*item.get("replicas", ()), *item.get("recent_dead_replicas", ()))
        if replica.get("log_file_path")
    ]
    if replicas and logs is not None:
        log = logs / str(replicas[-1]["log_file_path"]).lstrip("/")
        lines += [f"its replica's log {log} ends with:", *(f"  {line}" for line in read_tail(log).splitlines())]
    lines.append("correct the cause, then run `guildhall up` again; `guildhall down` stops what runs")
    return "\n".join(lines)

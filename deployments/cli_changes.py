"""What `guildhall up` is about to change, said before it does: what runs against what the fleet file asks for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["added", "restarted", "in place", "removed", "unchanged"]

# Ray Serve 2.60 starts replicas anew for these (`DeploymentOptionUpdateType.HeavyWeight`, and what an actor is created
# with); every other option of a deployment reaches its running replicas.
RESTARTING_OPTIONS = frozenset(
    {
        "ray_actor_options",
        "placement_group_bundles",
        "placement_group_strategy",
        "placement_group_bundle_label_selector",
        "max_replicas_per_node",
        "gang_scheduling_config",
        "deployment_actors",
    }
)
# Ray Serve builds an application anew when one of these changes (`get_app_code_version`).
REBUILDING_KEYS = frozenset({"import_path", "runtime_env", "args"})


@dataclass(frozen=True, slots=True)
class ApplicationChange:
    """What happens to one application; `keys` are the dotted paths that differ, those that restart it first."""

    name: str
    kind: Kind
    keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        because = f": {', '.join(self.keys)}" if self.keys else ""
        return f"{self.name}: {self.kind}{because}"


@dataclass(frozen=True, slots=True)
class Changes:
    """One entry per application, those asked for in file order, then those removed."""

    applications: tuple[ApplicationChange, ...]

    def __bool__(self) -> bool:
        return any(change.kind != "unchanged" for change in self.applications)


def plan_changes(running: Mapping[str, Mapping[str, Any]], desired: Sequence[Mapping[str, Any]]) -> Changes:
    """Compare application configs (ServeApplicationSchema as dicts, only what is set) of the running and the desired.

    What Serve restarts and what it changes in place follows Ray Serve 2.60.
    """
    changes = [_compare(running.get(application["name"]), application) for application in desired]
    wanted = {application["name"] for application in desired}
    changes += [ApplicationChange(name, "removed") for name in running if name not in wanted]
    return Changes(tuple(changes))


def _compare(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> ApplicationChange:
    name = str(after["name"])
    if before is None:
        return ApplicationChange(name, "added")
    restarting: list[str] = []
    in_place: list[str] = []
    for key in _keys(before, after):
        if key == "deployments":
            continue
        differing = _differences(before.get(key), after.get(key), key)
        (restarting if key in REBUILDING_KEYS else in_place).extend(differing)
    deployments_before = _by_name(before)
    deployments_after = _by_name(after)
    for deployment in _keys(deployments_before, deployments_after):
        old, new = deployments_before.get(deployment, {}), deployments_after.get(deployment, {})
        for option in _keys(old, new):
            differing = _differences(old.get(option), new.get(option), f"{deployment}.{option}")
            (restarting if option in RESTARTING_OPTIONS else in_place).extend(differing)
    if restarting:
        return ApplicationChange(name, "restarted", (*restarting, *in_place))
    return ApplicationChange(name, "in place", tuple(in_place)) if in_place else ApplicationChange(name, "unchanged")


def _by_name(application: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {str(deployment["name"]): deployment for deployment in application.get("deployments") or ()}


def _differences(before: Any, after: Any, path: str) -> list[str]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return [
            found
            for key in _keys(before, after)
            for found in _differences(before.get(key), after.get(key), f"{path}.{key}")
        ]
    if isinstance(before, list | tuple) and isinstance(after, list | tuple):
        return [] if list(before) == list(after) else [path]
    return [] if before == after else [path]


def _keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys([*after, *before]))

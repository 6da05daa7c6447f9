"""Brings a Grafana's dashboards to what this version has, by Grafana's HTTP API."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import requests
from grafana_api.grafana_api import GrafanaClientError, GrafanaException
from grafana_api.grafana_face import GrafanaFace

from deployments.dashboards.boards import DASHBOARDS
from deployments.dashboards.panel import render_dashboard
from experts.errors import ConfigurationError, Unavailable

FOLDER_UID = "guildhall"
FOLDER_TITLE = "Guildhall"
TIMEOUT_S = 15.0
# What Grafana adds to a dashboard that it stores.
_GRAFANAS_OWN = frozenset({"id", "version"})

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Pushed:
    """One dashboard and what became of it; `url` is where it is seen."""

    dashboard: str
    change: Literal["created", "updated", "unchanged"]
    url: str


def push_dashboards(url: str, token: str) -> tuple[Pushed, ...]:
    """Bring every dashboard into the folder Guildhall; what is there already and the same is left alone.

    Raises ConfigurationError for an address or token that Grafana does not take, Unavailable where it does not answer.
    """
    address = urlsplit(url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ConfigurationError(f"the address '{url}' of Grafana is not an http or https URL; correct --url")
    host = f"[{address.hostname}]" if ":" in address.hostname else address.hostname
    path = address.path.strip("/")
    grafana = GrafanaFace(
        auth=token,
        host=host,
        port=address.port,
        url_path_prefix=f"{path}/" if path else "",
        protocol=address.scheme,
        timeout=TIMEOUT_S,
    )
    if _find(lambda: grafana.folder.get_folder(FOLDER_UID), url) is None:
        _ask(lambda: grafana.folder.create_folder(FOLDER_TITLE, FOLDER_UID), url)
    return tuple(_push(grafana, url, render_dashboard(dashboard)) for dashboard in DASHBOARDS)


def _push(grafana: GrafanaFace, url: str, dashboard: Mapping[str, Any]) -> Pushed:
    uid = dashboard["uid"]
    held = _find(lambda: grafana.dashboard.get_dashboard(uid), url)
    seen = f"{url.rstrip('/')}/d/{uid}"
    if held is not None and held.get("meta", {}).get("folderUid") == FOLDER_UID:
        stored = {key: value for key, value in held["dashboard"].items() if key not in _GRAFANAS_OWN}
        if stored == dashboard:
            return Pushed(dashboard["title"], "unchanged", seen)
    body = {"dashboard": {**dashboard, "id": None}, "folderUid": FOLDER_UID, "overwrite": True}
    _ask(lambda: grafana.dashboard.update_dashboard(body), url)
    return Pushed(dashboard["title"], "created" if held is None else "updated", seen)


def _find(ask: Callable[[], Result], url: str) -> Result | None:
    """What Grafana has; None where it says that it has none."""
    try:
        return _ask(ask, url)
    except _Missing:
        return None


class _Missing(ConfigurationError):
    """Grafana knows no such thing."""


def _ask(ask: Callable[[], Result], url: str) -> Result:
    try:
        return ask()
    except GrafanaClientError as error:
        if error.status_code == 404:
            raise _Missing(
                f"{url} has no Grafana API (404); correct --url, with its sub-path if there is one"
            ) from error
        if error.status_code in (401, 403):
            raise ConfigurationError(
                f"Grafana at {url} refused the token ({error.status_code}); set GUILDHALL_GRAFANA_TOKEN to one of a "
                "service account with the role Editor"
            ) from error
        raise ConfigurationError(f"Grafana at {url} refused a dashboard ({error.status_code}: {error})") from error
    except GrafanaException as error:
        raise Unavailable(f"Grafana at {url} failed ({error.status_code}); read its log and push again") from error
    except requests.exceptions.JSONDecodeError as error:
        raise ConfigurationError(f"what answers at {url} is not Grafana: no JSON came back; correct --url") from error
    except requests.exceptions.RequestException as error:
        raise Unavailable(f"no Grafana answers at {url} ({type(error).__name__}); start it or correct --url") from error

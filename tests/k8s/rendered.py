"""Shipped fleets as `guildhall render k8s` writes them."""

from functools import cache
from typing import Any

import yaml
from typer import Typer
from typer.testing import CliRunner, Result

from deployments.cli_render import render_app
from tests.conftest import FLEETS, ROOT

BASE = ROOT / "k8s" / "base"
OVERLAYS = ROOT / "k8s" / "overlays"

_app = Typer()
_app.add_typer(render_app, name="render")


def run_render(*arguments: str) -> Result:
    """`guildhall render …` in this process, in its present folder."""
    return CliRunner().invoke(_app, ["render", *arguments])


@cache
def render_fleet(name: str, *options: str) -> tuple[dict[str, Any], ...]:
    """Every manifest of a shipped fleet."""
    done = run_render("k8s", str((FLEETS / f"{name}.yaml").relative_to(ROOT)), *options)
    assert done.exit_code == 0, done.output
    return tuple(yaml.safe_load_all(done.stdout))


def find_manifest(manifests: tuple[dict[str, Any], ...], kind: str, name: str | None = None) -> dict[str, Any]:
    (found,) = [one for one in manifests if one["kind"] == kind and name in (None, one["metadata"]["name"])]
    return found


def find_cluster(manifests: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    cluster: dict[str, Any] = find_manifest(manifests, "RayService")["spec"]["rayClusterConfig"]
    return cluster

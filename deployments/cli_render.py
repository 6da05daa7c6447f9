"""`guildhall render`: a fleet file as Kubernetes manifests or as a cluster file of `ray up`.

What is written depends on the fleet file, on the folders that it names and on the options, on nothing else.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from cluster.provider import SSH_USER, Provider
from deployments.cli_output import open_stderr, reported_errors

if TYPE_CHECKING:
    from experts.fleet import Fleet

render_app = typer.Typer(help="Write a fleet as Kubernetes manifests or as a `ray up` file.", no_args_is_help=True)

FleetFile = Annotated[Path, typer.Argument(metavar="FLEET", help="The fleet file.")]


@render_app.command("k8s")
def render_k8s(
    file: FleetFile,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where a kustomize base is written; default: standard output, one YAML."),
    ] = None,
    gateway_class: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Gateway class, for upgrades that move traffic a step at a time."),
    ] = None,
    redis: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A Redis that is there, as host:port; default: one is made.")
    ] = None,
) -> None:
    """Write the manifests of a fleet for KubeRay 1.7: a RayService and what stands around it.

    Run it in the folder that the images are built from; the fleet file and every folder that it names must be in it.
    """
    from cluster.yaml_text import show_yaml
    from deployments.dashboards.alerts import render_rules
    from k8s.manifests import render_manifests, write_base
    from k8s.ray_service import Surroundings

    with reported_errors():
        fleet, config, fleet_file = plan_container_config(file, Path.cwd())
        files = render_manifests(fleet, config, fleet_file, Surroundings(gateway_class, redis), render_rules())
        if out is None:
            typer.echo(show_yaml([manifest for manifests in files.values() for manifest in manifests]), nl=False)
            return
        options = [("--out", _show_path(out)), ("--gateway-class", gateway_class), ("--redis", redis)]
        for path in write_base(files, _show_command("k8s", file, options), out):
            open_stderr().print(escape(f"wrote {path}"), soft_wrap=True)


@render_app.command("ray-up")
def render_ray_up(
    file: FleetFile,
    provider: Annotated[Provider, typer.Option(help="Whose machines.")],
    location: Annotated[
        str | None, typer.Option(metavar="NAME", help="A region of AWS, a zone of Google Cloud, a location of Azure.")
    ] = None,
    ami: Annotated[str | None, typer.Option(metavar="ID", help="aws: an image with NVIDIA's driver.")] = None,
    project: Annotated[str | None, typer.Option(metavar="ID", help="gcp: your project.")] = None,
    host: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="onprem: a machine; repeatable, the head's first.")
    ] = None,
    ssh_key: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="onprem: the private key that opens the machines; the head gets a copy."),
    ] = None,
    ssh_user: Annotated[str, typer.Option(metavar="NAME", help="Who logs in to the machines.")] = SSH_USER,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Default: standard output.")] = None,
) -> None:
    """Write the cluster file of a fleet for Ray's `ray up`: a head, and a worker type for each node type.

    Run it, and `ray up`, in the project's folder, which is copied to every machine; the fleet file and every folder
    that it names must be in it.
    """
    from cluster.cluster_file import Site, render_cluster_file
    from cluster.yaml_text import show_yaml
    from experts.fleet_file import load_fleet

    with reported_errors():
        folder = Path.cwd().resolve()
        fleet = load_fleet(file)
        find_in_project(file, folder)
        site = Site(provider, location, ami, project, tuple(host or ()), ssh_key, ssh_user)
        options = [("--provider", provider), ("--location", location), ("--ami", ami), ("--project", project)]
        options += [("--host", address) for address in site.hosts]
        options += [("--ssh-key", ssh_key)]
        options += [("--ssh-user", ssh_user if ssh_user != SSH_USER else None), ("--out", _show_path(out))]
        command = _show_command("ray-up", file, options)
        text = f"# Written by: {command}\n{show_yaml([render_cluster_file(fleet, folder, site)])}"
        if out is None:
            typer.echo(text, nl=False)
            return
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
        open_stderr().print(escape(f"wrote {out}"), soft_wrap=True)


def plan_container_config(file: Path, project: Path) -> tuple["Fleet", dict[str, Any], str]:
    """A fleet as containers see it, its Serve config, and where below the image's home its file is.

    The same as `guildhall up` deploys, but for the paths, the gateway's address, and a proxy on every node that runs a
    replica instead of one on the head: Kubernetes spreads the requests. Raises FleetFileError and ConfigurationError.
    """
    from cluster.moved_fleet import move_path
    from deployments.applications import observe_weights, plan_serve_config
    from deployments.domain_index import locate_index
    from deployments.index_settings import IndexSource
    from experts.fleet_file import load_fleet
    from k8s.container_fleet import DATA, HOME, plan_container_fleet
    from retrieval.encoder import observe_encoder_fingerprint

    local, project = load_fleet(file), project.resolve()
    fleet_file = find_in_project(file, project)
    fleet = plan_container_fleet(local, project)
    checksums = {
        move_path(folder, project, HOME, "an adapter or a model"): checksum
        for folder, checksum in observe_weights(local).items()
    }
    indexed = [name for name, domain in fleet.domains.items() if domain.index is not None]
    encoder = observe_encoder_fingerprint(local.router.encoder) if indexed else ""
    indexes = {name: IndexSource(locate_index(fleet, name, Path(DATA)), encoder) for name in indexed}
    return fleet, plan_serve_config(fleet, indexes, checksums) | {"proxy_location": "EveryNode"}, fleet_file


def find_in_project(file: Path, project: Path) -> str:
    """Where a fleet file is below the project's folder; raises ConfigurationError where it is elsewhere."""
    from cluster.moved_fleet import move_path

    return move_path(str(file.resolve()), project, "", "the fleet file")


def _show_path(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _show_command(verb: str, file: Path, options: Sequence[tuple[str, str | None]]) -> str:
    given = [part for name, value in options if value is not None for part in (name, value)]
    return shlex.join(["guildhall", "render", verb, str(file), *given])

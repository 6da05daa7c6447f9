"""`guildhall dashboards`: what an operator looks at, as files or in a Grafana."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from deployments.cli_output import Json, open_stdout, reported_errors, write_json
from deployments.environment import read_environment
from experts.errors import ConfigurationError

dashboards_app = typer.Typer(
    no_args_is_help=True, help="Dashboards, alerts and Prometheus' settings, as files or in a Grafana."
)


@dashboards_app.command()
def write(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Written as it is now; other files stay.")],
    targets: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The nodes to scrape, as Prometheus' file_sd_configs read them; default: what `guildhall up` wrote. "
            "On the head of `ray up`: /tmp/ray/prom_metrics_service_discovery.json.",
        ),
    ] = None,
    prometheus: Annotated[str, typer.Option(help="Where Grafana finds Prometheus.")] = "http://127.0.0.1:9090",
    as_json: Json = False,
) -> None:
    """Write prometheus.yml, alert rules, and dashboards with what Grafana needs to provision them."""
    from deployments.dashboards.provisioning import write_provisioning
    from deployments.local_ray import TARGETS_FILE

    with reported_errors():
        written = write_provisioning(folder, targets or read_environment().data_dir / TARGETS_FILE, prometheus)
        if as_json:
            write_json({"written": [str(path) for path in written]})
        else:
            for path in written:
                open_stdout().print(escape(str(path)), soft_wrap=True)


@dashboards_app.command()
def push(
    url: Annotated[str, typer.Option(help="Grafana's address, with its sub-path if it has one.")],
    as_json: Json = False,
) -> None:
    """Bring a Grafana's dashboards to this version's; pushing again changes nothing.

    The token of a service account with the role Editor is read from GUILDHALL_GRAFANA_TOKEN.
    """
    from deployments.dashboards.grafana import push_dashboards

    with reported_errors("push again: what is there already stays"):
        token = read_environment().grafana_token
        if token is None:
            raise ConfigurationError(
                "no token for Grafana; set GUILDHALL_GRAFANA_TOKEN to one of a service account with the role Editor"
            )
        pushed = push_dashboards(url, token)
        if as_json:
            write_json({"dashboards": [asdict(one) for one in pushed]})
        else:
            for one in pushed:
                open_stdout().print(f"{escape(one.dashboard)}: {one.change}, {escape(one.url)}", soft_wrap=True)

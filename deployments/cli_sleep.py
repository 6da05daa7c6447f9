"""`guildhall sleep` and `guildhall wake`: give an expert's memory back until its next request, or take it again."""

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from deployments.cli_output import Json, open_stderr, open_stdout, reported_errors, write_json
from deployments.environment import read_environment

if TYPE_CHECKING:
    from deployments.cli_progress import Progress
    from deployments.sleep_control import SleepReport

Domain = Annotated[str, typer.Argument(metavar="DOMAIN", help="A domain of the running fleet.")]


def sleep(domain: Domain, as_json: Json = False) -> None:
    """Let a domain's engines sleep now; the next request wakes them, and waits for it.

    Their `sleep` stands in the fleet file. An engine that answers for several domains sleeps for all of them.
    """

    def act(progress: "Progress") -> "SleepReport":
        from deployments.sleep_control import put_to_sleep

        return put_to_sleep(domain, progress)

    _run(act, as_json)


def wake(domain: Domain, as_json: Json = False) -> None:
    """Wake a domain's engines before a request does; returns when they answer."""

    def act(progress: "Progress") -> "SleepReport":
        from deployments.sleep_control import wake_up

        return wake_up(domain, progress)

    _run(act, as_json)


def _run(act: "Callable[[Progress], SleepReport]", as_json: bool) -> None:
    from deployments.cli_progress import Progress
    from deployments.local_ray import find_local_ray
    from deployments.up import connect_ray
    from experts.errors import NotServing

    with reported_errors():
        environment = read_environment()
        local = find_local_ray(environment.data_dir)
        if local is None and environment.ray_address is None:
            raise NotServing("no fleet is running here; start one with: guildhall up FILE")
        with connect_ray(local, environment), Progress(open_stderr()) as progress:
            report = act(progress)
        if as_json:
            write_json(asdict(report))
            return
        for engine, domains in report.engines.items():
            open_stdout().print(
                escape(f"engine {engine} is {report.state}, and with it {', '.join(domains)}"), soft_wrap=True
            )

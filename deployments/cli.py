"""The `guildhall` command: check a fleet file, bring it up, ask it, fill its indexes, train its router, take it down.

Exit codes: 0 done, 1 failed, 2 the request or the fleet file is wrong, 3 nothing is running, 130 interrupted.
"""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from deployments.cli_adapt import adapt_app
from deployments.cli_dashboards import dashboards_app
from deployments.cli_index import index_app
from deployments.cli_output import BAD_INPUT, Json, open_stderr, open_stdout, reported_errors, write_json
from deployments.cli_plan import plan
from deployments.cli_profile import profile
from deployments.cli_render import render_app
from deployments.cli_router import router_app
from deployments.cli_simulate import simulate
from deployments.cli_sleep import sleep, wake
from deployments.client import Answered, GatewayClient, Planned, Text, connect_gateway
from deployments.environment import Environment, read_environment
from experts.errors import BadRequest, NotServing

app = typer.Typer(
    name="guildhall",
    help="Small domain-specialist language models, served together as one.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong input or fleet file, 3 nothing is running, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(adapt_app, name="adapt")
app.add_typer(index_app, name="index")
app.add_typer(router_app, name="router")
app.add_typer(render_app, name="render")
app.add_typer(dashboards_app, name="dashboards")
app.command()(plan)
app.command()(profile)
app.command()(simulate)
app.command()(sleep)
app.command()(wake)

FleetFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="The fleet file, for example cluster/fleets/pocket.yaml.")
]
Question = Annotated[str, typer.Argument(metavar="QUESTION", help="The question; '-' reads it from standard input.")]
Url = Annotated[str | None, typer.Option(help="The gateway; default: GUILDHALL_URL, else http://127.0.0.1:8000.")]
Model = Annotated[str, typer.Option(help="'guildhall' routes; 'guildhall/finance' asks one expert.")]


@app.callback()
def _guildhall(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, help="Show the version and exit.", callback=lambda on: _show_version(on)
        ),
    ] = False,
) -> None:
    """Small domain-specialist language models, served together as one."""


@app.command()
def check(file: FleetFile, as_json: Json = False) -> None:
    """Check a fleet file: every mistake at once, or what the fleet is and where its engines would run."""
    from cluster.placement import describe_placement, plan_placement
    from deployments.elastic_kv import describe_missing
    from experts.fleet_file import check_fleet

    with reported_errors():
        report = check_fleet(file)
        fleet = report.fleet
        placement = plan_placement(fleet) if fleet is not None else None
        lines = describe_placement(placement) if placement is not None else ()
        good = placement is not None and not placement.unplaced
        missing = describe_missing(fleet) if fleet is not None else ()
        if as_json:
            engines = list(fleet.engines) if fleet is not None else []
            domains = list(fleet.domains) if fleet is not None else []
            write_json(
                {"path": str(file), "ok": good, "mistakes": report.mistakes, "domains": domains, "engines": engines}
                | {"placement": lines, "missing_here": missing}
            )
        elif fleet is None:
            open_stderr().print(
                escape(f"{file}: {len(report.mistakes)} mistake{'s' if len(report.mistakes) != 1 else ''}")
            )
            for mistake in report.mistakes:
                open_stderr().print(f"[red]✗[/] {escape(mistake)}", soft_wrap=True)
        else:
            out = open_stdout() if good else open_stderr()
            out.print(f"{escape(str(file))}: fleet [bold]{escape(fleet.name)}[/] is well-formed", soft_wrap=True)
            for name, domain in fleet.domains.items():
                variants = ", ".join(f"{key} on {variant.engine}" for key, variant in domain.variants.items())
                knows = "an index" if domain.index is not None else "no index"
                out.print(f"  domain [bold]{name}[/]: {escape(variants)}; {knows}", soft_wrap=True)
            for line in lines:
                out.print(f"  {escape(line)}", soft_wrap=True)
            for line in missing:
                out.print(f"  [yellow]not on this machine[/]: {escape(line)}", soft_wrap=True)
        if not good:
            raise typer.Exit(BAD_INPUT)


@app.command()
def up(
    file: FleetFile,
    timeout_s: Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait until it answers.")] = 900,
    as_json: Json = False,
) -> None:
    """Bring a fleet up, or change the running one into what the file says; returns when it answers.

    Says first what is added, restarted, changed in place or removed. Joins the Ray cluster of RAY_ADDRESS, or else
    starts a Ray on this machine that nobody else can reach.
    """
    from deployments.cli_print import print_up
    from deployments.cli_progress import Progress
    from deployments.up import bring_up

    with reported_errors("what has started keeps running: `guildhall up` goes on, `guildhall down` stops it"):
        with Progress(open_stderr()) as progress:
            report = bring_up(file, read_environment(), progress, timeout_s)
        if as_json:
            write_json(asdict(report))
        else:
            print_up(open_stdout(), report)


@app.command()
def down(as_json: Json = False) -> None:
    """Stop the fleet, and the Ray that `guildhall up` started for it."""
    from deployments.cli_progress import Progress
    from deployments.up import bring_down

    with reported_errors("run `guildhall down` again to stop the rest"):
        with Progress(open_stderr()) as progress:
            stopped = bring_down(read_environment(), progress)
        if stopped is None:
            raise NotServing("nothing to stop: no fleet that `guildhall up` started is running")
        if as_json:
            write_json({"stopped": stopped})
        else:
            open_stdout().print(escape(f"stopped {stopped}"), soft_wrap=True)


@app.command()
def status(url: Url = None, as_json: Json = False) -> None:
    """Show each domain's replicas, requests, tokens per second and index version."""
    from deployments.cli_print import print_fleet

    with reported_errors(), _gateway(url) as gateway:
        fleet = gateway.observe_fleet()
        if as_json:
            write_json(fleet)
        else:
            print_fleet(open_stdout(), fleet)


@app.command()
def ask(question: Question, model: Model = "guildhall", url: Url = None, as_json: Json = False) -> None:
    """Ask a question; the answer comes as it is written, then what it cites and how long it took."""
    with reported_errors(), _gateway(url) as gateway:
        text = _read_question(question)
        if as_json:
            write_json(gateway.ask_whole(text, model))
        else:
            show_answer(gateway, text, model, open_stdout(), open_stderr())


@app.command()
def explain(
    question: Annotated[str | None, typer.Argument(metavar="QUESTION", help="The question; '-' reads it.")] = None,
    model: Model = "guildhall",
    url: Url = None,
    as_json: Json = False,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="The plan as a Mermaid flowchart.")] = False,
    placement: Annotated[
        bool, typer.Option("--placement", help="Instead: what each engine may use of its node, from whom, and why.")
    ] = False,
) -> None:
    """Show how a question would be split and who would answer it, and why; nothing is generated."""
    from deployments.cli_print import print_plan
    from deployments.cli_quotas import show_quotas
    from router.mermaid import draw_plan

    with reported_errors(), _gateway(url) as gateway:
        if placement:
            show_quotas(gateway.observe_fleet(), as_json)
            return
        body = gateway.explain(_read_question(question or ""), model)
        if as_json:
            write_json(body)
        elif mermaid:
            open_stdout().file.write(draw_plan(body["plan"]))
        else:
            print_plan(open_stdout(), body["plan"])


def show_answer(gateway: GatewayClient, question: str, model: str, out: Console, err: Console) -> tuple[str, Answered]:
    """Ask, and show the plan, the answer as it comes, its citations and timings; gives the text and its end."""
    from deployments.cli_print import print_ending, print_plan_line

    pieces: list[str] = []
    with closing(gateway.ask(question, model)) as events:
        for event in events:
            if isinstance(event, Planned):
                print_plan_line(err, event.plan)
            elif isinstance(event, Text):
                pieces.append(event.text)
                out.file.write(event.text)
                out.file.flush()
            else:
                out.file.write("\n")
                print_ending(out, event)
                return "".join(pieces), event
    raise AssertionError("GatewayClient.ask ends with Answered or raises")


def main() -> None:
    """The entry point of the `guildhall` command."""
    app()


@contextmanager
def _gateway(url: str | None) -> Iterator[GatewayClient]:
    environment: Environment = read_environment()
    gateway = connect_gateway(environment, url)
    try:
        yield gateway
    finally:
        gateway.close()


def _read_question(question: str) -> str:
    text = (sys.stdin.read() if question == "-" else question).strip()
    if not text:
        raise BadRequest("the question is empty; write it as an argument, or '-' and send it to standard input")
    return text


def _show_version(on: bool) -> None:
    if not on:
        return
    try:
        typer.echo(f"guildhall {version('guildhall-serve')}")
    except PackageNotFoundError:
        typer.echo("guildhall, from a checkout that is not installed")
    raise typer.Exit


if __name__ == "__main__":
    main()

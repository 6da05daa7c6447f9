"""`guildhall simulate`: what a fleet would do with the requests of a trace, or at given rates."""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deployments.cli_output import Json, open_stderr, open_stdout, reported_errors, write_json
from deployments.cli_plan import ProfileFile
from experts.errors import BadRequest, ConfigurationError
from experts.fleet import Fleet

if TYPE_CHECKING:
    # Simulating imports numpy; the command starts without it.
    from cluster.demand import Demand
    from cluster.placement import Assignment
    from cluster.simulation_report import Quantiles, ServiceReport, SimulationReport
    from cluster.simulation_requests import Arrival

FleetFile = Annotated[Path, typer.Argument(metavar="FLEET", help="The fleet file.")]
Trace = Annotated[
    Path | None,
    typer.Option("--trace", help="CSV of requests (TIMESTAMP,ContextTokens,GeneratedTokens), as Azure publishes them."),
]
Rates = Annotated[
    Path | None, typer.Option("--rates", help="YAML file as for `guildhall plan`: rates and lengths by domain.")
]
Skew = Annotated[
    float, typer.Option("--skew", min=0, help="With a trace: the k-th domain gets a part in proportion to k^-SKEW.")
]
Arrivals = Annotated[
    Literal["poisson", "bursty"], typer.Option("--arrivals", help="With rates: how irregularly requests come.")
]
Seconds = Annotated[
    float | None, typer.Option("--seconds", min=1, help="Arrivals end then; default: 600, or the end of the trace.")
]
Placed = Annotated[
    Path | None, typer.Option("--placement", help="JSON of `guildhall plan`; default: the fleet file's replicas.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Same seed, same arrivals and same result.")]
Plot = Annotated[Path | None, typer.Option("--plot", help="Write a timeline to this PNG, SVG or PDF file.")]


def simulate(
    file: FleetFile,
    trace: Trace = None,
    rates: Rates = None,
    profile: ProfileFile = None,
    skew: Skew = 0.9,
    arrivals: Arrivals = "poisson",
    seconds: Seconds = None,
    placement: Placed = None,
    seed: Seed = 0,
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """Simulate a fleet under a trace or rates: throughput, TTFT, TPOT and SLO attainment of each domain."""
    from cluster.profile import Profile, load_profile
    from cluster.simulation import simulate as run
    from cluster.simulation_fleet import list_simulated
    from cluster.simulation_report import report_simulation
    from experts.fleet_file import load_fleet

    with reported_errors():
        fleet = load_fleet(file)
        demand = _load_demand(rates, fleet)
        requests, scale = _list_requests(fleet, trace, demand, skew, arrivals, seconds, seed)
        measured = load_profile(profile) if profile is not None else Profile({})
        fleet, assignments = _load_placement(placement, fleet)
        models = demand.models if demand is not None else {}
        placed = list_simulated(fleet, assignments, measured, models)
        simulated = run(requests, placed.replicas, placed.engines, placed.cores, placed.share, seed)
        slos = {name: domain.slo for name, domain in fleet.domains.items()}
        report = report_simulation(simulated, placed.replicas, slos)
        if plot is not None:
            from deployments.simulation_plot import draw_timeline

            draw_timeline(simulated, placed.replicas, plot)
        if as_json:
            write_json({**asdict(report), "lengths_scaled_by": scale, "computed_times": list(placed.computed)})
        else:
            _print_report(open_stdout(), report, scale)
            if placed.computed:
                names = ", ".join(placed.computed)
                line = f"step times of {names} are computed, not measured: measure them with `guildhall profile`"
                open_stderr().print(escape(line), soft_wrap=True)


def _load_demand(rates: Path | None, fleet: Fleet) -> "Demand | None":
    from cluster.demand import load_demand

    return load_demand(rates, fleet) if rates is not None else None


def _list_requests(
    fleet: Fleet,
    trace: Path | None,
    demand: "Demand | None",
    skew: float,
    process: Literal["poisson", "bursty"],
    seconds: float | None,
    seed: int,
) -> "tuple[Sequence[Arrival], float]":
    """The arrivals, and what the lengths of a trace were multiplied by."""
    from cluster.simulation_requests import choose_weights, deal_trace, draw_arrivals, load_trace, scale_lengths

    if trace is None and demand is None:
        raise BadRequest("there are no requests; give --trace with a CSV of them or --rates with a YAML file")
    if trace is None:
        assert demand is not None
        return draw_arrivals(demand, process, seconds or 600.0, seed), 1.0
    rows = [row for row in load_trace(trace) if seconds is None or row.at_s < seconds]
    # Any domain may get any request, so the shortest context counts.
    context = min(
        fleet.engines[next(iter(domain.variants.values())).engine].max_model_len for domain in fleet.domains.values()
    )
    weights = choose_weights(list(fleet.domains), skew)
    if demand is not None:
        weights = {name: traffic.requests_per_s for name, traffic in demand.domains.items()}
        if not sum(weights.values()):
            raise BadRequest("all rates are 0, so no domain would get a request of the trace; raise one")
    scaled = scale_lengths(rows, context)
    longest = max(row.prompt_tokens + row.output_tokens for row in rows)
    return deal_trace(scaled, weights, seed), min(1.0, context / longest)


def _load_placement(path: Path | None, fleet: Fleet) -> "tuple[Fleet, Sequence[Assignment]]":
    """The fleet as it is placed, and where its replicas are: as a plan says, else as they fit, first come first served.

    Raises ConfigurationError where they do not fit.
    """
    from pydantic import TypeAdapter, ValidationError

    from cluster.placement import describe_placement, plan_placement
    from cluster.planned_fleet import apply_planned
    from cluster.planner import PlannedPlacement

    if path is None:
        placement = plan_placement(fleet)
        if placement.unplaced:
            raise ConfigurationError("\n".join(describe_placement(placement)))
        return fleet, placement.assignments
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        data = {field.name: data[field.name] for field in fields(PlannedPlacement)}
        planned = TypeAdapter(PlannedPlacement).validate_python(data)
        return apply_planned(fleet, planned), planned.placement.assignments
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise BadRequest(
            f"{path} is not what `guildhall plan --json` writes for this fleet ({error}); give such a file"
        ) from error


def _print_report(console: Console, report: "SimulationReport", scale: float) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("domain", "requests", "answered/s", "tokens/s", "TTFT p50", "p99", "TPOT p50", "p99", "in SLO"):
        table.add_column(column)
    for name, service in [*report.domains.items(), ("all", report.total)]:
        table.add_row(*_list_cells(name, service))
    console.print(table)
    held = [f"{report.gpu_hours:.2f} GPU-hours"] if report.gpu_hours else []
    held += [f"{report.core_hours:.2f} core-hours"] if report.core_hours else []
    busy = ", ".join(f"{engine} {share:.0%}" for engine, share in report.busy.items())
    console.print(escape(f"{report.seconds:.0f} s, {' and '.join(held)}; busy: {busy}"), soft_wrap=True)
    if report.total.refused:
        line = f"{report.total.refused} requests are longer than the context or the KV cache of their engine"
        console.print(escape(line), soft_wrap=True)
    if report.preemptions:
        console.print(escape(f"{report.preemptions} times a sequence lost its KV blocks to others"), soft_wrap=True)
    if scale < 1:
        console.print(escape(f"the trace's lengths are multiplied by {scale:.3f} to fit the context"), soft_wrap=True)


def _list_cells(name: str, service: "ServiceReport") -> list[str]:
    kept = "" if service.slo_attainment is None else f"{service.slo_attainment:.1%}"
    return [
        f"[bold]{escape(name)}[/]",
        str(service.arrived),
        f"{service.requests_per_s:.2f}",
        f"{service.output_tokens_per_s:.0f}",
        *_list_times(service.ttft_s),
        *_list_times(service.tpot_s),
        kept,
    ]


def _list_times(times: "Quantiles") -> list[str]:
    return ["" if value is None else f"{1000 * value:.0f} ms" for value in (times.p50, times.p99)]

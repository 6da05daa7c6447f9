"""`guildhall plan`: which replicas run where, so that every SLO holds at given rates."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deployments.cli_output import BAD_INPUT, Json, open_stderr, open_stdout, reported_errors, write_json
from experts.errors import BadRequest
from experts.fleet import Fleet

if TYPE_CHECKING:
    # Planning imports numpy and pydantic's dataclasses; the command starts without them.
    from cluster.placement import Assignment
    from cluster.planner import PlannedPlacement

FleetFile = Annotated[Path, typer.Argument(metavar="FLEET", help="The fleet file.")]
Rates = Annotated[Path, typer.Option("--rates", help="YAML file: per domain, requests per second and lengths.")]
ProfileFile = Annotated[
    Path | None,
    typer.Option("--profile", help="CSV of measured step times; default: computed from model and GPU."),
]
Nodes = Annotated[
    list[str] | None,
    typer.Option("--nodes", metavar="TYPE=COUNT", help="Machines of a node type, instead of the fleet file's count."),
]
Goal = Annotated[
    Literal["fewest-gpus", "most-throughput"],
    typer.Option("--goal", help="Fewest GPUs for all of the rates, or as much of the rates as the nodes carry."),
]
Current = Annotated[
    Path | None, typer.Option("--current", help="JSON of the plan that runs now; what runs is moved only for a GPU.")
]
Write = Annotated[
    Path | None, typer.Option("--write", help="Write the planned fleet to a fleet file, for `guildhall up`.")
]
TimeLimit = Annotated[float, typer.Option("--time-limit", min=0.1, help="Seconds to search at most.")]


def plan(
    file: FleetFile,
    rates: Rates,
    profile: ProfileFile = None,
    nodes: Nodes = None,
    goal: Goal = "fewest-gpus",
    current: Current = None,
    write: Write = None,
    time_limit_s: TimeLimit = 30.0,
    as_json: Json = False,
) -> None:
    """Plan which variant of which expert runs on which share of which GPUs, with a proof of how good that is."""
    from cluster.demand import load_demand
    from cluster.placement import plan_placement
    from cluster.planned_fleet import apply_planned
    from cluster.planner import plan_for_rates
    from cluster.profile import Profile, load_profile
    from experts.fleet_file import load_fleet

    with reported_errors():
        fleet = _set_counts(load_fleet(file), nodes or [])
        demand = load_demand(rates, fleet)
        measured = load_profile(profile) if profile is not None else Profile({})
        runs = _load_current(current) if current is not None else ()
        planned = plan_for_rates(fleet, demand, measured, goal, runs, time_limit_s)
        good = not planned.placement.unplaced
        tight = False
        if good:
            after = apply_planned(fleet, planned)
            # Ray chooses nodes itself, first come first served; where that might not find room, say so.
            tight = bool(plan_placement(after).unplaced)
            if write is not None:
                _write_fleet(after, write)
        if as_json:
            write_json({"ok": good, **_to_json(planned), "fits_first_fit": good and not tight})
        else:
            _print_planned(open_stdout() if good else open_stderr(), fleet, planned, tight)
        if not good:
            raise typer.Exit(BAD_INPUT)


def _set_counts(fleet: Fleet, counts: list[str]) -> Fleet:
    nodes = dict(fleet.nodes)
    for entry in counts:
        name, _, count = entry.partition("=")
        if name not in nodes or not count.isdigit() or int(count) < 1:
            known = ", ".join(nodes)
            raise BadRequest(f"--nodes {entry} is not TYPE=COUNT with a node type of the fleet ({known}); correct it")
        nodes[name] = nodes[name].model_copy(update={"count": int(count)})
    return fleet.model_copy(update={"nodes": nodes})


def _load_current(path: Path) -> "tuple[Assignment, ...]":
    from pydantic import TypeAdapter, ValidationError

    from cluster.placement import Assignment

    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return TypeAdapter(tuple[Assignment, ...]).validate_python(data["placement"]["assignments"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise BadRequest(f"{path} is not what `guildhall plan --json` writes ({error}); give such a file") from error


def _write_fleet(fleet: Fleet, path: Path) -> None:
    text = yaml.safe_dump(fleet.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)
    try:
        path.write_text(f"# Written by `guildhall plan`.\n{text}", encoding="utf-8")
    except OSError as error:
        raise BadRequest(f"--write {path}: cannot be written ({error.strerror}); name a file in a folder") from error


def _to_json(planned: "PlannedPlacement") -> dict[str, Any]:
    from pydantic import TypeAdapter

    from cluster.planner import PlannedPlacement

    data: dict[str, Any] = TypeAdapter(PlannedPlacement).dump_python(planned, mode="json")
    return data


def _print_planned(console: Console, fleet: Fleet, planned: "PlannedPlacement", tight: bool) -> None:
    from cluster.placement import describe_placement

    if planned.proof is None:
        console.print(f"fleet [bold]{escape(fleet.name)}[/] cannot serve these rates", soft_wrap=True)
    else:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for column in ("engine", "serves", "node type", "split", "share", "replicas", "load"):
            table.add_column(column, overflow="fold")
        for setting in planned.engines:
            served = [service for service in planned.domains if service.engine == setting.engine]
            table.add_row(
                f"[bold]{escape(setting.engine)}[/]",
                ", ".join(f"{service.domain} {service.served_per_s:.4g}/s" for service in served),
                escape(setting.node_type),
                str(setting.tensor_parallel),
                "CPUs" if setting.gpus is None else f"{setting.gpus:g}",
                str(setting.replicas),
                f"{setting.load:.0%}",
            )
        console.print(table)
    for line in describe_placement(planned.placement):
        console.print(f"  {escape(line)}", soft_wrap=True)
    for line in _describe_proof(planned):
        console.print(escape(line), soft_wrap=True)
    if tight:
        console.print(
            "Ray places replicas itself, one after another, and may not find this placement: keep a machine to spare",
            soft_wrap=True,
        )


def _describe_proof(planned: "PlannedPlacement") -> list[str]:
    proof = planned.proof
    if proof is None:
        return []
    uses = [_count(planned.gpus, "GPU")] if planned.gpus else []
    uses += [f"{_count(planned.machines, 'machine')} without GPUs"] if planned.machines else []
    found = " and ".join(uses)
    if proof.goal == "most-throughput":
        asked = sum(service.asked_per_s for service in planned.domains)
        found = f"{proof.value:.4g} of {asked:.4g} requests per second on {found}"
    if planned.started:
        found += f", {_count(planned.started, 'replica')} to start"
    if proof.gap <= 0:
        return [f"{found}; proven: under these costs no placement is better"]
    best = "serves more" if proof.goal == "most-throughput" else "costs less"
    bound = f"{proof.bound:.4g} per second" if proof.goal == "most-throughput" else f"{proof.bound / 100:g} GPUs"
    return [f"{found}; proven: no placement {best} than {bound}, a gap of {proof.gap:.1%}"]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"

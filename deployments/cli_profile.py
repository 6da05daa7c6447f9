"""`guildhall profile`: measures the step times of an engine, for plans and simulations."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from deployments.cli_output import Json, open_stderr, open_stdout, reported_errors, write_json
from experts.errors import BadRequest
from experts.fleet import Engine, Fleet

if TYPE_CHECKING:
    # It imports numpy; the command starts without it.
    from cluster.profile_rows import ProfileRow

FleetFile = Annotated[Path, typer.Argument(metavar="FLEET", help="The fleet file.")]
EngineNames = Annotated[
    list[str] | None, typer.Argument(metavar="[ENGINE]...", help="Engines of the fleet file; default: all, in turn.")
]
Out = Annotated[
    Path, typer.Option("--out", help="The profile CSV; what it has of these engines is replaced, the rest is kept.")
]


@dataclass(frozen=True, slots=True)
class _Report:
    """What was measured of one engine; `replaced` counts the rows that it took the place of."""

    engine: str
    kv_tokens: int
    rows: "list[ProfileRow]"
    replaced: int


def profile(
    file: FleetFile, engines: EngineNames = None, out: Out = Path("profile.csv"), as_json: Json = False
) -> None:
    """Measure the prefills and decode steps of engines into a profile CSV, for `guildhall plan` and `simulate`.

    Starts each engine alone on this machine, as its replicas run, measures it and stops it. It needs the memory and
    the GPUs of one replica, and cores that nothing else uses: what else runs is measured too.
    """
    from cluster.profile_rows import check_writable, replace_rows
    from deployments.cli_progress import Progress
    from deployments.engine_profile import find_gpu_name, list_points, measure_points, start_engine, write_row
    from experts.fleet_file import load_fleet

    with reported_errors("engines that were measured are in the profile"):
        fleet = load_fleet(file)
        chosen = _choose_engines(fleet, engines or [])
        names = {name: find_gpu_name(fleet, engine) for name, engine in chosen.items()}
        check_writable(out)
        reports = []
        with Progress(open_stderr()) as progress:
            for name, engine in chosen.items():
                started, measured = f"start {name}", f"measure {name}"
                progress.start(started)
                with start_engine(engine) as running:
                    cache = running.await_ready()
                    progress.finish(started, f"{cache.tokens} tokens of KV cache")
                    points = list_points(engine, cache)
                    rows = []
                    progress.start(measured)
                    for done, values in enumerate(measure_points(running, points), start=1):
                        rows.append(write_row(engine, names[name], *values))
                        progress.update(measured, f"{done} of {len(points)} points")
                    progress.finish(measured, f"{len(points)} points")
                reports.append(_Report(name, cache.tokens, rows, replace_rows(out, rows)))
        if as_json:
            write_json({"path": str(out), "engines": [asdict(report) for report in reports]})
        else:
            _print_reports(reports, file, out)


def _print_reports(reports: list["_Report"], file: Path, out: Path) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("engine", "batch", "tokens each", "prefill ms", "decode ms"):
        table.add_column(column)
    for report in reports:
        for row in report.rows:
            prefill = "" if row.prefill_ms is None else f"{row.prefill_ms:.1f}"
            table.add_row(escape(report.engine), str(row.batch), str(row.seq_len), prefill, f"{row.decode_ms:.1f}")
    open_stdout().print(table)
    line = f"wrote {out}; plan with it: guildhall plan {file} --profile {out} --rates RATES.yaml"
    open_stdout().print(escape(line), soft_wrap=True)


def _choose_engines(fleet: Fleet, names: list[str]) -> dict[str, Engine]:
    """Engines by name; engines that would give the same rows count once."""
    for name in names:
        if name not in fleet.engines:
            known = ", ".join(fleet.engines)
            raise BadRequest(f"'{name}' is no engine of the fleet ({known}); name one of them")
    chosen: dict[str, Engine] = {}
    seen: set[tuple[str, str, int]] = set()
    for name in names or fleet.engines:
        engine = fleet.engines[name]
        if (key := (engine.model, engine.device, engine.tensor_parallel)) not in seen:
            seen.add(key)
            chosen[name] = engine
    return chosen

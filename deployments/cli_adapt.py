"""`guildhall adapt`: a base and data become an expert that a fleet serves: fine-tune, distill, quantize, evaluate.

A run that was killed goes on when the same command is given again.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from deployments.cli_output import BAD_INPUT, FAILED, Json, open_stderr, open_stdout, reported_errors, write_json
from experts.errors import BadRequest

adapt_app = typer.Typer(help="Make experts: fine-tune, distill, quantize, evaluate.", no_args_is_help=True)

Config = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="What to do, as YAML; see docs/adapting.md for the keys.")
]
Restart = Annotated[
    bool,
    typer.Option(
        "--restart", help="Begin anew: discard an unfinished run; replace a finished one once the new one is."
    ),
]
_AFTER_INTERRUPT = "the same command goes on from the last checkpoint"


@adapt_app.command()
def sft(config: Config, restart: Restart = False, as_json: Json = False) -> None:
    """Fine-tune a base on JSONL rows, with LoRA or in full. The data is checked first and the check printed.

    Nothing is published where a row is broken (exit 2) or general accuracy drops too far (exit 1).
    """
    from deployments.cli_progress import Progress
    from experts.adapt.sft import run_sft

    with reported_errors(_AFTER_INTERRUPT):
        with Progress(open_stderr()) as progress:
            report = run_sft(config, progress, restart)
        _show_trained(report.outcome, report.message, report.artifact, report.describe(), as_json)


@adapt_app.command()
def distill(config: Config, restart: Restart = False, as_json: Json = False) -> None:
    """Teach a student what its teacher knows, most in the domains where it is furthest behind."""
    from deployments.cli_progress import Progress
    from experts.adapt.distill import run_distill

    with reported_errors(_AFTER_INTERRUPT):
        with Progress(open_stderr()) as progress:
            report = run_distill(config, progress, restart)
        _show_trained(report.outcome, report.message, report.artifact, report.describe(), as_json)


@adapt_app.command()
def quantize(config: Config, restart: Restart = False, as_json: Json = False) -> None:
    """Make a smaller variant of a model, its adapter merged in, that vLLM serves."""
    from deployments.cli_progress import Progress
    from experts.adapt.quantize import run_quantize

    with reported_errors("the same command begins again"):
        with Progress(open_stderr()) as progress:
            report = run_quantize(config, progress, restart)
        _show_trained("published", report.message, report.artifact, report.describe(), as_json)


@adapt_app.command()
def evaluate(
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help="Which variant and tasks, as YAML.")] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="A B", help="Two evaluations' run folders, side by side.")
    ] = None,
    restart: Restart = False,
    as_json: Json = False,
) -> None:
    """Measure a variant: accuracy, citations, refusals, tokens per second, memory and energy; or compare two."""
    from deployments.cli_progress import Progress

    with reported_errors(_AFTER_INTERRUPT):
        if (config is None) == (compare is None):
            raise BadRequest("name either a CONFIG to evaluate or --compare with two run folders", "compare")
        report: Any
        if compare is not None:
            from experts.adapt.report import compare_runs

            report = compare_runs(*compare)
        else:
            from deployments.evaluate_variant import run_evaluate

            assert config is not None
            with Progress(open_stderr()) as progress:
                report = run_evaluate(config, progress, restart)
        if as_json:
            write_json(report.describe())
        else:
            for part in report.show():
                open_stdout().print(part)


def _show_trained(
    outcome: str, message: str, artifact: Path | None, described: Mapping[str, Any], as_json: bool
) -> None:
    """The end of a run: what was published and how to serve it, or why nothing was."""
    if as_json:
        write_json(dict(described))
    if outcome != "published":
        open_stderr().print(f"[red]✗[/] {escape(message)}", soft_wrap=True)
        raise typer.Exit(BAD_INPUT if outcome == "data refused" else FAILED)
    if as_json or artifact is None:
        return
    out = open_stdout()
    out.print(f"[green]✓[/] {escape(message)}", soft_wrap=True)
    if artifact.name == "adapter":
        out.print(
            escape(f"  serve it: a variant with `adapter: {artifact}` on an engine with its base"), soft_wrap=True
        )
    else:
        out.print(escape(f"  serve it: an engine with `model: {artifact}`"), soft_wrap=True)
    shown = [path for name in ("README.md", "curves.png") if (path := artifact.parent / name).exists()]
    out.print(escape(f"  look: {', '.join(map(str, shown))}"), soft_wrap=True)

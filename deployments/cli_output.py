"""What every command of `guildhall` writes with: JSON or text to standard output, all else to standard error."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from experts.errors import BadRequest, ConfigurationError, GuildhallError, NotServing

FAILED, BAD_INPUT, NOTHING_RUNS, INTERRUPTED = 1, 2, 3, 130
# What is piped to a file or a pager is not folded at the 80 columns that are assumed where there is no terminal.
PIPED_WIDTH = 180

Json = Annotated[bool, typer.Option("--json", help="Write JSON to standard output, everything else to standard error.")]


@contextmanager
def reported_errors(after_interrupt: str = "") -> Iterator[None]:
    """One message and an exit code for what Guildhall raises on purpose, and for Ctrl-C."""
    try:
        yield
    except GuildhallError as error:
        open_stderr().print(f"[red]✗[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(choose_exit_code(error)) from error
    except KeyboardInterrupt as interrupt:
        open_stderr().print(escape(f"\ninterrupted{f'; {after_interrupt}' if after_interrupt else ''}"), soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from interrupt


def choose_exit_code(error: GuildhallError) -> int:
    """2 where the caller or operator must change something, 3 where nothing runs, else 1."""
    if isinstance(error, NotServing):
        return NOTHING_RUNS
    return BAD_INPUT if isinstance(error, BadRequest | ConfigurationError) else FAILED


def write_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def open_stdout() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)


def open_stderr() -> Console:
    return Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else PIPED_WIDTH)

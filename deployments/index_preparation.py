"""`python -m deployments.index_preparation FLEET`: every index equal to its corpus, before the Ray of a pod starts.

It is what `guildhall up` does first; on Kubernetes nobody runs `guildhall up`.
"""

from pathlib import Path
from typing import Annotated

import typer

from deployments.cli_output import open_stderr, reported_errors
from deployments.environment import read_environment

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def prepare_indexes(file: Annotated[Path, typer.Argument(metavar="FLEET", help="The fleet file.")]) -> None:
    """Make every index of a fleet equal to its corpus; once done, that takes seconds."""
    from deployments.cli_progress import Progress
    from deployments.index_build import build_indexes
    from experts.fleet_file import load_fleet

    with reported_errors("the indexes are as they were"), Progress(open_stderr()) as progress:
        build_indexes(load_fleet(file), read_environment().data_dir, progress)


if __name__ == "__main__":
    app()

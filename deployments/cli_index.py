"""`guildhall index`: fill, change, look at and search the index of a domain, on its files, whether a fleet runs or not.

A running fleet follows what is changed here within a second.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deployments.cli_output import FAILED, Json, open_stderr, open_stdout, reported_errors, write_json
from deployments.environment import Environment, read_environment
from experts.errors import BadRequest, ConfigurationError
from experts.search_mode import SearchMode

if TYPE_CHECKING:
    from deployments.cli_progress import Progress
    from deployments.domain_index import DomainIndex, IndexChange, Reading

index_app = typer.Typer(help="Fill, change, look at and search the index of a domain.", no_args_is_help=True)

DomainName = Annotated[str, typer.Argument(metavar="DOMAIN", help="A domain of the fleet that has an index.")]
FleetOption = Annotated[
    Path | None,
    typer.Option("--fleet", metavar="FILE", help="The fleet file; default: that of the last `guildhall up`."),
]

_AFTER_INTERRUPT = "the index is as it was"


@index_app.command()
def build(domain: DomainName, fleet: FleetOption = None, as_json: Json = False) -> None:
    """Make an index equal to its corpus in the fleet file; only what changed is embedded, what was added stays.

    Embeds everything again when the fleet's encoder is another one.
    """

    def work(index: "DomainIndex", reading: "Reading", progress: "Progress", stage: str) -> "IndexChange":
        from deployments.index_build import StageProgress

        return index.build(reading, StageProgress(progress, stage))

    _change(domain, fleet, as_json, work)


@index_app.command()
def add(
    domain: DomainName,
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE…", help="Files, folders, globs in quotes, or '-' for standard input."),
    ],
    fleet: FleetOption = None,
    as_json: Json = False,
) -> None:
    """Add documents, all or none: text, Markdown, HTML, PDF, CSV, JSONL. One whose id is there is replaced whole."""

    def work(index: "DomainIndex", reading: "Reading", progress: "Progress", stage: str) -> "IndexChange":
        from deployments.index_build import StageProgress
        from retrieval.read import read_documents

        return index.add(read_documents(sources), reading, StageProgress(progress, stage))

    _change(domain, fleet, as_json, work)


@index_app.command()
def remove(
    domain: DomainName,
    documents: Annotated[list[str], typer.Argument(metavar="DOCUMENT…", help="Ids, as `search` and citations show.")],
    fleet: FleetOption = None,
    as_json: Json = False,
) -> None:
    """Remove documents that were added; those of the corpus leave with the next build after their file."""
    _change(domain, fleet, as_json, lambda index, *_: index.remove(documents))


@index_app.command()
def rollback(
    domain: DomainName,
    version: Annotated[
        str | None, typer.Argument(metavar="[VERSION]", help="One that `status` shows; default: the one before.")
    ] = None,
    fleet: FleetOption = None,
    as_json: Json = False,
) -> None:
    """Serve an older version again, without what was added after it; the next build makes a new one."""
    _change(domain, fleet, as_json, lambda index, *_: index.rollback(version))


@index_app.command()
def status(
    domain: Annotated[str | None, typer.Argument(metavar="[DOMAIN]", help="Default: every domain.")] = None,
    fleet: FleetOption = None,
    as_json: Json = False,
) -> None:
    """Show what an index holds, where it lies and which versions it keeps."""
    from deployments.cli_progress import Progress

    with reported_errors(), _open(fleet, Progress(open_stderr())) as opened:
        names = [domain] if domain is not None else opened.domains
        described = [opened.index(name).describe() for name in names]
        if as_json:
            write_json(described[0] if domain is not None else {"object": "list", "data": described})
        else:
            for index in described:
                print_index(open_stdout(), index)


@index_app.command()
def search(
    domain: DomainName,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What an expert would look up; '-' reads it.")],
    passages: Annotated[int | None, typer.Option(min=1, max=1000, help="Passages to show.")] = None,
    by: Annotated[SearchMode | None, typer.Option(help="Default: as the fleet file says.")] = None,
    where: Annotated[
        str | None, typer.Option("--filter", metavar="JSON", help='On metadata: \'{"year": {"gte": 2020}}\'.')
    ] = None,
    fleet: FleetOption = None,
    as_json: Json = False,
) -> None:
    """Search an index and show document, position, score and text of what it finds, and the version searched."""
    from deployments.cli_progress import Progress
    from retrieval.filters import parse_filter

    with reported_errors():
        text = (sys.stdin.read() if question == "-" else question).strip()
        if not text:
            raise BadRequest("the question is empty; write it as an argument, or '-' and send it to standard input")
        chosen = parse_filter(_read_filter(where))
        with Progress(open_stderr()) as progress, _open(fleet, progress) as opened, progress.stage(domain):
            found = opened.index(domain).search(text, passages, by, chosen)
        if as_json:
            write_json(found)
        else:
            print_found(open_stdout(), found)


class _Opened:
    """The indexes of one fleet, opened by name."""

    def __init__(self, fleet_file: Path, environment: Environment, progress: "Progress") -> None:
        from deployments.index_build import BuildEncoder
        from experts.fleet_file import load_fleet

        self._fleet = load_fleet(fleet_file)
        self._data_dir = environment.data_dir
        self.encoder = BuildEncoder(self._fleet.router.encoder, progress, "")

    @property
    def domains(self) -> list[str]:
        return [name for name, domain in self._fleet.domains.items() if domain.index is not None]

    def index(self, domain: str) -> "DomainIndex":
        from deployments.index_build import open_domain_index

        self.encoder.stage = domain
        return open_domain_index(self._fleet, domain, self._data_dir, self.encoder)


@contextmanager
def _open(fleet: Path | None, progress: "Progress") -> Iterator[_Opened]:
    environment = read_environment()
    yield _Opened(fleet if fleet is not None else _find_fleet_file(environment), environment, progress)


def _find_fleet_file(environment: Environment) -> Path:
    from deployments.up import FLEET_FILE

    try:
        return Path((environment.data_dir / FLEET_FILE).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"no fleet was brought up with {environment.data_dir} yet; name a fleet file with --fleet, for example "
            "--fleet cluster/fleets/pocket.yaml"
        ) from error


def _change(
    domain: str,
    fleet: Path | None,
    as_json: bool,
    work: "Callable[[DomainIndex, Reading, Progress, str], IndexChange]",
) -> None:
    """Change an index, compact it where that is due, and say what was done.

    Exit code 1 when documents were to be read and none could be, or none of the ids named is there.
    """
    from deployments.cli_progress import Progress
    from deployments.domain_index import Reading
    from deployments.index_build import describe_change, say_unreadable

    with reported_errors(_AFTER_INTERRUPT):
        began = time.monotonic()
        with Progress(open_stderr()) as progress, _open(fleet, progress) as opened:
            with progress.stage(domain):
                index = opened.index(domain)
                reading = Reading(on_unreadable=lambda document: say_unreadable(progress, document))
                change = work(index, reading, progress, domain)
                progress.update(domain, describe_change(change))
            if change.changed:
                compacted = index.compact_if_due()
                if compacted is not None:
                    progress.say(f"compacted into version {compacted.version}")
        if as_json:
            write_json(change.describe() | {"seconds": round(time.monotonic() - began, 3)})
        else:
            open_stdout().print(f"{domain}: {escape(describe_change(change))}", soft_wrap=True)
        if (reading.asked and not reading.read) or (change.missing and not change.removed):
            raise typer.Exit(FAILED)


def _read_filter(where: str | None) -> Any:
    if where is None:
        return None
    try:
        return json.loads(where)
    except ValueError as error:
        raise BadRequest(f"--filter is not JSON: {error}; write it as '{{\"year\": 2024}}'") from error


def print_index(console: Console, index: Mapping[str, Any]) -> None:
    """What an index is, and the versions that it keeps."""
    console.print(f"[bold]{escape(index['domain'])}[/]  {escape(index['location'])}", soft_wrap=True)
    if index.get("version"):
        console.print(
            f"  version {index['version']}: {index['documents']} documents, {index['passages']} passages, of them "
            f"{index['delta_passages']} added since the last version was built",
            soft_wrap=True,
        )
    if index["problem"]:
        console.print(f"  [red]✗[/] {escape(index['problem'])}", soft_wrap=True)
    versions: Sequence[Mapping[str, Any]] = index.get("versions", ())
    if versions:
        table = Table(box=None, padding=(0, 2, 0, 2), header_style="dim")
        for column in ("version", "built", "documents", "passages", "because"):
            table.add_column(column, overflow="fold")
        for record in versions:
            mark = "  [green]current[/]" if record["is_current"] else ""
            counts = (str(record["documents"]), str(record["passages"]))
            table.add_row(f"{record['name']}{mark}", str(record["created"]), *counts, escape(str(record["reason"])))
        console.print(table)


def print_found(console: Console, found: Mapping[str, Any]) -> None:
    """Passages as a reader of citations looks for them: where they stand, then what they say."""
    console.print(f"{escape(found['domain'])}, version {found['version']}", soft_wrap=True)
    for number, hit in enumerate(found["data"], start=1):
        where = f"{escape(hit['document'])}, passage {hit['position']}"
        console.print(
            f"\\[{number}] {escape(hit['title'])}  [dim]{escape(hit['source'])}  {where}  score {hit['score']:.4f}[/]",
            soft_wrap=True,
        )
        for line in hit["text"].splitlines():
            console.print(f"    {escape(line)}", soft_wrap=True)
    if not found["data"]:
        console.print("nothing found", soft_wrap=True)

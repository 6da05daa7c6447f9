"""`guildhall router`: train the router on labelled questions and feedback, measure it, set its thresholds, roll back.

A running fleet whose file names the artifact's folder serves a new one within seconds, without losing a request.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deployments.cli_output import Json, open_stderr, open_stdout, reported_errors, write_json
from deployments.environment import read_environment
from experts.errors import BadRequest

if TYPE_CHECKING:
    from deployments.cli_progress import Progress
    from deployments.fleet_encoder import FleetEncoder
    from experts.fleet import Fleet
    from router.quality_training import JudgedAnswer
    from router.training import Embedding, LabelledText

router_app = typer.Typer(help="Train the router, measure it, set its thresholds, roll back.", no_args_is_help=True)

FleetFile = Annotated[Path, typer.Argument(metavar="FLEET", help="The fleet file.")]
Data = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help='Labelled questions, one {"text": …, "domain": …} per line; "oos" for what no domain owns. Repeatable.',
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option("--out", metavar="FOLDER", help="Where artifacts are; default: router.artifact of the fleet file."),
]
_TARGET_ERROR = typer.Option(min=0, max=1, help="Errors, as a share of questions, that tier 1 may add to tier 2's.")

_AFTER_INTERRUPT = "no artifact was written"
_FIGURES = {
    "rows": "rows",
    "tier_1_accuracy": "tier 1 right",
    "tier_2_accuracy": "tier 2 right",
    "tiered_accuracy": "both tiers right",
    "settled_by_tier_1": "settled by tier 1",
    "tier_1_calibration_error": "tier 1 calibration error",
    "tier_2_calibration_error": "tier 2 calibration error",
    "out_of_scope_rows": "out-of-scope rows",
    "out_of_scope_auroc": "out-of-scope AUROC",
    "out_of_scope_found": "out of scope, found",
}


@router_app.command()
def train(
    file: FleetFile,
    data: Data = None,
    feedback: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="What /v1/feedback stored: GUILDHALL_DATA_DIR/feedback."),
    ] = None,
    answers: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help='Judged answers, one {"text": …, "variant": "domain/variant", "correct": true} per line, from which '
            "variants are chosen. Repeatable.",
        ),
    ] = None,
    out: Folder = None,
    target_error: Annotated[float | None, _TARGET_ERROR] = None,
    as_json: Json = False,
) -> None:
    """Train on the fleet file's descriptions and examples, labelled questions and feedback; writes a new artifact.

    What it says of the result is cross-validated. Nothing is trained where a line of --data is wrong.
    """
    from router.artifact import save_router_artifact, train_router
    from router.tiers import DEFAULT_TARGET_ERROR

    with reported_errors(_AFTER_INTERRUPT), _open(file, out) as opened:
        with opened.progress.stage("train"):
            labelled = (*opened.read_feedback(feedback), *opened.read_data(data))
            judged = opened.read_answers(answers)
            encoder, embed, static = opened.load_encoder()
            artifact = train_router(
                opened.fleet,
                labelled,
                embed,
                static,
                encoder.fingerprint,
                _now(),
                DEFAULT_TARGET_ERROR if target_error is None else target_error,
                lambda step: opened.progress.update("train", step),
                judged,
            )
            saved = save_router_artifact(artifact, opened.folder)
            opened.progress.update("train", f"{len(saved.trained.rows.texts)} rows")
        _show(saved.describe(), opened.folder, as_json)


@router_app.command()
def evaluate(file: FleetFile, data: Data = None, out: Folder = None, as_json: Json = False) -> None:
    """Measure the artifact that serves, on labelled questions that it was not trained on."""
    from router.artifact import load_router_artifact
    from router.evaluation import Rules, evaluate_router
    from router.training import embed_rows

    with reported_errors(), _open(file, out) as opened:
        with opened.progress.stage("evaluate"):
            labelled = opened.read_data(data)
            if not labelled:
                raise BadRequest("nothing to evaluate on; name a file of labelled questions with --data", "data")
            encoder, embed, static = opened.load_encoder()
            artifact = load_router_artifact(opened.folder, encoder.fingerprint, opened.fleet)
            known = set(artifact.trained.rows.texts)
            unseen = tuple(said for said in labelled if said.text not in known)
            if not unseen:
                raise BadRequest(
                    f"all {len(labelled)} questions of --data were trained on; name a file of others", "data"
                )
            rows = embed_rows(
                unseen,
                artifact.labels,
                embed,
                static,
                lambda step: opened.progress.update("evaluate", step),
            )
            router = opened.fleet.router
            rules = Rules(opened.fleet.generalist, router.confidence_floor, tuple(router.refusals))
            figures = evaluate_router(artifact.trained, rows, rules)
        figures = {"artifact": artifact.number, "trained_on": len(labelled) - len(unseen), **figures}
        if as_json:
            write_json(figures)
        else:
            _print_figures(open_stdout(), figures)
            for confused in figures["confused"]:
                line = f"  {confused['rows']} of {confused['wanted']} went to {confused['routed']}"
                open_stdout().print(escape(line), soft_wrap=True)


@router_app.command()
def calibrate(
    file: FleetFile, target_error: Annotated[float, _TARGET_ERROR], out: Folder = None, as_json: Json = False
) -> None:
    """Choose the thresholds anew for a target error, without training; writes a new artifact with the same heads."""
    from retrieval.encoder import observe_encoder_fingerprint
    from router.artifact import load_router_artifact, recalibrate_router, save_router_artifact

    with reported_errors(_AFTER_INTERRUPT), _open(file, out) as opened:
        fingerprint = observe_encoder_fingerprint(opened.fleet.router.encoder)
        artifact = load_router_artifact(opened.folder, fingerprint, opened.fleet)
        saved = save_router_artifact(recalibrate_router(artifact, target_error, _now()), opened.folder)
        _show(saved.describe(), opened.folder, as_json)


@router_app.command()
def rollback(
    file: FleetFile,
    number: Annotated[int | None, typer.Argument(help="The artifact to serve again; default: the one before.")] = None,
    out: Folder = None,
    as_json: Json = False,
) -> None:
    """Serve an older artifact again: it is written under the next number, so that nothing is lost."""
    from router.artifact import roll_back

    with reported_errors(_AFTER_INTERRUPT), _open(file, out) as opened:
        published = roll_back(opened.folder, number)
        if as_json:
            write_json({"artifact": published, "folder": str(opened.folder)})
        else:
            open_stdout().print(f"artifact {published} in {escape(str(opened.folder))} serves next", soft_wrap=True)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A fleet and the folder of its artifacts."""

    fleet: "Fleet"
    folder: Path
    progress: "Progress"

    def load_encoder(self) -> "tuple[FleetEncoder, Embedding, Embedding | None]":
        """The encoder that serves, so that the router learns from the vectors it will see."""
        from deployments.fleet_encoder import load_fleet_encoder
        from deployments.router_loading import build_embeddings

        encoder = load_fleet_encoder(self.fleet.router.encoder, read_environment().data_dir)
        return encoder, *build_embeddings(encoder)

    def read_data(self, paths: list[Path] | None) -> "tuple[LabelledText, ...]":
        from router.labels import read_labels
        from router.training import list_labels

        labels = list_labels(self.fleet)
        return tuple(row for path in paths or () for row in read_labels(path, labels))

    def read_answers(self, paths: list[Path] | None) -> "tuple[JudgedAnswer, ...]":
        from router.labels import read_answers
        from router.quality import name_variant

        domains = self.fleet.domains.items()
        known = [name_variant(name, variant) for name, domain in domains for variant in domain.variants]
        return tuple(row for path in paths or () for row in read_answers(path, known))

    def read_feedback(self, folder: Path | None) -> "tuple[LabelledText, ...]":
        """Corrections, and what was rated well; of domains that the fleet no longer has, nothing."""
        from deployments.feedback import read_feedback
        from router.training import LabelledText, list_labels

        if folder is None:
            return ()
        if not folder.is_dir():
            raise BadRequest(f"--feedback {folder} is not a folder; it is GUILDHALL_DATA_DIR/feedback", "feedback")
        labels = list_labels(self.fleet)
        given = [
            LabelledText(text, domain)
            for row in read_feedback(folder, self.progress.say)
            for text, domain in row.labels()
        ]
        kept = tuple(said for said in given if said.label in labels and said.text.strip())
        if len(kept) < len(given):
            self.progress.say(f"{len(given) - len(kept)} labels of feedback name domains that the fleet no longer has")
        return kept


@contextmanager
def _open(file: Path, out: Path | None) -> Iterator[_Opened]:
    from deployments.cli_progress import Progress
    from experts.fleet_file import load_fleet

    fleet = load_fleet(file)
    if out is None and fleet.router.artifact is None:
        raise BadRequest(f"no folder for artifacts; name one with --out, or set router.artifact in {file}", "out")
    folder = out if out is not None else file.absolute().parent / str(fleet.router.artifact)
    with Progress(open_stderr()) as progress:
        yield _Opened(fleet, folder, progress)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _show(artifact: Mapping[str, Any], folder: Path, as_json: bool) -> None:
    if as_json:
        write_json({"folder": str(folder), **artifact})
        return
    out = open_stdout()
    out.print(f"artifact {artifact['number']} in {escape(str(folder))}, cross-validated:", soft_wrap=True)
    _print_figures(out, artifact["metrics"])
    if artifact["thresholds"]["confidence"] is None:
        target = artifact["thresholds"]["target_error"]
        out.print(
            f"  tier 1 settles nothing: {artifact['metrics']['rows']} rows are too few to show that it adds at most "
            f"{target:.1%} errors; more labelled questions change that",
            soft_wrap=True,
        )


def _print_figures(console: Console, figures: Mapping[str, Any]) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    for name, said in _FIGURES.items():
        if name in figures:
            value = figures[name]
            table.add_row(said, f"{value}" if isinstance(value, int) else f"{value:.4f}")
    console.print(table)

"""A trained router on disk: numbered folders, each written whole and then never changed.

    OUT/0003/manifest.json      what it is: labels, encoder, rows, metrics, thresholds, checksums of the other files
    OUT/0003/heads.safetensors  what decides
    OUT/0003/rows.safetensors   vectors of the rows that it learned from, and what was predicted for each
    OUT/0003/rows.jsonl         their texts, in the same order

A fleet file names OUT, and the highest number whose files are what its manifest says serves. So a folder that was
damaged leaves the one before it in service, and `roll_back` publishes an older one again under the next number.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

from experts.errors import ConfigurationError, EncoderMismatch
from experts.fleet import Fleet
from router.artifact_tensors import read_trained, render_heads, render_rows
from router.evaluation import describe_calibration
from router.quality import QualityModel, name_variant
from router.quality_training import JudgedAnswer, QualityRow, train_quality
from router.tiers import choose_thresholds
from router.training import (
    OUT_OF_SCOPE_LABEL,
    Embedding,
    LabelledText,
    OnProgress,
    TrainedRouter,
    add_domains,
    embed_batches,
    embed_rows,
    fingerprint_rows,
    list_labels,
    read_fleet_texts,
    train_rows,
)

# A change of the files, of the n-grams' hashes or of what their figures mean is a new number.
FORMAT = 1
MANIFEST_FILE = "manifest.json"
HEADS_FILE = "heads.safetensors"
ROWS_FILE = "rows.safetensors"
TEXTS_FILE = "rows.jsonl"

_NUMBER = re.compile(r"\d{4,}")


@dataclass(frozen=True, slots=True)
class RouterArtifact:
    """A trained router and what is known of it; `number` is None where it was never written.

    `skipped` says which folders with higher numbers could not be used, and why.
    """

    trained: TrainedRouter
    encoder_fingerprint: str
    data_fingerprint: str
    created: str
    quality: QualityModel | None = None
    number: int | None = None
    skipped: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Domains and refusals."""
        return self.trained.head.labels

    def describe(self) -> dict[str, Any]:
        """Everything but arrays, as JSON can carry it."""
        targets = self.trained.rows.targets
        counts = {label: int((targets == at).sum()) for at, label in enumerate(self.labels)}
        return {
            "number": self.number,
            "encoder": self.encoder_fingerprint,
            "data": self.data_fingerprint,
            "created": self.created,
            "labels": list(self.labels),
            "rows": {**counts, OUT_OF_SCOPE_LABEL: int((targets < 0).sum())},
            "quality_variants": list(self.quality.variants) if self.quality is not None else [],
            "thresholds": asdict(self.trained.thresholds),
            "metrics": self.trained.metrics,
        }


def train_router(
    fleet: Fleet,
    labelled: tuple[LabelledText, ...],
    encode: Embedding,
    static: Embedding | None,
    encoder_fingerprint: str,
    created: str,
    target_error: float,
    on_progress: OnProgress = lambda _: None,
    answers: tuple[JudgedAnswer, ...] = (),
) -> RouterArtifact:
    """A router for a fleet: labelled texts, and its own descriptions and examples, which win where both say something.

    From judged `answers` it also learns which variant answers what right.

    Raises ConfigurationError where a label is none of the fleet's.
    """
    labels = list_labels(fleet)
    texts = (*labelled, *read_fleet_texts(fleet))
    rows = embed_rows(texts, labels, encode, static, on_progress)
    trained = train_rows(labels, rows, target_error, on_progress)
    quality = _train_quality(fleet, answers, encode) if answers else None
    return RouterArtifact(trained, encoder_fingerprint, fingerprint_rows(texts), created, quality)


def _train_quality(fleet: Fleet, answers: tuple[JudgedAnswer, ...], encode: Embedding) -> QualityModel:
    texts = tuple(dict.fromkeys(answer.text for answer in answers))
    vectors = dict(zip(texts, embed_batches(texts, encode), strict=True))
    rows = [QualityRow(answer.text, vectors[answer.text], answer.variant, answer.correct) for answer in answers]
    accuracies = {
        name_variant(domain, variant): settings.accuracy
        for domain, part in fleet.domains.items()
        for variant, settings in part.variants.items()
        if settings.accuracy is not None
    }
    return train_quality(rows, accuracies)


def adapt_router(artifact: RouterArtifact, fleet: Fleet, encode: Embedding, static: Embedding | None) -> RouterArtifact:
    """The artifact for a fleet whose domains have changed since: what left is dropped, what came is learned.

    The same artifact where they have not. A change of examples alone is for `guildhall router train`.
    """
    labels = list_labels(fleet)
    if labels == artifact.labels:
        return artifact
    new = [said for said in read_fleet_texts(fleet) if said.label not in artifact.labels]
    rows = embed_rows(new, labels, encode, static) if new else artifact.trained.rows.take([])
    return replace(artifact, trained=add_domains(artifact.trained, labels, rows), number=None)


def recalibrate_router(artifact: RouterArtifact, target_error: float, created: str) -> RouterArtifact:
    """The same heads with thresholds for another target error."""
    calibration = artifact.trained.calibration
    thresholds = choose_thresholds(calibration, target_error)
    metrics = describe_calibration(calibration, thresholds)
    trained = replace(artifact.trained, thresholds=thresholds, metrics=metrics)
    return replace(artifact, trained=trained, created=created, number=None)


def save_router_artifact(artifact: RouterArtifact, out: Path) -> RouterArtifact:
    """Write it as the next number under `out`, whole or not at all; gives it with its number.

    Raises ConfigurationError where nothing can be written there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=out))
        try:
            scratch.chmod(0o755)
            quality = artifact.quality.to_arrays() if artifact.quality is not None else {}
            save_file({**render_heads(artifact.trained), **quality}, scratch / HEADS_FILE)
            save_file(render_rows(artifact.trained), scratch / ROWS_FILE)
            lines = [json.dumps(text, ensure_ascii=False) for text in artifact.trained.rows.texts]
            (scratch / TEXTS_FILE).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
            return _publish(artifact, scratch, out)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise ConfigurationError(
            f"the router artifact cannot be written to {out}: {error.strerror}; free space there or name another "
            f"folder; what was there before is unchanged"
        ) from error


def load_router_artifact(path: Path, encoder_fingerprint: str, fleet: Fleet) -> RouterArtifact:
    """The artifact of a folder: of the highest number in it that is sound, or the numbered folder itself.

    Raises ConfigurationError where there is none, or none with a domain of the fleet, EncoderMismatch where another
    encoder made its vectors. Domains that differ are for `adapt_router`.
    """
    skipped: list[str] = []
    for folder in _list_folders(path):
        try:
            artifact = replace(_read(folder), skipped=tuple(skipped))
        except _Damaged as damage:
            skipped.append(f"{folder}: {damage}")
            continue
        _check_fits(artifact, folder, encoder_fingerprint, fleet)
        return artifact
    seen = "; ".join(skipped) if skipped else "it holds no numbered folder with a manifest.json"
    raise ConfigurationError(
        f"{path} has no router artifact that can be used ({seen}); run `guildhall router train FLEET --out {path}`, or "
        f"remove router.artifact from the fleet file to train on its examples"
    )


def roll_back(out: Path, number: int | None = None) -> int:
    """Publish an older artifact again, the one before the newest unless a number is given; returns its new number.

    Raises ConfigurationError where there is no such artifact, or it is damaged.
    """
    folders = {int(folder.name): folder for folder in _list_folders(out) if _NUMBER.fullmatch(folder.name)}
    numbers = sorted(folders)
    wanted = number if number is not None else numbers[-2] if len(numbers) > 1 else None
    if wanted not in folders:
        asked = f"no number {number}" if number is not None else "nothing before its newest"
        raise ConfigurationError(
            f"{out} has {asked}; it has {', '.join(map(str, numbers)) or 'no artifact'}; name one of them"
        )
    try:
        artifact = _read(folders[wanted])
    except _Damaged as damage:
        raise ConfigurationError(f"{folders[wanted]} cannot be served again: {damage}; name another number") from damage
    saved = save_router_artifact(artifact, out)
    assert saved.number is not None
    return saved.number


class _Damaged(Exception):
    """What is wrong with a folder."""


def _list_folders(path: Path) -> list[Path]:
    if (path / MANIFEST_FILE).is_file():
        return [path]
    try:
        found = [entry for entry in path.iterdir() if _NUMBER.fullmatch(entry.name)]
    except OSError:
        return []
    return sorted(found, key=lambda folder: int(folder.name), reverse=True)


def _publish(artifact: RouterArtifact, scratch: Path, out: Path) -> RouterArtifact:
    checksums = {name: _checksum(scratch / name) for name in (HEADS_FILE, ROWS_FILE, TEXTS_FILE)}
    while True:
        taken = _list_folders(out)
        number = int(taken[0].name) + 1 if taken else 1
        numbered = replace(artifact, number=number, skipped=())
        manifest = {"format": FORMAT, **numbered.describe(), "tables": _describe_tables(artifact), "files": checksums}
        (scratch / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", "utf-8")
        for entry in (*scratch.iterdir(), scratch):
            _flush(entry)
        try:
            scratch.rename(out / f"{number:04d}")
        except OSError:
            if not (out / f"{number:04d}").exists():
                raise
            continue  # Another process took the number in between.
        _flush(out)
        return numbered


def _describe_tables(artifact: RouterArtifact) -> dict[str, Any]:
    trained = artifact.trained
    return {
        "full": asdict(trained.head.full),
        "fast": asdict(trained.head.fast) if trained.head.fast is not None else None,
        "gate": asdict(trained.gate) if trained.gate is not None else None,
        "strengths": asdict(trained.strengths),
        "nearest": list(trained.stack.names),
    }


def _read(folder: Path) -> RouterArtifact:
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise _Damaged(f"it has format {manifest['format']}, this Guildhall reads {FORMAT}")
        for name in (HEADS_FILE, ROWS_FILE, TEXTS_FILE):
            if _checksum(folder / name) != manifest["files"][name]:
                raise _Damaged(f"{name} is not what was written")
        # Not splitlines: a text may hold one of the other line separators of Unicode.
        lines = (folder / TEXTS_FILE).read_text("utf-8").split("\n")
        texts = tuple(json.loads(line) for line in lines if line)
        heads, rows = load_file(folder / HEADS_FILE), load_file(folder / ROWS_FILE)
        trained = read_trained(manifest, heads, rows, texts)
        variants = manifest["quality_variants"]
        quality = QualityModel.from_arrays(heads, variants) if variants else None
        number = int(manifest["number"])
        return RouterArtifact(trained, manifest["encoder"], manifest["data"], manifest["created"], quality, number)
    except OSError as error:
        raise _Damaged(f"{Path(str(error.filename)).name} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise _Damaged(f"its manifest is not one ({type(error).__name__}: {error})") from error


def _check_fits(artifact: RouterArtifact, folder: Path, encoder_fingerprint: str, fleet: Fleet) -> None:
    if artifact.encoder_fingerprint != encoder_fingerprint:
        raise EncoderMismatch(
            f"the router artifact {folder} was trained with encoder {artifact.encoder_fingerprint}, the fleet file "
            f"asks for {encoder_fingerprint}; run `guildhall router train` again, or set router.encoder back"
        )
    if not set(artifact.labels) & set(fleet.domains):
        raise ConfigurationError(
            f"the router artifact {folder} knows {', '.join(artifact.labels[:10])}, and no domain of fleet "
            f"'{fleet.name}'; run `guildhall router train` for this fleet, or correct router.artifact"
        )


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """To the disk, before the name that makes it visible."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

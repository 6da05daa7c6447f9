"""The encoder for questions, for real: made of the shipped weights, kept, checked, and near to float32."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from experts.errors import ConfigurationError, EncoderMismatch
from retrieval import encoder as encoder_module
from retrieval.encoder import SHIPPED_ENCODER, Encoder, load_encoder, observe_encoder_fingerprint
from retrieval.question_encoder import ENCODERS_FOLDER, GRAPH_FILE, MAX_WINDOWS, QuestionEncoder, load_question_encoder

QUESTIONS = (
    "What is the interest rate on my savings account?",
    "How do I sort a list of tuples by the second item, and why is the sort stable?",
    "wht is teh captial of france",
    "Does vitamin D supplementation lower the risk of fractures in older adults?",
    "Was ist eine Anleihe?",
    "def f(x):\n    return x + 1  # what does this do",
)
VOCABULARY = 60
FRESH_PROCESS = """
import sys
from pathlib import Path
from retrieval.question_encoder import load_question_encoder
encoder = load_question_encoder(sys.argv[1], Path(sys.argv[2]), lambda line: None)
print(encoder.encode_texts(["word5"]).vectors.tobytes().hex())
print(sorted({"torch", "transformers", "sentence_transformers", "onnx"} & set(sys.modules)))
"""


def ignore(_: str) -> None:
    """What is reported is not what a test looks at."""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def shipped(data_dir: Path) -> QuestionEncoder:
    return load_question_encoder(SHIPPED_ENCODER, data_dir, ignore)


@pytest.fixture(scope="module")
def float32() -> Encoder:
    return load_encoder(SHIPPED_ENCODER)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A BERT of two layers and sixty words, so that making its files takes no time."""
    folder = tmp_path / "small"
    (folder / "1_Pooling").mkdir(parents=True)
    settings = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": 16,
        "intermediate_size": 32,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 32,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "type_vocab_size": 2,
        "vocab_size": VOCABULARY,
    }
    write(folder / "config.json", settings)
    write(
        folder / "modules.json",
        [
            {"idx": 0, "name": "0", "type": "sentence_transformers.models.Transformer", "path": ""},
            {"idx": 1, "name": "1", "type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
        ],
    )
    write(folder / "1_Pooling/config.json", {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True})
    write(folder / "sentence_bert_config.json", {"max_seq_length": 12})
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"word{number}" for number in range(VOCABULARY - 4))]
    write_tokenizer(folder / "tokenizer.json", words)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    write(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "model_max_length": 12})
    rng = np.random.default_rng(0)
    shapes = {
        "embeddings.word_embeddings.weight": (VOCABULARY, 16),
        "embeddings.position_embeddings.weight": (32, 16),
        "embeddings.token_type_embeddings.weight": (2, 16),
        "embeddings.LayerNorm.weight": (16,),
        "embeddings.LayerNorm.bias": (16,),
    }
    for layer in range(2):
        at = f"encoder.layer.{layer}"
        for part, (rows, columns) in {
            **{f"attention.self.{name}": (16, 16) for name in ("query", "key", "value")},
            "attention.output.dense": (16, 16),
            "intermediate.dense": (32, 16),
            "output.dense": (16, 32),
        }.items():
            shapes |= {f"{at}.{part}.weight": (rows, columns), f"{at}.{part}.bias": (rows,)}
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{at}.{part}.weight": (16,), f"{at}.{part}.bias": (16,)}
    save_file(
        {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()},
        folder / "model.safetensors",
    )
    return folder


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def write_tokenizer(path: Path, words: list[str]) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(words[:4])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(path))


def kept_folder(data_dir: Path) -> Path:
    (folder,) = (path for path in (data_dir / ENCODERS_FOLDER).iterdir() if not path.name.startswith("."))
    return folder


def run_fresh(name: str, data_dir: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", FRESH_PROCESS, name, str(data_dir)],
        cwd=Path(__file__).parents[2],
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_vectors_are_near_those_of_float32(shipped: QuestionEncoder, float32: Encoder) -> None:
    cosines = (shipped.encode_texts(QUESTIONS).vectors * float32.encode(QUESTIONS)).sum(axis=1)
    assert cosines.min() > 0.97
    assert cosines.mean() > 0.985


def test_it_is_the_same_encoder_to_an_index(shipped: QuestionEncoder, float32: Encoder) -> None:
    assert (shipped.fingerprint, shipped.dimensions) == (float32.fingerprint, float32.dimensions)


def test_vectors_are_float32_rows_of_length_one_and_no_texts_give_none(shipped: QuestionEncoder) -> None:
    encoded = shipped.encode_texts([*QUESTIONS, ""])
    assert encoded.vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(encoded.vectors, axis=1), 1, atol=1e-5)
    assert shipped.encode_texts([]).vectors.shape == (0, 384)


def test_states_and_offsets_are_one_per_token_of_the_text(shipped: QuestionEncoder) -> None:
    text = "Où est — compounding?"
    encoded = shipped.encode_texts([text, ""])
    pieces = [text[start:end] for start, end in encoded.offsets[0]]
    assert pieces == ["Où", "est", "—", "compound", "ing", "?"]
    assert encoded.states[0].shape == (6, 384)
    assert (encoded.states[1].shape, encoded.offsets[1].shape) == ((0, 384), (0, 2))


def test_a_text_has_the_same_vector_whatever_stands_beside_it(shipped: QuestionEncoder) -> None:
    together = shipped.encode_texts(QUESTIONS).vectors
    assert all(
        np.array_equal(vector, shipped.encode_texts([text]).vectors[0])
        for text, vector in zip(QUESTIONS, together, strict=True)
    )


def test_threads_that_encode_at_once_get_what_they_would_get_alone(shipped: QuestionEncoder) -> None:
    alone = [shipped.encode_texts([text]).vectors for text in QUESTIONS * 4]
    with ThreadPoolExecutor(6) as threads:
        together = list(threads.map(lambda text: shipped.encode_texts([text]).vectors, QUESTIONS * 4))
    assert np.array_equal(alone, together)


def test_a_question_over_the_window_is_seen_whole(shipped: QuestionEncoder) -> None:
    context = "The committee met on Tuesday and spoke about the garden. " * 30
    asked = "How do I sort a list in Python?"
    wanted = shipped.encode_texts([asked]).vectors[0]
    encoded = shipped.encode_texts([context, context + asked])
    assert encoded.vectors[1] @ wanted > encoded.vectors[0] @ wanted + 0.03
    start, end = encoded.offsets[1][-2]
    assert (context + asked)[start:end] == "Python"


@pytest.mark.parametrize("text", ["word " * 100_000, "価格" * 50_000, "a" * 300_000, "\x00\u200b" * 20_000])
def test_a_question_of_any_length_has_a_bounded_number_of_states_and_its_end(
    shipped: QuestionEncoder, text: str
) -> None:
    encoded = shipped.encode_texts([text])
    assert len(encoded.states[0]) == len(encoded.offsets[0]) <= MAX_WINDOWS * 254
    assert np.isfinite(encoded.vectors).all()
    if len(encoded.offsets[0]):
        assert encoded.offsets[0].max() >= len(text.rstrip()) - 2


def test_half_a_surrogate_pair_is_one_character_that_says_nothing(shipped: QuestionEncoder) -> None:
    encoded = shipped.encode_texts(["a \ud800 bond"])
    assert encoded.offsets[0].tolist() == [[0, 1], [2, 3], [4, 8]]


def test_the_files_are_made_once_and_tell_of_it(small: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    first = load_question_encoder(str(small), tmp_path / "data", lines.append)
    assert lines[0].startswith("making the question encoder of")
    told = len(lines)
    second = load_question_encoder(str(small), tmp_path / "data", lines.append)
    assert len(lines) == told
    assert np.array_equal(first.encode_texts(["word1 word2"]).vectors, second.encode_texts(["word1 word2"]).vectors)


@pytest.mark.parametrize("mode", ["pooling_mode_mean_tokens", "pooling_mode_cls_token"])
def test_pooling_is_that_of_the_model(small: Path, tmp_path: Path, mode: str) -> None:
    write(small / "1_Pooling/config.json", {"word_embedding_dimension": 16, mode: True})
    texts = ["word1", "word9 word3 word20", "word5 word6 word7 word8"]
    vectors = load_question_encoder(str(small), tmp_path, ignore).encode_texts(texts).vectors
    assert (vectors * load_encoder(str(small)).encode(texts)).sum(axis=1).min() > 0.99


def test_a_damaged_file_is_made_again(small: Path, tmp_path: Path) -> None:
    vectors = load_question_encoder(str(small), tmp_path, ignore).encode_texts(["word1"]).vectors
    for damage in (flip_byte, Path.unlink, lambda path: path.write_bytes(b"")):
        damage(kept_folder(tmp_path) / GRAPH_FILE)
        lines: list[str] = []
        mended = load_question_encoder(str(small), tmp_path, lines.append)
        assert lines
        assert np.array_equal(mended.encode_texts(["word1"]).vectors, vectors)
        load_question_encoder(str(small), tmp_path, pytest.fail)


def flip_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_processes_that_make_the_files_at_once_agree_and_need_no_torch(small: Path, tmp_path: Path) -> None:
    running = [run_fresh(str(small), tmp_path / "data") for _ in range(3)]
    answers = [process.communicate(timeout=120) for process in running]
    assert len({out.splitlines()[0] for out, _ in answers}) == 1, answers
    assert kept_folder(tmp_path / "data").is_dir()
    out, errors = run_fresh(str(small), tmp_path / "data").communicate(timeout=120)
    assert out.splitlines()[1] == "[]", errors
    assert out.splitlines()[0] == answers[0][0].splitlines()[0]


def test_weights_that_are_not_the_published_ones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: Path
) -> None:
    package = tmp_path / "other_weights"
    shutil.copytree(small, package / "model")
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(encoder_module, "SHIPPED_MODULE", "other_weights")
    with pytest.raises(EncoderMismatch):
        load_question_encoder(SHIPPED_ENCODER, tmp_path, ignore)


def change_architecture(folder: Path) -> None:
    write(folder / "config.json", json.loads((folder / "config.json").read_text()) | {"model_type": "mpnet"})


def change_pooling(folder: Path) -> None:
    write(folder / "1_Pooling/config.json", {"pooling_mode_max_tokens": True})


def add_dense(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    write(folder / "modules.json", [*modules, {"type": "sentence_transformers.models.Dense", "path": "2_Dense"}])


def add_prompt(folder: Path) -> None:
    write(folder / "config_sentence_transformers.json", {"prompts": {"q": "ask: "}, "default_prompt_name": "q"})


def drop_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.bias"]
    save_file(weights, folder / "model.safetensors")


def drop_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (change_architecture, "is a 'mpnet'.*set router.encoder"),
        (change_pooling, r"pooling \['max_tokens'\].*set router.encoder"),
        (add_dense, "Dense.*set router.encoder"),
        (add_prompt, "default prompt q.*set router.encoder"),
        (drop_weight, r"no weight 'encoder\.layer\.1\.output\.dense\.bias'"),
        (drop_tokenizer, "tokenizer.json does not load"),
    ],
)
def test_an_encoder_of_another_kind_is_refused_with_what_to_do(
    small: Path, tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    change(small)
    with pytest.raises(ConfigurationError, match=said):
        load_question_encoder(str(small), tmp_path / "data", ignore)


def test_a_data_folder_that_cannot_be_written_is_named(small: Path, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where a folder should be")
    with pytest.raises(ConfigurationError, match="make GUILDHALL_DATA_DIR a folder that can be written"):
        load_question_encoder(str(small), tmp_path / "data", ignore)


def test_fingerprints_agree_without_loading(small: Path, tmp_path: Path) -> None:
    assert load_question_encoder(str(small), tmp_path, ignore).fingerprint == observe_encoder_fingerprint(str(small))


def test_static_embeddings_know_what_is_near(shipped: QuestionEncoder) -> None:
    table = shipped.token_table
    assert table.codes.shape == (30522, 256)

    def embed(text: str) -> np.ndarray[Any, Any]:
        ids = shipped.tokenizer.encode(text, add_special_tokens=False).ids
        total = table.scales[ids] @ table.codes[ids].astype(np.float32)
        return total / np.linalg.norm(total)

    bond, price, loop = embed("the price of a bond"), embed("bond pricing"), embed("sort a list in python")
    assert bond @ price > bond @ loop + 0.4
    assert not table.scales[[0, 101, 102]].any()

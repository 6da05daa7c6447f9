"""The sentence encoder for questions: the fleet's encoder in int8, on one thread, without torch.

Documents are embedded in float32 by `retrieval.encoder`; questions, one at a time and many times a second, by the same
weights as an int8 graph. `make bench-encoders` measures both, and what searching with the one for the other costs.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Tokenizer

from experts.errors import ConfigurationError
from retrieval.encoder import find_encoder_folder, fingerprint_folder
from retrieval.encoder_files import load_encoder_files
from retrieval.token_table import TokenTable, distil_token_table, read_token_table, write_token_table

ENCODERS_FOLDER = "encoders"
"""Under GUILDHALL_DATA_DIR."""

# What is kept was made by this code; a change of graph or table is a new number.
FORMAT = 1
GRAPH_FILE = "questions.onnx"
TABLE_FILE = "tokens.safetensors"

# A window of 256 tokens takes 20 ms: the longest question holds the encoder for about 80.
MAX_WINDOWS = 4
# English of this length has 1,700 tokens, more than MAX_WINDOWS windows hold. Tokenizing it takes 8 ms.
MAX_CHARS = 8_000

REPORTS = 4

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class QuestionTokens:
    """A text as the encoder reads it, special tokens left out: ids, and the characters [start, end) of each."""

    ids: list[int]
    offsets: npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class EncodedTexts:
    """Texts after one pass, in order: vectors, shape (texts, dimensions), L2-normalised, and each text's tokens.

    `states` has one array per text, shape (tokens, dimensions): the last layer, special tokens left out; `offsets` one
    of shape (tokens, 2): the characters [start, end) of each token.
    """

    vectors: Vectors
    states: tuple[npt.NDArray[np.float32], ...]
    offsets: tuple[npt.NDArray[np.int32], ...]


class Tokens(Protocol):
    """What `encode` reads of a tokenized text; `tokenize` gives it."""

    @property
    def ids(self) -> Sequence[int]: ...

    @property
    def offsets(self) -> npt.NDArray[np.int32]: ...


class _Transformer:
    """The graph and its tokenizer: from text to token ids, from token ids to states."""

    def __init__(self, tokenizer: Tokenizer, graph: bytes, settings: "_Settings") -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        # The graph is written fused: what ONNX Runtime would rewrite makes it slower.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.dimensions = int(self._session.get_outputs()[0].shape[2])
        self.tokenizer = tokenizer
        self._pools_cls = settings.pools_cls
        example = tokenizer.encode("a")
        is_special = example.special_tokens_mask
        self.before = example.ids[: is_special.index(0)]
        self.after = example.ids[len(is_special) - is_special[::-1].index(0) :]
        self.room = settings.window - len(self.before) - len(self.after)

    def run(self, ids: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        """States, shape (texts, tokens, dimensions), of texts of equally many tokens, special ones put around them."""
        rows = np.array([[*self.before, *row, *self.after] for row in ids], dtype=np.int32)
        states: npt.NDArray[np.float32] = self._session.run(None, {"ids": rows})[0]
        return states

    def pool(self, states: npt.NDArray[np.float32]) -> Vectors:
        """The sum, over tokens or windows, whose direction is the vector; shape (texts, dimensions)."""
        pooled: Vectors = states[:, 0] if self._pools_cls else states.sum(axis=1)
        return pooled


class QuestionEncoder:
    """Turns questions into vectors and token states; safe to call from several threads.

    Texts go through one by one. Together, two to eight short questions would take 0.65 to 0.75 of the time, those of 72
    tokens no less. But activations are quantized by the range of the whole batch, so that a question's vector, and
    perhaps its route, would depend on what strangers ask: its cosine to itself alone would be 0.991, at worst 0.944.
    """

    def __init__(self, fingerprint: str, transformer: _Transformer, token_table: TokenTable) -> None:
        self.fingerprint = fingerprint
        self.dimensions = transformer.dimensions
        self.tokenizer = transformer.tokenizer
        self.token_table = token_table
        self._transformer = transformer

    def tokenize(self, text: str) -> QuestionTokens:
        """The tokens of a text: at most those of MAX_WINDOWS windows, of a longer text its beginning and its end."""
        return _tokenize(text, self._transformer.tokenizer, self._transformer.room)

    def encode_texts(self, texts: Sequence[str]) -> EncodedTexts:
        """What `encode` gives for the tokens of texts."""
        return self.encode([self.tokenize(text) for text in texts])

    def encode(self, texts: Sequence[Tokens]) -> EncodedTexts:
        """Vectors, states and offsets of tokenized texts, each passed through once.

        A text over the window goes through in windows, at most MAX_WINDOWS of them, the last of which is its end; its
        vector is the mean over all. A document's is that of its first window, but documents come cut into passages
        that fit. A question does not, and what it asks may stand after a page of context.
        """
        transformer = self._transformer
        before, after, room = len(transformer.before), len(transformer.after), transformer.room
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        states, offsets = [], []
        for row, tokens in enumerate(texts):
            ids = tokens.ids
            total, parts = vectors[row], []
            for start in range(0, max(len(ids), 1), room):
                out = transformer.run([ids[start : start + room]])
                total += transformer.pool(out)[0]
                parts.append(out[0, before : out.shape[1] - after])
            total /= np.sqrt(total @ total)
            states.append(parts[0] if len(parts) == 1 else np.concatenate(parts))
            offsets.append(tokens.offsets)
        return EncodedTexts(vectors, tuple(states), tuple(offsets))


def load_question_encoder(name: str, data_dir: Path, report: Callable[[str], None]) -> QuestionEncoder:
    """Load the encoder that `retrieval.encoder.load_encoder` would, for questions.

    The first time on a machine its graph and token table are made, which is told to `report`, and kept in `data_dir`;
    after that it loads in half a second. Making them takes 10 s for the shipped encoder, and longer in proportion to
    parameters and vocabulary.

    Raises EncoderMismatch and ConfigurationError as `load_encoder` does, and ConfigurationError for an encoder that is
    not a BERT with mean or CLS pooling.
    """
    folder = find_encoder_folder(name)
    fingerprint = fingerprint_folder(name, folder)
    settings = _read_settings(name, folder)
    tokenizer = _load_tokenizer(name, settings.transformer)

    def make() -> Mapping[str, bytes]:
        # Nothing but this needs the package.
        from retrieval.question_graph import write_question_graph

        report(f"making the question encoder of '{name}'; this is done once")
        graph = write_question_graph(name, settings.transformer)
        table = _distil(_Transformer(tokenizer, graph, settings), report)
        return {GRAPH_FILE: graph, TABLE_FILE: write_token_table(table)}

    files = load_encoder_files(data_dir / ENCODERS_FOLDER / f"{fingerprint}-{FORMAT}", make)
    transformer = _Transformer(tokenizer, files[GRAPH_FILE], settings)
    return QuestionEncoder(fingerprint, transformer, read_token_table(files[TABLE_FILE]))


def _tokenize(text: str, tokenizer: Tokenizer, room: int) -> QuestionTokens:
    # JSON can carry halves of surrogate pairs, which tokenizers refuse; each becomes one «?».
    text = text.encode("utf-8", "replace").decode("utf-8")
    half = MAX_CHARS // 2
    pieces = ((0, text),) if len(text) <= MAX_CHARS else ((0, text[:half]), (len(text) - half, text[-half:]))
    ids: list[int] = []
    places = []
    for start, piece in pieces:
        encoded = tokenizer.encode(piece, add_special_tokens=False)
        ids += encoded.ids
        places.append(np.array(encoded.offsets, dtype=np.int32).reshape(-1, 2) + start)
    offsets = places[0] if len(places) == 1 else np.concatenate(places)
    if len(ids) > MAX_WINDOWS * room:
        head = (MAX_WINDOWS - 1) * room
        ids = ids[:head] + ids[-room:]
        offsets = np.concatenate([offsets[:head], offsets[-room:]])
    return QuestionTokens(ids, offsets)


def _distil(transformer: _Transformer, report: Callable[[str], None]) -> TokenTable:
    """The token table of a transformer's vocabulary."""
    tokenizer = transformer.tokenizer
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    special = set(tokenizer.get_added_tokens_decoder())
    wanted = sorted(
        number for word, number in vocabulary.items() if number not in special and not word.startswith("[unused")
    )
    done = 0

    def embed(ids: npt.NDArray[np.int32]) -> Vectors:
        nonlocal done
        before, done = done, done + len(ids)
        if before * REPORTS // len(wanted) != done * REPORTS // len(wanted):
            report(f"token {done} of {len(wanted)}")
        return transformer.pool(transformer.run(ids[:, None].tolist()))

    return distil_token_table(np.array(wanted, dtype=np.int32), max(vocabulary.values()) + 1, embed)


def _load_tokenizer(name: str, folder: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # The library raises nothing narrower.
        raise ConfigurationError(
            f"encoder '{name}': {folder / 'tokenizer.json'} does not load: {error}; router.encoder must name a model "
            f"with a fast tokenizer"
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@dataclass(frozen=True, slots=True)
class _Settings:
    """Where an encoder's transformer lies, how it pools, how many tokens its window has."""

    transformer: Path
    pools_cls: bool
    window: int


def _read_settings(name: str, folder: Path) -> _Settings:
    """A model's own settings, read as sentence-transformers does."""
    modules = _read_json(folder / "modules.json", [{"type": "Transformer", "path": ""}])
    kinds = {str(module.get("type")).rsplit(".", 1)[-1]: folder / module.get("path", "") for module in modules}
    other = kinds.keys() - {"Transformer", "Pooling", "Normalize"}
    pooling = _read_json(kinds["Pooling"] / "config.json", {}) if "Pooling" in kinds else {"pooling_mode": "mean"}
    modes = {key.removeprefix("pooling_mode_") for key, on in pooling.items() if on is True and "mode_" in key}
    modes |= {pooling["pooling_mode"]} if "pooling_mode" in pooling else set()
    prompt = _read_json(folder / "config_sentence_transformers.json", {}).get("default_prompt_name")
    if (
        "Transformer" not in kinds
        or other
        or prompt
        or modes not in ({"mean_tokens"}, {"mean"}, {"cls_token"}, {"cls"})
    ):
        observed = f"modules {sorted(kinds)}, pooling {sorted(modes)}, default prompt {prompt}"
        raise ConfigurationError(
            f"encoder '{name}' has {observed}; questions are encoded by models with mean or CLS pooling, no module "
            f"after it but Normalize and no default prompt: set router.encoder to one"
        )
    transformer = kinds["Transformer"]
    positions = _read_json(transformer / "config.json", {}).get("max_position_embeddings", 512)
    limits = [
        _read_json(transformer / "sentence_bert_config.json", {}).get("max_seq_length"),
        _read_json(transformer / "tokenizer_config.json", {}).get("model_max_length"),
    ]
    window = next((limit for limit in limits if limit is not None), positions)
    return _Settings(transformer, bool(modes & {"cls_token", "cls"}), int(min(window, positions)))


def _read_json(path: Path, without: Any) -> Any:
    """What a settings file says, or `without` where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return without
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"encoder settings {path} cannot be read: {error}; mend or fetch them again"
        ) from error

"""The fleet's encoder as the gateway holds it: in int8 for questions, in float32 for documents, the same weights."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from deployments.logs import log_event
from router.encoding import Encoded, Tokens, Vectors
from router.static_embedding import StaticEmbedding

if TYPE_CHECKING:
    from retrieval.encoder import Encoder
    from retrieval.question_encoder import QuestionEncoder

# One question, median on two cores that three other busy processes share: 18 ms with one thread, 624 ms with two,
# because each waits for the other at every layer. The gateway always shares its cores with engines.
DOCUMENT_THREADS = 1


class FleetEncoder(Protocol):
    """What the gateway asks of an encoder; `load_fleet_encoder` gives the real one."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    @property
    def static(self) -> StaticEmbedding | None: ...

    def tokenize(self, text: str) -> Tokens: ...

    def encode(self, texts: Sequence[Tokens], /) -> Encoded: ...

    def embed_documents(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors in float32, shape (texts, dimensions), as indexes store them."""
        ...


def embed_questions(encoder: FleetEncoder, texts: Sequence[str]) -> Vectors:
    """Vectors as questions have them, shape (texts, dimensions)."""
    return encoder.encode([encoder.tokenize(text) for text in texts]).vectors


def load_fleet_encoder(name: str, data_dir: Path) -> FleetEncoder:
    """Load the encoder for questions; the one for documents waits for the first document.

    It raises what `load_question_encoder` raises.
    """
    from retrieval.question_encoder import load_question_encoder

    questions = load_question_encoder(name, data_dir, lambda step: log_event("encoder_being_made", step=step))
    return _LoadedEncoder(name, questions)


class _LoadedEncoder:
    """Safe to call from several threads; documents are embedded one batch at a time."""

    def __init__(self, name: str, questions: "QuestionEncoder") -> None:
        self.fingerprint = questions.fingerprint
        self.dimensions = questions.dimensions
        self.static = StaticEmbedding(questions.token_table.codes, questions.token_table.scales)
        self.tokenize = questions.tokenize
        self.encode = questions.encode
        self._name = name
        self._loading = threading.Lock()
        self._documents: Encoder | None = None

    def embed_documents(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        with self._loading:
            if self._documents is None:
                # It takes torch along: 6 s of one core and 460 MB, which a gateway without documents does without.
                from retrieval.encoder import load_encoder

                self._documents = load_encoder(self._name, threads=DOCUMENT_THREADS)
        return self._documents.encode(texts)

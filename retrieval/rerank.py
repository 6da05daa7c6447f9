"""The optional second look: a cross-encoder reads the question and each passage together and ranks the hits again."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from experts.errors import ConfigurationError
from experts.fleet import is_path
from retrieval.passage import Hit, searched_text

# Questions with a passage, read at once: 16 pairs of 512 tokens are 100 MB of activations in a MiniLM cross-encoder.
BATCH = 16


class Reranker:
    """Ranks hits by a cross-encoder named by path (./, ../, /) or hub id; loaded by `load` or by the first question.

    Safe to call from several threads, one question at a time.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._model: Any = None
        # Fast tokenizers fail with «Already borrowed» when two threads set their padding at once.
        self._one_at_a_time = threading.Lock()

    def load(self) -> None:
        """Load the model now; a path never touches the network. Raises ConfigurationError when there is none."""
        with self._one_at_a_time:
            self._load()

    def rank(self, question: str, hits: Sequence[Hit], k: int) -> tuple[Hit, ...]:
        """The k hits that fit the question best, best first; their scores are the cross-encoder's own."""
        if not hits:
            return ()
        pairs = [(question, searched_text(hit.passage)) for hit in hits]
        with self._one_at_a_time:
            scores = self._load().predict(pairs, batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True)
        ranked = sorted(zip(scores.tolist(), hits, strict=True), key=lambda entry: -entry[0])
        return tuple(replace(hit, score=score) for score, hit in ranked[:k])

    def _load(self) -> Any:
        if self._model is None:
            from sentence_transformers import CrossEncoder

            try:
                self._model = CrossEncoder(
                    self.name,
                    device="cpu",
                    num_labels=1,
                    local_files_only=is_path(self.name),
                    model_kwargs={"use_safetensors": True},
                )
            except (OSError, ValueError, KeyError) as error:
                raise ConfigurationError(
                    f"reranker '{self.name}' does not load: {error}; index.reranker must name a sentence-transformers "
                    f"cross-encoder by path or hub id, or be left out"
                ) from error
        return self._model

"""Texts to vectors in batches, each different text once."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from experts.errors import ConfigurationError

Vectors = npt.NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]
"""Texts to vectors of length one, shape (texts, dimensions)."""
OnProgress = Callable[[int, int | None], None]
"""Called with passages done so far, and passages in all where that is known."""

# Texts that `Embed` gets at once: enough for several processes or a GPU to share.
EMBED_BATCH = 256


def embed_texts(
    wanted: Mapping[bytes, str], embed: Embed | None, dimensions: int
) -> Iterator[tuple[tuple[bytes, ...], Vectors]]:
    """The vectors of texts in batches, each text named by its digest."""
    digests = tuple(wanted)
    for start in range(0, len(digests), EMBED_BATCH):
        batch = digests[start : start + EMBED_BATCH]
        assert embed is not None, "what is only compacted has its vectors"
        vectors = embed([wanted[digest] for digest in batch])
        if vectors.shape != (len(batch), dimensions):
            raise ConfigurationError(
                f"the encoder gave vectors of shape {vectors.shape} for {len(batch)} texts, expected {dimensions} "
                f"dimensions; write the index with the encoder it was opened for"
            )
        yield batch, vectors


def digest_text(text: str) -> bytes:
    """Names a text in less room than it takes."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()

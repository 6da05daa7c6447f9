"""Static embeddings over a vocabulary of four words."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest

from router.static_embedding import StaticEmbedding

NO_OFFSETS = np.zeros((0, 2), dtype=np.int32)
VOCABULARY = {"": 0, "bond": 1, "loop": 2, "the": 3}


@dataclass(frozen=True)
class Words:
    """A text of known words."""

    ids: list[int]
    offsets: npt.NDArray[np.int32] = field(default_factory=lambda: NO_OFFSETS)


def read(text: str) -> Words:
    return Words([VOCABULARY.get(word, 0) for word in text.split()])


@pytest.fixture(scope="module")
def embedding() -> StaticEmbedding:
    codes = np.array([[0, 0], [100, 0], [0, 50], [10, 10]], dtype=np.int8)
    return StaticEmbedding(codes, np.array([0, 1, 2, 0.001], dtype=np.float32))


def test_a_text_is_the_weighted_sum_of_its_tokens(embedding: StaticEmbedding) -> None:
    vectors = embedding.embed([read("bond"), read("bond loop"), read("the bond")])
    assert np.allclose(vectors, [[1, 0], [np.sqrt(0.5), np.sqrt(0.5)], [1, 0]], atol=1e-3)
    assert vectors.dtype == np.float32


def test_a_text_of_which_nothing_is_known_is_zero(embedding: StaticEmbedding) -> None:
    assert not embedding.embed([read(""), read("nobody knows")]).any()


def test_no_texts_give_no_rows(embedding: StaticEmbedding) -> None:
    assert embedding.embed([]).shape == (0, embedding.dimensions) == (0, 2)

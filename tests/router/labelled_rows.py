"""Questions about invented domains with their labels, a fleet of those domains, and vectors made of words."""

import zlib
from collections.abc import Sequence

import numpy as np

from experts.fleet import Domain, Engine, Fleet, NodeType, Refusal, Router, Variant
from router.classify import normalise
from router.encoding import Vectors
from router.training import LabelledText, TrainedRouter, embed_rows, train_rows

WORDS = {
    "weather": ["rain", "snow", "wind", "storm", "cloud", "sun", "fog", "hail", "frost", "thunder"],
    "music": ["piano", "violin", "song", "chord", "melody", "drum", "opera", "tune", "choir", "flute"],
    "cooking": ["bread", "soup", "oven", "recipe", "salt", "butter", "onion", "garlic", "stew", "pasta"],
}
OUTSIDE = ["engine", "wheel", "brake", "tyre", "clutch", "exhaust", "piston", "gearbox"]
ASKED = ("what about {} and {}", "tell me of {} with {}", "is {} like {} today", "why does {} need {}")
FILLERS = frozenset(" ".join(ASKED).replace("{}", "").split())


def embed_words(texts: Sequence[str]) -> Vectors:
    """L2-normalised counts of the content words in 512 dimensions."""
    vectors = np.zeros((len(texts), 512), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split():
            if word not in FILLERS:
                vectors[row, zlib.crc32(word.encode("utf-8", "replace")) % 512] += 1
    return normalise(vectors)


def embed_static(texts: Sequence[str]) -> Vectors:
    """The same in 128 dimensions."""
    return normalise(embed_words(texts).reshape(len(texts), 128, 4).sum(axis=2))


def make_rows(domains: Sequence[str], count: int, seed: int) -> list[LabelledText]:
    """As many questions of each domain; others for another seed."""
    random = np.random.default_rng(seed)
    return [
        LabelledText(str(random.choice(ASKED)).format(*random.choice(WORDS.get(domain, OUTSIDE), 2)), domain)
        for domain in domains
        for _ in range(count)
    ]


def make_fleet(domains: Sequence[str] = tuple(WORDS), refusals: dict[str, Refusal] | None = None) -> Fleet:
    """Domains with ten examples each; the first one is the generalist's."""
    return Fleet(
        name="test",
        engines={"tiny": Engine(model="./tiny")},
        domains={
            name: Domain(
                description=f"Questions about {' and '.join(WORDS[name][:3])}.",
                examples=tuple(said.text for said in make_rows((name,), 10, 0)),
                variants={"full": Variant(engine="tiny")},
            )
            for name in domains
        },
        generalist=domains[0],
        router=Router(confidence_floor=0.1, refusals=refusals or {}),
        nodes={"node": NodeType(cpus=4, memory_gib=8)},
    )


def train(texts: Sequence[LabelledText], labels: tuple[str, ...]) -> TrainedRouter:
    """A router of both tiers."""
    return train_rows(labels, embed_rows(texts, labels, embed_words, embed_static))

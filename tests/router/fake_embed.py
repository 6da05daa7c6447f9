"""A small fleet, and a deterministic encoder: the content words of a text hashed into 1024 dimensions."""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from experts.fleet import Domain, Engine, Fleet, NodeType, Router, Variant
from router.artifact import train_router
from router.clause import FUNCTION_WORDS
from router.encoding import Tokens, Vectors
from router.planner import RouterSnapshot, build_snapshot
from router.tiers import DEFAULT_TARGET_ERROR

DIMENSIONS = 1024


@dataclass(frozen=True)
class FakeTokens:
    """The words of a text; `ids` are their hashes."""

    text: str
    ids: list[int]
    offsets: npt.NDArray[np.int32]


@dataclass(frozen=True)
class FakeEncoded:
    vectors: Vectors
    states: list[npt.NDArray[np.float32]] = field(default_factory=list)


class FakeEncoder:
    """Counts its calls, because a question may be encoded twice at most: whole, and in parts."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def tokenize(self, text: str) -> FakeTokens:
        found = list(re.finditer(r"\w+|[^\w\s]", text))
        ids = [zlib.crc32(word.group().lower().encode("utf-8", "replace")) % DIMENSIONS for word in found]
        offsets = np.array([word.span() for word in found], dtype=np.int32).reshape(-1, 2)
        return FakeTokens(text, ids, offsets)

    def encode(self, texts: Sequence[Tokens], /) -> FakeEncoded:
        said = [tokens.text for tokens in texts if isinstance(tokens, FakeTokens)]
        self.calls.append(said)
        states = [np.zeros((len(tokens.ids), DIMENSIONS), dtype=np.float32) for tokens in texts]
        return FakeEncoded(embed_words(said), states)


def embed_words(texts: Sequence[str]) -> Vectors:
    """L2-normalised counts of the content words; zeros for a text without any."""
    vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
    for row, text in enumerate(texts):
        words = text.lower().replace("?", " ").replace(".", " ").split()
        for word in (word for word in words if word not in FUNCTION_WORDS):
            vectors[row, zlib.crc32(word.encode("utf-8", "replace")) % DIMENSIONS] += 1
        vectors[row] /= max(float(np.linalg.norm(vectors[row])), 1e-9)
    return vectors


def build_fake_snapshot(max_sub_queries: int = 4, floor: float = 0.1) -> RouterSnapshot:
    """The router of `make_fleet`, which splits by rules: no boundary head fits the fake encoder."""
    fleet = make_fleet(max_sub_queries, floor)
    artifact = train_router(fleet, (), embed_words, None, "fake", "2026-01-01", DEFAULT_TARGET_ERROR)
    return build_snapshot(fleet, artifact, None, None)


EXAMPLES = {
    "finance": (
        "Quarterly results of companies: revenue, net income, margins, debt, headcount.",
        "What was the revenue of Arden Motors in Q2 2024?",
        "Tell me the net income of Tidal Foods in Q3 2024.",
        "How many employees did Pell Robotics have in Q1 2026?",
        "What operating margin did Calder Bank report in Q4 2023?",
        "How high was the free cash flow of Vessel Marine in Q2 2024?",
        "What was the gross profit of Orin Labs for Q1 2025?",
        "Give me the net debt of Halden Energy in Q3 2025.",
        "How large was the order backlog of Brim Textiles?",
        "Which market share does the report of Kestrel Air give?",
        "What did Sefton Optics spend on research in Q4 2024?",
    ),
    "coding": (
        "Functions, classes and modules of Python code: what they do, take and return, and how to write code.",
        "Which function parses the config file?",
        "What does load_rows return?",
        "Which module defines the class EventStore?",
        "What arguments does parse_row take?",
        "Which exception does read_config raise?",
        "How do I sort a list in Python?",
        "What is the default value of the parameter batch_size?",
        "Which method of the cache removes an entry?",
        "Write a function that reverses a string.",
        "What does the decorator retry do?",
    ),
    "reasoning": (
        "Everyday facts: where people live and work, opening times of places, team meetings.",
        "Where does Mira Kell live?",
        "When does the Harrow Bakery open?",
        "Who works at the Linden Museum?",
        "In which room does the Orbit team meet?",
        "What is the job of Tomas Reed?",
        "On which day is the Linden Library closed?",
        "When does Ana Voss train?",
        "Who leads the Delta team?",
        "What is the address of Jon Pike?",
        "In which town is the Aster Theatre?",
    ),
    "generalist": (
        "General knowledge: rivers, plants, festivals, instruments and other topics of an encyclopedia.",
        "How long is the river Aven?",
        "What colour are the flowers of the marsh lily?",
        "When is the Lantern Festival held?",
        "What is the height of Mount Orl?",
        "What is the brass harp made of?",
        "Where is the silver fern found?",
        "Who founded the town of Orland?",
        "What do people eat at the Cider Fair?",
        "How many strings does the orin have?",
        "What is Guildhall?",
    ),
}


def make_fleet(max_sub_queries: int = 4, confidence_floor: float = 0.3) -> Fleet:
    """Four domains on one engine."""
    return Fleet(
        name="test",
        engines={"tiny": Engine(model="./tiny")},
        domains={
            name: Domain(description=said[0], examples=said[1:], variants={"full": Variant(engine="tiny")})
            for name, said in EXAMPLES.items()
        },
        generalist="generalist",
        router=Router(max_sub_queries=max_sub_queries, confidence_floor=confidence_floor),
        nodes={"node": NodeType(cpus=4, memory_gib=8)},
    )

"""A small deterministic encoder: the content words of a text hashed into 1024 dimensions."""

import zlib
from collections.abc import Sequence

import numpy as np

from experts.fleet import Domain, Engine, Fleet, NodeType, Router, Variant
from router.classify import Vectors
from router.clause import FUNCTION_WORDS

DIMENSIONS = 1024


class FakeEmbed:
    """Counts its calls, because a plan may embed once only."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, texts: Sequence[str], /) -> Vectors:
        self.calls.append(list(texts))
        vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        for row, text in enumerate(texts):
            words = text.lower().replace("?", " ").replace(".", " ").split()
            for word in (word for word in words if word not in FUNCTION_WORDS):
                vectors[row, zlib.crc32(word.encode()) % DIMENSIONS] += 1
        return vectors


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

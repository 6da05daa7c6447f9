"""Contradictions: how many are found, how many alarms are false, and what looking for them costs.

The contradicting pairs state two figures for one fact of a company's quarter, each in one of the ways below, asked in
one of the ways below. The ways were written beside the rules, so that `found` is the upper end; pairs that differ in
company, period, metric or qualifier, the pocket fleet's own questions and abstracts of SciFact were not.
"""

import itertools
import json
import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from benchmarks.result import save_result, summarize
from router.consistency import find_contradictions
from router.question import SubAnswer, SubQuery, SubQueryId

SAID = (
    "In {q} {c} reported {a} of {x}.",
    "The {a} of {c} in {q} was {x} [1].",
    "{c}'s {a} in {q} came to {x}.",
    "{c} had {a} of {x} in {q}.",
    "{c}, {q}: {a} {x}",
    "For {q}, {c} reports a {a} of {x}.",
    "{x}.",
    "It was {x} [1].",
    "The {a} was {x}.",
    "{c}'s {a} for {q} is {x}, according to its report.",
)
ASKED = (
    "What was the {a} of {c} in {q}?",
    "State {c}'s {a} for {q}.",
    "How large was the {a} of {c} in {q}?",
    "the {a} of {c} in {q}",
    "What {a} did {c} report in {q}?",
    "Could you say: what {a} does {c} show for {q}?",
    "I need the {q} {a} of {c}.",
    "And {c}'s {a} during {q}?",
    "Find the {a} {c} had in {q}.",
)
FACTS = (
    ("revenue", "Norvane Systems", "Q2 2025", "412.5 million euros", "€421,500,000"),
    ("headcount", "Tavenport Logistics", "Q4 2024", "20,575 employees", "19,575 employees"),
    ("operating margin", "Brisolde Energy", "2023", "20.1 percent", "18.3 %"),
)
OTHERS = {
    "company": ("revenue", "Tavenport Logistics", "Q2 2025", "341.0 million euros"),
    "quarter": ("revenue", "Norvane Systems", "Q3 2025", "341.0 million euros"),
    "year": ("revenue", "Norvane Systems", "Q2 2024", "341.0 million euros"),
    "metric": ("net income", "Norvane Systems", "Q2 2025", "41.0 million euros"),
    "qualifier": ("cloud revenue", "Norvane Systems", "Q2 2025", "41.0 million euros"),
}
POCKET = Path(__file__).parents[1] / "experts/pocket/corpora/questions.jsonl"
SCIFACT = Path(__file__).parents[2] / "shared/data/retrieval/scifact"
SAMPLES = 2000
VECTOR = np.zeros(0, dtype=np.float32)

Part = tuple[str, str]
Pair = tuple[Part, Part]


def is_alarm(pair: Pair) -> bool:
    """Whether the two parts (question, answer) are said to contradict each other."""
    queries = [SubQuery(SubQueryId(n), asked, f"d{n}", VECTOR, (), "") for n, (asked, _) in enumerate(pair, start=1)]
    answers = [SubAnswer(SubQueryId(n), f"d{n}", said) for n, (_, said) in enumerate(pair, start=1)]
    return bool(find_contradictions(queries, answers))


def phrase(fact: tuple[str, str, str, str], choose: random.Random) -> Part:
    attribute, company, period, value = fact
    fields = {"a": attribute, "c": company, "q": period, "x": value}
    return choose.choice(ASKED).format(**fields), choose.choice(SAID).format(**fields)


def sample(make: Callable[[random.Random], Pair]) -> list[Pair]:
    choose = random.Random(5)
    return [make(choose) for _ in range(SAMPLES)]


def read_lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def count(pairs: Iterable[Pair]) -> dict[str, int]:
    alarms = [is_alarm(pair) for pair in pairs]
    return {"pairs": len(alarms), "alarms": sum(alarms)}


def draw_contradiction(choose: random.Random) -> Pair:
    attribute, company, period, one, other = choose.choice(FACTS)
    return phrase((attribute, company, period, one), choose), phrase((attribute, company, period, other), choose)


def main() -> None:
    contradicting = sample(draw_contradiction)
    figures = {"contradicting": count(contradicting)}
    for name, other in OTHERS.items():
        figures[f"another {name}"] = count(
            sample(lambda choose, other=other: (phrase(FACTS[0][:4], choose), phrase(other, choose)))  # type: ignore[misc]
        )
    pocket = [(str(row["question"]), str(row["answer"])) for row in read_lines(POCKET)]
    figures["pocket questions, all pairs"] = count(itertools.combinations(pocket, 2))
    if SCIFACT.exists():
        asked = [row["text"] for row in read_lines(SCIFACT / "queries.jsonl")]
        said = [row["text"] for row in read_lines(SCIFACT / "corpus.jsonl")]

        def draw(choose: random.Random) -> Pair:
            question = choose.choice(asked)
            return (question, choose.choice(said)), (question, choose.choice(said))

        figures["SciFact abstracts, random pairs"] = count(sample(draw))
    else:
        print(f"no {SCIFACT}: its abstracts are left out")
    costs = []
    for pair in contradicting[:500]:
        started = time.process_time()
        is_alarm(pair)
        costs.append((time.process_time() - started) * 1e6)
    print(json.dumps(figures, indent=2))
    print(save_result("router_consistency", {"figures": figures, "cpu_us_of_two_parts": summarize(costs)}))


if __name__ == "__main__":
    main()

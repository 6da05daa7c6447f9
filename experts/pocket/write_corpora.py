"""Write the shipped corpora and their questions; `--check` only compares them with the committed files.

    python -m experts.pocket.write_corpora [--check]

The source files of the coding corpus are written by hand and left alone.
"""

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from experts.pocket.records import Fact, Record, phrase_question
from experts.pocket.shipped import REFUSED, SHIPPED
from experts.pocket.tasks import TASKS
from experts.prompt import REFUSAL

CORPORA = Path(__file__).parent / "corpora"
_QUESTIONS_PER_DOMAIN = 26

# Questions that the demo and the README ask, in their own words.
_FIXED: dict[str, Sequence[tuple[str, str, str]]] = {
    "finance": [("What was the revenue of Norvane Systems in Q2 2025?", "metric", "Norvane Systems - Q2 2025 results")],
    "math": [("What is the formula for the area of a rhombus?", "formula", "Plane geometry - Area of a rhombus")],
    "coding": [
        ("which function of the pipeline loads the raw events?", "purpose", "tidemark ingest - load_events"),
        ("Which function loads the raw events?", "purpose", "tidemark ingest - load_events"),
    ],
    "reasoning": [("When does Mira Castellan train?", "training", "Mira Castellan - Training")],
    "generalist": [
        (
            "How many domains does the Guildhall pocket fleet have?",
            "count",
            "Guildhall pocket fleet - Profile",
        )
    ],
}


def render_documents(records: Sequence[Record]) -> dict[str, str]:
    """File name to Markdown: one document per title's first half, one section per record."""
    documents: dict[str, str] = {}
    for record in records:
        name, section = record.title.split(" - ", 1)
        path = name_file(record.title)
        documents.setdefault(path, f"# {name}\n")
        documents[path] += f"\n## {section}\n\n{record.text}\n"
    return documents


def name_file(title: str) -> str:
    """The file that holds a passage's document."""
    return title.split(" - ", 1)[0].lower().replace(" ", "_") + ".md"


def list_questions() -> list[dict[str, str | None]]:
    """The questions over the corpora, refusals last in each domain."""
    lines: list[dict[str, str | None]] = []
    for domain, records in SHIPPED.items():
        rng = random.Random(f"questions {domain}")  # noqa: S311
        by_title = {record.title: record for record in records}
        for question, kind, title in _FIXED[domain]:
            fact = next(fact for fact in by_title[title].facts if fact.kind == kind)
            lines.append(_describe(domain, question, fact, by_title[title]))
        counts: dict[tuple[str, ...], int] = {}
        for record in records:
            for key in {fact.key for fact in record.facts}:
                counts[key] = counts.get(key, 0) + 1
        chosen = rng.sample(list(records), min(len(records), _QUESTIONS_PER_DOMAIN))
        while len(chosen) < _QUESTIONS_PER_DOMAIN:
            chosen.append(rng.choice(list(records)))
        for number, record in enumerate(chosen):
            fact = rng.choice([fact for fact in record.facts if counts[fact.key] == 1])
            question = phrase_question(fact, TASKS[domain].phrasings[fact.kind], rng, number % 3 == 0)
            lines.append(_describe(domain, question, fact, record))
        for fact in REFUSED[domain]:
            question = phrase_question(fact, TASKS[domain].phrasings[fact.kind], rng, False)
            lines.append(_describe(domain, question, fact, None))
    return lines


def _describe(domain: str, question: str, fact: Fact, record: Record | None) -> dict[str, str | None]:
    if record is None:
        return {"domain": domain, "question": question, "answer": REFUSAL, "source": None}
    source = f"{domain}/{name_file(record.title)}#{record.title.split(' - ', 1)[1]}"
    return {"domain": domain, "question": question, "answer": fact.answer, "source": source}


def render_corpora() -> dict[str, str]:
    """Every generated file, by its path under the corpora folder."""
    files = {
        f"{domain}/{name}": text
        for domain, records in SHIPPED.items()
        for name, text in render_documents(records).items()
    }
    files["questions.jsonl"] = "".join(json.dumps(line) + "\n" for line in list_questions())
    return files


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail when a committed file differs")
    check = parser.parse_args().check
    stale = []
    for name, text in render_corpora().items():
        path = CORPORA / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    Console(highlight=False).print(f"{len(stale)} files {'differ' if check else 'written'}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())

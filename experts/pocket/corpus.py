"""The shipped corpora as passages: one per Markdown section, one per function or class of a source file."""

import ast
import json
import re
from dataclasses import dataclass
from pathlib import Path

CORPORA = Path(__file__).parent / "corpora"


@dataclass(frozen=True)
class CorpusPassage:
    """One passage; `source` is `<domain>/<file>#<section>`."""

    title: str
    text: str
    source: str


@dataclass(frozen=True)
class CorpusQuestion:
    """One line of questions.jsonl; a question without a source is to be refused."""

    domain: str
    question: str
    answer: str
    source: str | None


def load_passages(domain: str) -> list[CorpusPassage]:
    """Every passage of a domain's corpus, in the order of its files."""
    passages = []
    for path in sorted((CORPORA / domain).iterdir()):
        if path.suffix == ".md":
            passages += _split_markdown(path, domain)
        elif path.suffix == ".py":
            passages += _split_source(path, domain)
    return passages


def _split_markdown(path: Path, domain: str) -> list[CorpusPassage]:
    opening, *sections = re.split(r"^## ", path.read_text(), flags=re.MULTILINE)
    document = opening.strip().removeprefix("# ").splitlines()[0]
    passages = []
    for section in sections:
        heading, text = section.split("\n", 1)
        passages.append(CorpusPassage(f"{document} - {heading}", text.strip(), f"{domain}/{path.name}#{heading}"))
    return passages


def _split_source(path: Path, domain: str) -> list[CorpusPassage]:
    source = path.read_text()
    named = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return [
        CorpusPassage(
            f"{path.name} - {node.name}",
            ast.get_source_segment(source, node) or "",
            f"{domain}/{path.name}#{node.name}",
        )
        for node in named
    ]


def load_questions() -> list[CorpusQuestion]:
    """The questions over all corpora."""
    lines = (CORPORA / "questions.jsonl").read_text().splitlines()
    return [CorpusQuestion(**json.loads(line)) for line in lines]


def choose_neighbours(question: CorpusQuestion, passages: list[CorpusPassage], count: int = 4) -> list[CorpusPassage]:
    """The passages that share most words with a question, rare words first: a stand-in for a retriever."""
    bags = [_words(f"{passage.title} {passage.text}") for passage in passages]
    frequency: dict[str, int] = {}
    for bag in bags:
        for word in bag:
            frequency[word] = frequency.get(word, 0) + 1
    asked = _words(question.question)
    scores = [sum(1.0 / frequency[word] for word in asked & bag) for bag in bags]
    order = sorted(range(len(passages)), key=lambda index: -scores[index])[:count]
    return [passages[index] for index in sorted(order)]


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9_]+", text.lower()))

"""The corpora that the pocket experts answer from."""

import math
import re
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from experts.pocket.corpus import CORPORA, load_passages, load_questions
from experts.pocket.shipped_math import FORMULAS, Formula
from experts.pocket.tasks import DOMAINS
from experts.pocket.write_corpora import render_corpora
from experts.prompt import REFUSAL


def test_the_committed_corpora_are_what_the_generator_writes() -> None:
    for name, text in render_corpora().items():
        assert (CORPORA / name).read_text() == text, f"{name} is stale; run python -m experts.pocket.write_corpora"


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_passage_has_its_own_title(domain: str) -> None:
    titles = [passage.title for passage in load_passages(domain)]
    assert len(titles) >= 18
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_question_names_a_passage_that_holds_its_answer(domain: str) -> None:
    by_source = {passage.source: passage for passage in load_passages(domain)}
    questions = [question for question in load_questions() if question.domain == domain]
    assert len([question for question in questions if question.source]) >= 25
    assert len([question for question in questions if not question.source]) >= 3
    for question in questions:
        if question.source is None:
            assert question.answer == REFUSAL
        else:
            passage = by_source[question.source]
            assert question.answer in f"{passage.title}: {passage.text}"


def test_the_demo_questions_are_there() -> None:
    answers = {question.question: question.answer for question in load_questions()}
    assert answers["What was the revenue of Norvane Systems in Q2 2025?"] == "412.5 million euros"
    assert answers["which function of the pipeline loads the raw events?"] == "load_events"
    assert answers["What is the formula for the area of a rhombus?"] == "A = d1 * d2 / 2"


def test_the_examples_for_the_router_are_ten_per_domain_and_no_corpus_question() -> None:
    examples = yaml.safe_load((CORPORA / "examples.yaml").read_text())
    asked = {question.question for question in load_questions()}
    assert set(examples) == set(DOMAINS)
    for domain in examples.values():
        assert len(domain["examples"]) == 10
        assert domain["description"].endswith(".")
        assert not asked & set(domain["examples"])


@pytest.mark.parametrize("one", FORMULAS, ids=lambda one: one.quantity)
def test_every_worked_example_is_true(one: Formula) -> None:
    known = {name: float(value) for name, value in one.inputs.items()}
    right = one.formula.split(" = ", 1)[1].replace("^", "**")
    value = eval(right, {"__builtins__": {}, "pi": math.pi, "sqrt": math.sqrt}, known)
    assert round(value, 2) == pytest.approx(float(one.result), abs=0.011)


def test_the_documentation_of_the_pipeline_agrees_with_its_source() -> None:
    source = {p.title.split(" - ")[1]: p for p in load_passages("coding") if p.source.split("#")[0].endswith(".py")}
    docs = {p.title.split(" - ")[1]: p for p in load_passages("coding") if p.source.split("#")[0].endswith(".md")}
    assert {name for name in source if not name.startswith("_")} == set(docs)
    for function, passage in docs.items():
        signature = source[function].text.splitlines()[0]
        returns = signature.split(" -> ")[1].removesuffix(":")
        assert f"{returns}." in passage.text
        parameter = re.search(r"(\w+): [\w.]+ = ([^,)]+|\",\")\)", signature)
        assert parameter is not None, signature
        assert parameter[1] in passage.text
        assert parameter[2] in passage.text
        module = source[function].title.split(" - ")[0]
        assert module in passage.text


def test_the_pipeline_of_the_coding_corpus_runs(tmp_path: Path) -> None:
    source = tmp_path / "events.csv"
    source.write_text("id,day,station,amount\n1,Mon,A,2.5\n1,Mon,A,2.5\n2,Tue,B,4\n")
    sys.path.insert(0, str(CORPORA.parent))
    try:
        pipeline = import_module("corpora.coding.pipeline")
        summary = pipeline.run_pipeline(source, tmp_path / "summary.txt")
    finally:
        sys.path.remove(str(CORPORA.parent))
    assert summary.read_text().split() == ["Mon", "2.50", "Tue", "4.00"]

"""Measure the pocket experts on held-out names, figures and phrasings, as they are served.

    python -m experts.pocket.evaluate --json benchmarks/results/pocket_experts.json
    python -m experts.pocket.evaluate --edition 2 --weights build/pocket/weights --base monolith

Every question comes alone through the chat template, with three or four passages where it needs some, and the answer
is decoded greedily. It counts as right when the exercise's judge accepts it and it cites what it should, or when it is
exactly the refusal.
"""

import argparse
import json
import platform
import random
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from peft import PeftModel
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedTokenizerFast

from experts.adapt.score import estimate_share
from experts.pocket.corpus import choose_neighbours, load_passages, load_questions
from experts.pocket.editions import EDITIONS, DrawExercise
from experts.pocket.exercise import Asked, Wanted
from experts.pocket.export import ADAPTER_DOMAINS, WEIGHTS, load_base
from experts.pocket.judge import judge_reply
from experts.pocket.tasks import DOMAINS
from experts.pocket.vocabulary import load_tokenizer
from experts.prompt import TitledText, render_messages

_QUESTIONS = 300
_BATCH = 32
_ANSWER_TOKENS = 192
_CONSOLE = Console(highlight=False, markup=False)


@dataclass(frozen=True)
class Case:
    """One prompt and what counts as right."""

    prompt: str
    asked: Asked


@dataclass(frozen=True)
class Score:
    """What one expert reached on one set of cases; `tasks` is the share of right answers by task."""

    n: int
    exact_match_with_citation: float
    wilson_95: tuple[float, float]
    exact_match_without_citation: float
    refusals: int
    refusal_accuracy: float
    tasks: dict[str, float]


def write_prompt(question: str, passages: Sequence[TitledText], tokenizer: PreTrainedTokenizerFast) -> str:
    """The prompt as the chat template serves it."""
    messages = [dict(message) for message in render_messages(question, passages)]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def draw_cases(domain: str, count: int, tokenizer: PreTrainedTokenizerFast, draw: DrawExercise) -> list[Case]:
    """Held-out cases of a domain; the same on every run."""
    rng = random.Random(f"evaluate {domain}")  # noqa: S311
    cases: list[Case] = []
    while len(cases) < count:
        exercise = draw(domain, rng, Wanted(held_out=True, questions=1))
        cases += [Case(write_prompt(one.question, exercise.passages, tokenizer), one) for one in exercise.asked]
    return cases[:count]


def load_corpus_cases(domain: str, tokenizer: PreTrainedTokenizerFast) -> list[Case]:
    """The shipped questions of a domain over four passages of its shipped corpus."""
    passages = load_passages(domain)
    cases = []
    for question in load_questions():
        if question.domain != domain:
            continue
        near = choose_neighbours(question, passages)
        source = next((passage for passage in passages if passage.source == question.source), None)
        if source and source not in near:
            near = [source, *near[:3]]
        cited = [
            number for number, one in enumerate(near, 1) if source and _holds(one.text, one.title, question.answer)
        ]
        if source and domain != "coding":
            cited = [near.index(source) + 1]
        prompt = write_prompt(question.question, near, tokenizer)
        task = "shipped" if cited else "refusal"
        cases.append(Case(prompt, Asked(question.question, question.answer, tuple(cited), task)))
    return cases


def _holds(text: str, title: str, answer: str) -> bool:
    return answer in f"{title}: {text}"


@torch.inference_mode()
def answer_cases(model: torch.nn.Module, cases: Sequence[Case], tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Greedy answers, in the order of the cases."""
    tokenizer.padding_side = "left"
    order = sorted(range(len(cases)), key=lambda index: len(cases[index].prompt))
    answers = [""] * len(cases)
    for start in range(0, len(order), _BATCH):
        chosen = order[start : start + _BATCH]
        given = tokenizer(
            [cases[index].prompt for index in chosen], return_tensors="pt", padding=True, add_special_tokens=False
        )
        output = model.generate(
            input_ids=given["input_ids"],
            attention_mask=given["attention_mask"],
            max_new_tokens=_ANSWER_TOKENS,
            do_sample=False,
            temperature=None,
        )
        for index, ids in zip(chosen, output[:, given["input_ids"].shape[1] :], strict=True):
            answers[index] = tokenizer.decode(ids, skip_special_tokens=True)
    return answers


def score(cases: Sequence[Case], answers: Sequence[str]) -> Score:
    """Right answers with and without the citation, on refusals alone and by task."""
    verdicts = [judge_reply(case.asked, answer) for case, answer in zip(cases, answers, strict=True)]
    share = estimate_share([verdict.right for verdict in verdicts])
    refused = [verdict.right for case, verdict in zip(cases, verdicts, strict=True) if case.asked.refused]
    tasks: dict[str, list[bool]] = {}
    for case, verdict in zip(cases, verdicts, strict=True):
        tasks.setdefault(case.asked.task, []).append(verdict.right)
    return Score(
        n=share.n,
        exact_match_with_citation=round(share.hits / share.n, 4),
        wilson_95=(round(share.low, 4), round(share.high, 4)),
        exact_match_without_citation=round(sum(verdict.answered for verdict in verdicts) / share.n, 4),
        refusals=len(refused),
        refusal_accuracy=round(sum(refused) / max(1, len(refused)), 4),
        tasks={task: round(sum(right) / len(right), 4) for task, right in sorted(tasks.items())},
    )


def describe_machine() -> dict[str, object]:
    """The processor and how many cores this process may use."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return {"cpu": names[0] if names else platform.processor(), "cores": len(names) or None}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to write the result")
    parser.add_argument("--questions", type=int, default=_QUESTIONS, help="held-out questions per domain")
    parser.add_argument("--only", nargs="*", default=list(DOMAINS), help="domains to measure")
    parser.add_argument("--edition", type=int, choices=list(EDITIONS), default=1, help="which exercises")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="the folder of the base and its adapters")
    parser.add_argument("--base", default="base", help="the model to measure as the base, such as monolith")
    parser.add_argument("--wrong", type=int, default=0, help="print so many wrong answers per set")
    given = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(given.weights / given.base)
    started = time.monotonic()
    results: dict[str, dict[str, object]] = {}
    table = Table("domain", "expert", "set", "n", "exact + citation", "95 %", "exact", "refusals")
    for domain in given.only:
        sets = {
            "held_out": draw_cases(domain, given.questions, tokenizer, EDITIONS[given.edition]),
            "corpus": load_corpus_cases(domain, tokenizer),
        }
        base = given.weights / given.base
        experts: dict[str, torch.nn.Module] = {given.base: load_base(base).eval()}
        if given.base == "base" and domain in ADAPTER_DOMAINS and (given.weights / domain).exists():
            adapted = PeftModel.from_pretrained(load_base(base), str(given.weights / domain))
            experts["adapter"] = adapted.merge_and_unload().eval()
        for expert, model in experts.items():
            for name, cases in sets.items():
                answers = answer_cases(model, cases, tokenizer)
                reached = score(cases, answers)
                results.setdefault(domain, {}).setdefault(expert, {})[name] = asdict(reached)  # type: ignore[index]
                low, high = reached.wilson_95
                table.add_row(
                    domain,
                    expert,
                    name,
                    str(reached.n),
                    f"{reached.exact_match_with_citation:.1%}",
                    f"{low:.1%} to {high:.1%}",
                    f"{reached.exact_match_without_citation:.1%}",
                    f"{reached.refusal_accuracy:.1%} of {reached.refusals}",
                )
                _show_wrong(cases, answers, given.wrong)
    _CONSOLE.print(table)
    if given.json:
        asked = ["git", "rev-parse", "HEAD"]
        commit = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        document = {
            "command": f"python -m experts.pocket.evaluate --json {given.json}",
            "commit": commit,
            "machine": describe_machine(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - started, 1),
            "domains": {**_load_measured(given.json, given.only), **results},
        }
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(document, indent=2) + "\n")


def _load_measured(path: Path, fresh: Sequence[str]) -> dict[str, object]:
    """What the file already holds about domains that are not measured this time."""
    known = json.loads(path.read_text())["domains"] if path.exists() else {}
    return {domain: result for domain, result in known.items() if domain not in fresh}


def _show_wrong(cases: Sequence[Case], answers: Sequence[str], count: int) -> None:
    for case, answer in zip(cases, answers, strict=True):
        if count and not judge_reply(case.asked, answer).right:
            count -= 1
            _CONSOLE.print(f"{case.asked.question}\n   wanted {case.asked.target!r}\n   got    {answer!r}")


if __name__ == "__main__":
    main()

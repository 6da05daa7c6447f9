"""Measure the pocket experts on held-out names and held-out phrasings, as they are served.

    python -m experts.pocket.evaluate --json benchmarks/results/pocket_experts.json

Every question comes alone with three or four passages through the chat template, and the answer is decoded greedily.
It counts as right when it is the expected value and cites a passage that holds it, or is exactly the refusal.
"""

import argparse
import json
import math
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

from experts.pocket.corpus import choose_neighbours, load_passages, load_questions
from experts.pocket.export import ADAPTER_DOMAINS, WEIGHTS, load_base
from experts.pocket.tasks import DOMAINS, draw_exercise
from experts.pocket.vocabulary import load_tokenizer
from experts.prompt import REFUSAL, TitledText, render_messages

_QUESTIONS = 300
_BATCH = 32
_CONSOLE = Console(highlight=False, markup=False)


@dataclass(frozen=True)
class Case:
    """One prompt and what counts as right. `cited` is empty where the refusal is wanted."""

    prompt: str
    answer: str
    cited: Sequence[int]


@dataclass(frozen=True)
class Score:
    """What one expert reached on one set of cases."""

    n: int
    exact_match_with_citation: float
    wilson_95: tuple[float, float]
    exact_match_without_citation: float
    refusals: int
    refusal_accuracy: float


def write_prompt(question: str, passages: Sequence[TitledText], tokenizer: PreTrainedTokenizerFast) -> str:
    """The prompt as the chat template serves it."""
    messages = [dict(message) for message in render_messages(question, passages)]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def draw_cases(domain: str, count: int, tokenizer: PreTrainedTokenizerFast) -> list[Case]:
    """Held-out cases of a domain; the same on every run."""
    rng = random.Random(f"evaluate {domain}")  # noqa: S311
    cases: list[Case] = []
    while len(cases) < count:
        exercise = draw_exercise(domain, rng, held_out=True, questions=1)
        cases += [
            Case(write_prompt(asked.question, exercise.passages, tokenizer), asked.answer, asked.cited)
            for asked in exercise.asked
        ]
    return cases


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
        cases.append(Case(write_prompt(question.question, near, tokenizer), question.answer, cited))
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
            max_new_tokens=48,
            do_sample=False,
            temperature=None,
        )
        for index, ids in zip(chosen, output[:, given["input_ids"].shape[1] :], strict=True):
            answers[index] = tokenizer.decode(ids, skip_special_tokens=True)
    return answers


def score(cases: Sequence[Case], answers: Sequence[str]) -> Score:
    """Exact matches with and without the citation, and on refusals alone."""
    exact = bare = refused = 0
    refusals = [case for case in cases if not case.cited]
    for case, answer in zip(cases, answers, strict=True):
        if not case.cited:
            right = answer == REFUSAL
            refused += right
            exact += right
            bare += right
            continue
        exact += any(answer == f"{case.answer} [{number}]" for number in case.cited)
        bare += re.sub(r" \[\d+\]$", "", answer) == case.answer
    n = len(cases)
    return Score(
        n=n,
        exact_match_with_citation=round(exact / n, 4),
        wilson_95=estimate_interval(exact, n),
        exact_match_without_citation=round(bare / n, 4),
        refusals=len(refusals),
        refusal_accuracy=round(refused / max(1, len(refusals)), 4),
    )


def estimate_interval(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927)."""
    share = hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return round(middle - reach, 4), round(middle + reach, 4)


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
    parser.add_argument("--wrong", type=int, default=0, help="print so many wrong answers per set")
    given = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(WEIGHTS / "base")
    started = time.monotonic()
    results: dict[str, dict[str, object]] = {}
    table = Table("domain", "expert", "set", "n", "exact + citation", "95 %", "exact", "refusals")
    for domain in given.only:
        sets = {
            "held_out": draw_cases(domain, given.questions, tokenizer),
            "corpus": load_corpus_cases(domain, tokenizer),
        }
        experts: dict[str, torch.nn.Module] = {"base": load_base().eval()}
        if domain in ADAPTER_DOMAINS and (WEIGHTS / domain).exists():
            experts["adapter"] = PeftModel.from_pretrained(load_base(), str(WEIGHTS / domain)).merge_and_unload().eval()
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
        right = {f"{case.answer} [{number}]" for number in case.cited} or {REFUSAL}
        if count and answer not in right:
            count -= 1
            _CONSOLE.print(
                f"{case.prompt[case.prompt.rindex('Question: ') :]}\n   wanted {sorted(right)} got {answer!r}"
            )


if __name__ == "__main__":
    main()

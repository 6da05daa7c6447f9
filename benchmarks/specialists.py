"""The claim of the fleet: a specialist against the generalist of its size and a monolith four times as large.

    make bench-specialists
    python -m benchmarks.specialists --edition 2 --weights build/pocket/weights

Each contender answers the same held-out questions of a domain, in a process of its own on one thread, in batches of 32:
with the passages that retrieval would show (three or four, the right ones among them), and without any. Without
passages an answer counts as right when it is the wanted one, since there is nothing to cite, and questions that are to
be refused are left out, since nothing tells an expert to refuse. `corpus` are the shipped questions over the shipped
corpora, with their neighbours by word overlap as passages. Cost is processor time of all threads; memory is the peak of
the process, of which the result file names the part that the interpreter and torch take. The monolith is left out where
its weights are not there.
"""

import argparse
import math
import os
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
import transformers
from peft import PeftModel
from rich.console import Console
from rich.table import Table

from benchmarks.result import Summary, save_result, summarize
from experts.adapt.score import estimate_share
from experts.pocket.editions import EDITIONS
from experts.pocket.evaluate import (
    Case,
    answer_cases,
    draw_cases,
    load_corpus_cases,
    write_prompt,
)
from experts.pocket.export import ADAPTER_DOMAINS, WEIGHTS, load_base
from experts.pocket.judge import judge_reply
from experts.pocket.tasks import DOMAINS
from experts.pocket.vocabulary import load_tokenizer

QUESTIONS = 300
SPEED_QUESTIONS = 64
SPEED_REPEATS = 3

console = Console(stderr=True, highlight=False)


@dataclass(frozen=True, slots=True)
class Contender:
    """A model folder, with an adapter on it or none, and the domains that it answers for."""

    name: str
    base: Path
    adapter: Path | None
    domains: Sequence[str]


@dataclass(frozen=True, slots=True)
class Share:
    """Right answers of one set of questions; `hits` in the order of the questions."""

    n: int
    accuracy: float
    wilson_95: tuple[float, float]
    hits: Sequence[bool]


@dataclass(frozen=True, slots=True)
class Row:
    """What one contender reached in one domain, and what it cost."""

    domain: str
    contender: str
    with_passages: Share
    refusals: Share
    without_passages: Share
    corpus: Share
    tokens_per_s: Summary
    cpu_s_per_1000_answers: Summary
    peak_memory_mib: float
    memory_before_weights_mib: float
    parameters: int


@dataclass(frozen=True, slots=True)
class Lead:
    """How many points a specialist is ahead of another contender in its domain, and what it costs beside it."""

    domain: str
    over: str
    points: float
    interval_95: tuple[float, float]
    share_of_its_cost: float


def list_contenders(weights: Path) -> tuple[list[Contender], list[str]]:
    """Who takes part, and a line for each who cannot."""
    base, monolith = weights / "base", weights / "monolith"
    present = [Contender("generalist", base, None, DOMAINS)]
    absent = []
    for domain in ADAPTER_DOMAINS:
        if (weights / domain).is_dir():
            present.append(Contender("specialist", base, weights / domain, (domain,)))
        else:
            absent.append(f"specialist for {domain}: no adapter in {os.path.relpath(weights / domain)}")
    if monolith.is_dir():
        present.append(Contender("monolith", monolith, None, DOMAINS))
    else:
        absent.append(f"monolith: no weights in {os.path.relpath(monolith)}")
    return present, absent


def measure_contender(contender: Contender, domain: str, edition: int, questions: int) -> Row:
    """One contender in one domain; runs in a process of its own, so that the peak of memory is its own."""
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    tokenizer = load_tokenizer(contender.base)
    before = _read_peak_mib()
    model: torch.nn.Module = load_base(contender.base).eval()
    if contender.adapter is not None:
        model = PeftModel.from_pretrained(model, str(contender.adapter)).merge_and_unload().eval()
    cases = draw_cases(domain, questions, tokenizer, EDITIONS[edition])
    bare = [
        Case(write_prompt(case.asked.question, (), tokenizer), case.asked) for case in cases if not case.asked.refused
    ]
    corpus = load_corpus_cases(domain, tokenizer)
    answers, bare_answers = answer_cases(model, cases, tokenizer), answer_cases(model, bare, tokenizer)
    hits = judge_all(cases, answers)
    refused = [hit for case, hit in zip(cases, hits, strict=True) if case.asked.refused]
    speeds, costs = [], []
    for _ in range(SPEED_REPEATS):
        wall, cpu = time.perf_counter(), time.process_time()
        said = answer_cases(model, cases[:SPEED_QUESTIONS], tokenizer)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        # The end mark is a token, too.
        tokens = sum(len(tokenizer.encode(text, add_special_tokens=False)) + 1 for text in said)
        speeds.append(tokens / wall)
        costs.append(1000 * cpu / len(said))
    return Row(
        domain,
        contender.name,
        share_of(hits),
        share_of(refused),
        share_of([judge_reply(case.asked, text).answered for case, text in zip(bare, bare_answers, strict=True)]),
        share_of(judge_all(corpus, answer_cases(model, corpus, tokenizer))),
        summarize(speeds),
        summarize(costs),
        _read_peak_mib(),
        before,
        sum(parameter.numel() for parameter in model.parameters()),
    )


def judge_all(cases: Sequence[Case], answers: Sequence[str]) -> list[bool]:
    """Whether each answer is right, with its citation."""
    return [judge_reply(case.asked, answer).right for case, answer in zip(cases, answers, strict=True)]


def share_of(hits: Sequence[bool]) -> Share:
    """The share of right answers with Wilson's interval; of no questions it is 0 with the widest interval."""
    if not hits:
        return Share(0, 0.0, (0.0, 1.0), ())
    right = estimate_share(hits)
    return Share(right.n, round(right.hits / right.n, 4), (round(right.low, 4), round(right.high, 4)), tuple(hits))


def compare_paired(ours: Sequence[bool], theirs: Sequence[bool]) -> tuple[float, tuple[float, float]]:
    """How many points ours is ahead on the same questions, with the 95 % interval of a paired difference.

    Only questions on which the two disagree carry information (Fleiss, Levin and Paik 2003, section 13.1).
    """
    n = len(ours)
    won = sum(a and not b for a, b in zip(ours, theirs, strict=True))
    lost = sum(b and not a for a, b in zip(ours, theirs, strict=True))
    ahead = (won - lost) / n
    reach = 1.96 * math.sqrt(max(won + lost - (won - lost) ** 2 / n, 0.0)) / n
    return round(100 * ahead, 1), (round(100 * (ahead - reach), 1), round(100 * (ahead + reach), 1))


def list_leads(rows: Sequence[Row]) -> list[Lead]:
    """Each specialist's lead over every other contender in its domain."""
    leads = []
    for ours in (row for row in rows if row.contender == "specialist"):
        for theirs in (row for row in rows if row.domain == ours.domain and row is not ours):
            points, interval = compare_paired(ours.with_passages.hits, theirs.with_passages.hits)
            cost = ours.cpu_s_per_1000_answers.median / theirs.cpu_s_per_1000_answers.median
            leads.append(Lead(ours.domain, theirs.contender, points, interval, round(cost, 2)))
    return leads


def render_table(rows: Sequence[Row]) -> Table:
    """The one table."""
    table = Table(
        "domain",
        "contender",
        "parameters",
        "with passages",
        "refusals",
        "without passages",
        "corpus",
        "tokens/s",
        "CPU s per 1000",
        "peak MiB",
        title="Held-out questions, right answer and citation, with 95 % intervals",
    )
    for row in sorted(rows, key=lambda row: (DOMAINS.index(row.domain), row.contender != "specialist")):
        table.add_row(
            row.domain,
            row.contender,
            f"{row.parameters / 1e6:.1f} M",
            _show(row.with_passages),
            _show(row.refusals),
            _show(row.without_passages),
            _show(row.corpus),
            f"{row.tokens_per_s.median:.0f}",
            f"{row.cpu_s_per_1000_answers.median:.1f}",
            f"{row.peak_memory_mib:.0f}",
        )
    return table


def _show(share: Share) -> str:
    low, high = share.wilson_95
    return f"{share.accuracy:.1%} ({max(0.0, low):.0%} to {high:.0%})" if share.n else "none asked"


def _read_peak_mib() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def _write_row(row: Row) -> dict[str, object]:
    shares = ("with_passages", "refusals", "without_passages", "corpus")
    written = asdict(row)
    for name in shares:
        del written[name]["hits"]
    return written


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="the folder of the base, adapters and monolith")
    parser.add_argument("--edition", type=int, choices=list(EDITIONS), default=1, help="which exercises")
    parser.add_argument("--questions", type=int, default=QUESTIONS, help="held-out questions per domain")
    given = parser.parse_args()
    contenders, absent = list_contenders(given.weights)
    rows: list[Row] = []
    for contender, domain in ((one, domain) for one in contenders for domain in one.domains):
        console.print(f"{contender.name}: {domain}")
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            rows.append(pool.submit(measure_contender, contender, domain, given.edition, given.questions).result())
    leads = list_leads(rows)
    Console(width=max(console.width, 150)).print(render_table(rows))
    for lead in leads:
        low, high = lead.interval_95
        console.print(
            f"{lead.domain}: specialist {lead.points:+} points over the {lead.over} ({low:+} to {high:+}), at "
            f"{lead.share_of_its_cost} of its cost"
        )
    for line in absent:
        console.print(f"not measured: {line}")
    path = save_result(
        "specialists",
        {
            "edition": given.edition,
            "questions_per_domain": given.questions,
            "speed": {"questions": SPEED_QUESTIONS, "repeats": SPEED_REPEATS, "threads": 1, "dtype": "float32"},
            "rows": [_write_row(row) for row in rows],
            "leads": [asdict(lead) for lead in leads],
            "not_measured": absent,
        },
    )
    console.print(f"written to {path}")


if __name__ == "__main__":
    main()

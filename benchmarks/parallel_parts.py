"""What asking several experts at once costs: a question of k independent parts beside the slowest of its parts.

On the pocket fleet as shipped, started for this and asked over HTTP, one question after another. The gateway's own time
is what its response says: `timings_s.total`, from the request to the end of the answer, less the longest
`sub_answers[].timings_s.total`, from sending a part to the end of its answer. So it holds routing, starting the parts,
putting the answers together and what the event loop waits for a core that the engine works on.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml
from rich.console import Console

from benchmarks.own_guildhall import own_guildhall
from benchmarks.result import save_result
from experts.fleet_file import load_fleet

FLEET_FILE = Path(__file__).parents[1] / "cluster/fleets/pocket.yaml"
PORT = 8433
START_TIMEOUT_S = 600
REPEATS = 40
WARM = 5
LIMIT_MS = 5.0
PARTS = (
    "What was the revenue of Norvane Systems in Q2 2025?",
    "Which function of the pipeline loads the raw events?",
    "How is the area of a rhombus worked out from its diagonals?",
    "On which weekday is the Torvik Museum closed?",
)
QUESTIONS = {count: " ".join(PARTS[:count]) for count in range(1, len(PARTS) + 1)}

console = Console(stderr=True)


@contextmanager
def running_fleet() -> Iterator[str]:
    """The pocket fleet on a port and in a data folder of its own; gives its URL, and stops it whatever happened."""
    with own_guildhall(START_TIMEOUT_S) as (folder, run):
        document = load_fleet(FLEET_FILE).model_dump(mode="json", exclude_unset=True)
        document["gateway"]["port"] = PORT
        file = folder / "fleet.yaml"
        file.write_text(yaml.safe_dump(document, sort_keys=False))
        started = run("up", str(file))
        if started.returncode != 0:
            raise RuntimeError(f"the pocket fleet did not start: {started.stderr[-2000:]}")
        yield f"http://127.0.0.1:{PORT}"


def ask(client: httpx.Client, count: int) -> dict[str, float]:
    """Milliseconds of one question of `count` parts; raises RuntimeError where it was not answered by as many."""
    body = {"model": "guildhall", "messages": [{"role": "user", "content": QUESTIONS[count]}], "temperature": 0}
    response = client.post("/v1/chat/completions", json=body)
    response.raise_for_status()
    said: dict[str, Any] = response.json()["guildhall"]
    answers = said["sub_answers"]
    failures = [answer["failure"]["message"] for answer in answers if answer["failure"]]
    if len(answers) != count or failures:
        domains = [part["domain"] for part in said["plan"]["sub_queries"]]
        raise RuntimeError(f"{count} parts became {domains} with failures {failures}: '{QUESTIONS[count]}'")
    parts_ms = [answer["timings_s"]["total"] * 1000 for answer in answers]
    total_ms = said["timings_s"]["total"] * 1000
    route_ms = said["timings_s"]["route"] * 1000
    return {
        "added_ms": total_ms - max(parts_ms),
        "route_ms": route_ms,
        "added_beside_route_ms": total_ms - max(parts_ms) - route_ms,
        "total_ms": total_ms,
        "slowest_part_ms": max(parts_ms),
        "all_parts_ms": sum(parts_ms),
    }


def measure(url: str) -> dict[int, list[dict[str, float]]]:
    """Milliseconds of every question by its number of parts; the numbers take turns."""
    found: dict[int, list[dict[str, float]]] = {count: [] for count in QUESTIONS}
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        for repeat in range(-WARM, REPEATS):
            for count in QUESTIONS:
                figures = ask(client, count)
                if repeat >= 0:
                    found[count].append(figures)
    return found


def describe(rounds: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Percentiles of each figure."""
    return {
        name: {
            f"p{percent}": round(float(np.percentile([figures[name] for figures in rounds], percent)), 3)
            for percent in (50, 90, 99)
        }
        for name in rounds[0]
    }


def main() -> None:
    """Measure, write the result and say whether the target holds."""
    with running_fleet() as url:
        found = measure(url)
    figures = {str(count): describe(rounds) for count, rounds in found.items()}
    worst = max(by_count["added_ms"]["p50"] for by_count in figures.values())
    path = save_result(
        "parallel_parts",
        {
            "by_parts": figures,
            "targets": {"added_ms_p50": {"at_most": LIMIT_MS, "worst": worst, "reached": worst <= LIMIT_MS}},
            "load": f"{REPEATS} questions of each number of parts, one after another, in turns",
        },
    )
    for count, by_count in figures.items():
        console.print(f"{count} parts: {by_count['added_ms']} ms beside the slowest of them")
    console.print(f"wrote {path}")


if __name__ == "__main__":
    main()

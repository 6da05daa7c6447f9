"""A small fleet on hosts: its project on the operator's machine, its processes, and questions asked again and again."""

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.hosts import HOME, ROOT, Host, Hosts

QUESTION = "What was the revenue of Norvane Systems in Q2 2025?"
ANSWER = "412.5 million euros"
PROJECT = HOME / "project"
"""Where the project is on the operator's machine."""
FLEET_FILE = "fleet.yaml"
PORT = 8000
ENGINE_NAME = "pocket"
"""The fleet's one engine, and thereby the application of its replicas."""

_PARTS = (
    "benchmarks",
    "experts",
    "retrieval",
    "router",
    "cluster",
    "deployments",
    "k8s",
    "requirements",
    "pyproject.toml",
    "Makefile",
)
_WEIGHTS = "./experts/pocket/weights"
_FLEET: dict[str, Any] = {
    "name": "hosts",
    "engines": {
        ENGINE_NAME: {
            "model": f"{_WEIGHTS}/base",
            "dtype": "bfloat16",
            "max_model_len": 1024,
            "max_num_seqs": 8,
            "max_adapters": 1,
            "kv_cache_gib": 0.125,
        }
    },
    "domains": {
        "finance": {
            "description": "Quarterly results of companies.",
            "examples": [QUESTION],
            "variants": {"tuned": {"engine": ENGINE_NAME, "adapter": f"{_WEIGHTS}/finance"}},
            "index": {"corpus": "./experts/pocket/corpora/finance"},
            "history_turns": 0,
        }
    },
    "generalist": "finance",
    "gateway": {"port": PORT, "answer_timeout_s": 20},
    "nodes": {"machine": {"count": 2, "cpus": 2, "memory_gib": 4}},
}

# One question after another, each as a line: when it was asked, when answered (the machine's monotonic clock), and what
# was wrong with the answer. An address where nobody listens is passed over; one that failed comes last from then on.
_ASK = """
import json, sys, time, urllib.request
key, question, answer, *urls = sys.argv[1:]
body = json.dumps({"model": "guildhall", "messages": [{"role": "user", "content": question}]}).encode()
headers = {"Authorization": "Bearer " + key, "Content-Type": "application/json"}
def ask():
    wrong = ""
    for url in list(urls):
        request = urllib.request.Request(url + "/v1/chat/completions", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                said = json.load(reply)["choices"][0]["message"]["content"]
            return "" if answer in said else said
        except Exception as error:
            wrong = str(error) or type(error).__name__
            if not isinstance(getattr(error, "reason", None), ConnectionRefusedError):
                urls.append(urls.pop(urls.index(url)))
                break
    return wrong
while True:
    asked = time.monotonic()
    wrong = ask()
    print(json.dumps([asked, time.monotonic(), wrong]), flush=True)
    time.sleep(0.2)
"""


def write_project(folder: Path) -> None:
    """What a person has who serves a fleet: Guildhall and a fleet file in one folder."""
    folder.mkdir()
    for name in _PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, folder / name)
    (folder / FLEET_FILE).write_text(yaml.safe_dump(_FLEET, sort_keys=False))


def find_processes(host: Host, title: str) -> list[int]:
    """Processes of a host, as itself numbers them, whose title begins so."""
    shown = host.run("ps -eo pid=,args=").stdout.splitlines()
    return [int(line.split()[0]) for line in shown if line.split(maxsplit=1)[1].startswith(title)]


def find_host_of(hosts: Hosts, title: str) -> Host:
    """The one machine that is on and has a process with a title that begins so."""
    (found,) = [host for host in hosts.machines if host.is_up and find_processes(host, title)]
    return found


@dataclass(frozen=True, slots=True)
class Asked:
    """One question: when it was asked and answered (time.monotonic), and what was wrong with the answer."""

    asked: float
    answered: float
    wrong: str


@dataclass(slots=True)
class Questions:
    """Questions that are asked one after another, with what came back."""

    asked: list[Asked] = field(default_factory=list)

    def await_served_since(self, moment: float, timeout_s: float, in_row: int = 3) -> float:
        """Seconds from `moment` until the first of that many right answers in a row to questions asked after it.

        Raises TimeoutError with the last failure.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            after = [one for one in list(self.asked) if one.asked >= moment]
            right = len(after)
            while right and not after[right - 1].wrong:
                right -= 1
            if len(after) - right >= in_row:
                return after[right].answered - moment
            time.sleep(0.1)
        wrong = [one.wrong for one in self.asked if one.wrong][-1:]
        raise TimeoutError(f"not served again within {timeout_s:g} s; the last failure: {wrong}")

    def count_failures(self, since: float) -> int:
        """Questions asked after a moment that were not answered right."""
        return sum(1 for one in list(self.asked) if one.asked >= since and one.wrong)


@contextmanager
def asking(host: Host, key: str, addresses: Sequence[str] = ("127.0.0.1",)) -> Iterator[Questions]:
    """Ask from a host until the end of the block, at the first of the addresses where a gateway listens."""
    urls = [f"http://{address}:{PORT}" for address in addresses]
    command = [sys.executable, "-c", _ASK, key, QUESTION, ANSWER, *urls]
    process = subprocess.Popen(
        ["nsenter", "--target", str(host.pid), "--net", *command], stdout=subprocess.PIPE, text=True
    )
    questions = Questions()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            questions.asked.append(Asked(*json.loads(line)))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield questions
    finally:
        process.kill()
        process.wait()
        reader.join()

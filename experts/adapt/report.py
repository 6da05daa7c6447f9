"""What evaluations say: one report per variant, and two of them side by side."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experts.adapt.score import PairedDifference, Share, TaskScore, compare_paired
from experts.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import RenderableType

ANSWERS_FILE = "answers.jsonl"
# What a difference at 95 % must be under to be called one.
_ALPHA = 0.05
_NONE = "–"


@dataclass(frozen=True, slots=True)
class Speed:
    """All cases of all tasks as one load, `in_flight` at a time; prompts are read within the same seconds."""

    seconds: float
    answers: int
    prompt_tokens: int
    answer_tokens: int
    in_flight: int

    @property
    def tokens_per_s(self) -> float:
        return self.answer_tokens / self.seconds


@dataclass(frozen=True, slots=True)
class Memory:
    """`weights_bytes` on disk, None where they lie at a hub; `peak_bytes` is resident, of all processes of the engine,
    a page that they share counted in each; `gpu_bytes` is what they hold of the GPU, None without one.
    """

    weights_bytes: int | None
    peak_bytes: int
    gpu_bytes: int | None
    kv_tokens: int


@dataclass(frozen=True, slots=True)
class Energy:
    """`joules` of the whole processor or GPU while the cases ran; None where no meter can be read, and `meter` says
    why.
    """

    joules: float | None
    meter: str


@dataclass(frozen=True, slots=True)
class VariantReport:
    """One variant on all tasks. `folder` has every answer in `answers.jsonl`."""

    folder: Path
    model: str
    adapter: str | None
    tasks: Mapping[str, TaskScore]
    speed: Speed
    memory: Memory
    energy: Energy

    def describe(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {
            "folder": str(self.folder),
            "model": self.model,
            "adapter": self.adapter,
            "tasks": {name: _describe_score(score) for name, score in self.tasks.items()},
            "speed": {**asdict(self.speed), "tokens_per_s": round(self.speed.tokens_per_s, 1)},
            "memory": asdict(self.memory),
            "energy": asdict(self.energy),
        }

    def show(self) -> "list[RenderableType]":
        """A table of tasks, then speed, memory and energy."""
        from rich.table import Table

        table = Table(
            "task", "cases", "right", "right but for marks", "cited exactly", "refused rightly", "refused wrongly"
        )
        for name, score in self.tasks.items():
            shares = (score.right, score.value, score.cited, score.refused, score.wrongly_refused)
            table.add_row(name, str(score.right.n), *(_NONE if share is None else str(share) for share in shares))
        return [table, *describe_costs(self.describe())]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two evaluations over the same cases; differences are B minus A."""

    a: Mapping[str, Any]
    b: Mapping[str, Any]
    tasks: Mapping[str, PairedDifference]

    def describe(self) -> dict[str, Any]:
        """The comparison as JSON has it."""
        return {
            "a": dict(self.a),
            "b": dict(self.b),
            "tasks": {name: asdict(paired) for name, paired in self.tasks.items()},
        }

    def show(self) -> "list[RenderableType]":
        """A table of tasks with the paired difference, then one of costs."""
        from rich.table import Table

        accuracy = Table("task", "cases", "A", "B", "B − A, 95 %", "McNemar p", "only A", "only B", "verdict")
        for name, paired in self.tasks.items():
            accuracy.add_row(
                name,
                str(paired.n),
                *(f"{side['tasks'][name]['right']['share']:.1%}" for side in (self.a, self.b)),
                f"{paired.difference:+.1%} ({paired.low:+.1%} to {paired.high:+.1%})",
                f"{paired.p_value:.3f}",
                str(paired.only_a),
                str(paired.only_b),
                judge_difference(paired),
            )
        costs = Table("", "A", "B", "B / A")
        for label, first, second, unit in _list_costs(self.a, self.b):
            ratio = _NONE if not first or second is None else f"{second / first:.2f}"
            costs.add_row(
                label, *(_NONE if value is None else f"{value:,.1f} {unit}" for value in (first, second)), ratio
            )
        names = [f"{side}: {_name(run)}" for side, run in (("A", self.a), ("B", self.b))]
        return [*names, accuracy, costs]


def judge_difference(paired: PairedDifference) -> str:
    """In words, whether the cases show a difference."""
    if paired.p_value >= _ALPHA:
        return "no difference shown"
    return "B is better" if paired.difference > 0 else "A is better"


def describe_costs(run: Mapping[str, Any]) -> list[str]:
    """Speed, memory and energy of one evaluation, one line each."""
    speed, memory, energy = run["speed"], run["memory"], run["energy"]
    weights = (
        "weights at a hub" if memory["weights_bytes"] is None else f"weights {_mb(memory['weights_bytes'])} on disk"
    )
    gpu = "" if memory["gpu_bytes"] is None else f", {_mb(memory['gpu_bytes'])} of the GPU"
    joules = energy["joules"]
    measured = (
        f"not measured ({energy['meter']})"
        if joules is None
        else f"{joules:,.0f} J by {energy['meter']}, {joules / speed['answers']:,.2f} J for each answer"
    )
    return [
        f"speed   {speed['tokens_per_s']:,.1f} answer tokens/s, {speed['answers'] / speed['seconds']:,.1f} answers/s "
        f"({speed['answers']} answers in {speed['seconds']:,.1f} s, {speed['in_flight']} at a time)",
        f"memory  {weights}, peak {_mb(memory['peak_bytes'])} resident{gpu}, "
        f"KV cache for {memory['kv_tokens']:,} tokens",
        f"energy  {measured}",
    ]


def compare_runs(a: Path, b: Path) -> Comparison:
    """Two run folders of `guildhall adapt evaluate`, side by side over the cases of the tasks that both have.

    Raises ConfigurationError where a folder is no such run, no task is in both, or a task's cases or its judge differ.
    """
    first, second = _read_run(a), _read_run(b)
    shared = [name for name in first["tasks"] if name in second["tasks"]]
    if not shared:
        raise ConfigurationError(
            f"{a} has the tasks {', '.join(first['tasks'])} and {b} has {', '.join(second['tasks'])}; evaluate both on "
            "the same tasks"
        )
    for name in shared:
        for key, said in (("fingerprint", "other cases"), ("judge", "another judge")):
            if first["data"][name][key] != second["data"][name][key]:
                raise ConfigurationError(
                    f"task '{name}' has {said} in {a} than in {b}; evaluate both with the same data and judge"
                )
    right_a, right_b = _read_right(a), _read_right(b)
    tasks = {name: compare_paired(right_a[name], right_b[name]) for name in shared}
    return Comparison(first, second, tasks)


def _describe_score(score: TaskScore) -> dict[str, Any]:
    shares: dict[str, Share | None] = {
        "right": score.right,
        "value": score.value,
        "cited": score.cited,
        "refused": score.refused,
        "wrongly_refused": score.wrongly_refused,
    }
    return {
        name: None if share is None else {**asdict(share), "share": round(share.share, 6)}
        for name, share in shares.items()
    }


def _read_run(folder: Path) -> dict[str, Any]:
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        run = None
    if not isinstance(run, dict) or not {"tasks", "speed", "data"} <= set(run) or not (folder / ANSWERS_FILE).is_file():
        raise ConfigurationError(f"{folder} is no finished run of `guildhall adapt evaluate`; name its output folder")
    return run


def _read_right(folder: Path) -> dict[str, list[bool]]:
    """Whether each answer was right, by task, in the order of the data."""
    right: dict[str, list[bool]] = {}
    for line in (folder / ANSWERS_FILE).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        right.setdefault(row["task"], []).append(row["right"])
    return right


def _list_costs(a: Mapping[str, Any], b: Mapping[str, Any]) -> Sequence[tuple[str, float | None, float | None, str]]:
    def of(part: str, name: str, unit: float = 1) -> tuple[float | None, float | None]:
        values = [side[part][name] for side in (a, b)]
        first, second = (None if value is None else value / unit for value in values)
        return first, second

    return [
        ("answer tokens per second", *of("speed", "tokens_per_s"), "/s"),
        ("weights on disk", *of("memory", "weights_bytes", 1e6), "MB"),
        ("peak resident memory", *of("memory", "peak_bytes", 1e6), "MB"),
        ("memory of the GPU", *of("memory", "gpu_bytes", 1e6), "MB"),
        ("energy", *of("energy", "joules"), "J"),
    ]


def _name(run: Mapping[str, Any]) -> str:
    return run["model"] if run["adapter"] is None else f"{run['model']} with adapter {run['adapter']}"


def _mb(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"

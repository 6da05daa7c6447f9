"""Two evaluations side by side: over the same cases, or not at all."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experts.adapt.report import ANSWERS_FILE, Energy, Memory, Speed, VariantReport, compare_runs, judge_difference
from experts.adapt.score import compare_paired, judge_answer, score_answers
from experts.errors import ConfigurationError


def _report(folder: Path, right: list[bool], joules: float | None = None) -> VariantReport:
    judged = [judge_answer("yes [1]" if one else "no [1]", "yes [1]", "exact") for one in right]
    return VariantReport(
        folder=folder,
        model="/models/expert",
        adapter=None,
        tasks={"finance": score_answers(judged)},
        speed=Speed(seconds=2.0, answers=len(right), prompt_tokens=100, answer_tokens=400, in_flight=16),
        memory=Memory(weights_bytes=2_000_000, peak_bytes=500_000_000, gpu_bytes=None, kv_tokens=4096),
        energy=Energy(joules, "RAPL" if joules else "no RAPL counters in /sys/class/powercap"),
    )


def _save(folder: Path, right: list[bool], **data: str) -> Path:
    folder.mkdir()
    report = _report(folder, right).describe()
    report["data"] = {"finance": {"fingerprint": "f", "judge": "exact", **data}}
    (folder / "run.json").write_text(json.dumps(report))
    rows = [{"task": "finance", "right": one} for one in right]
    (folder / ANSWERS_FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def _print(parts: list[Any]) -> str:
    console = Console(file=io.StringIO(), width=200)
    for part in parts:
        console.print(part)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_a_report_says_shares_speed_memory_and_that_energy_was_not_measured(tmp_path: Path) -> None:
    said = _print(_report(tmp_path, [True] * 90 + [False] * 10).show())
    for part in ("90.0% (82.6% to 94.5%)", "200.0 answer tokens/s", "weights 2.0 MB on disk", "peak 500.0 MB resident"):
        assert part in said
    assert "not measured (no RAPL counters" in said


def test_measured_energy_is_given_for_each_answer(tmp_path: Path) -> None:
    assert "50 J by RAPL, 0.50 J for each answer" in _print(_report(tmp_path, [True] * 100, joules=50.0).show())


def test_compare_pairs_the_answers_case_by_case(tmp_path: Path) -> None:
    a = _save(tmp_path / "a", [True] * 60 + [True] * 20 + [False] * 20)
    b = _save(tmp_path / "b", [True] * 60 + [False] * 20 + [False] * 20)
    comparison = compare_runs(a, b)
    assert comparison.tasks["finance"].only_a == 20
    assert comparison.describe()["tasks"]["finance"]["difference"] == pytest.approx(-0.2)
    said = _print(comparison.show())
    assert "A is better" in said
    assert "answer tokens per second" in said


def test_equal_shares_on_other_cases_are_told_apart_from_equal_answers(tmp_path: Path) -> None:
    a, b = _save(tmp_path / "a", [True, False] * 20), _save(tmp_path / "b", [False, True] * 20)
    paired = compare_runs(a, b).tasks["finance"]
    assert (paired.difference, paired.only_a, paired.only_b) == (0, 20, 20)


def test_few_differences_show_nothing() -> None:
    assert judge_difference(compare_paired([True] * 4 + [False], [False] * 4 + [False])) == "no difference shown"
    assert judge_difference(compare_paired([False] * 10, [True] * 10)) == "B is better"


@pytest.mark.parametrize(
    ("data", "said"), [({"fingerprint": "g"}, "other cases"), ({"judge": "contains"}, "another judge")]
)
def test_other_cases_or_another_judge_are_not_compared(tmp_path: Path, data: dict[str, str], said: str) -> None:
    a, b = _save(tmp_path / "a", [True]), _save(tmp_path / "b", [True], **data)
    with pytest.raises(ConfigurationError, match=said):
        compare_runs(a, b)


def test_a_folder_that_is_no_evaluation_is_named(tmp_path: Path) -> None:
    a = _save(tmp_path / "a", [True])
    with pytest.raises(ConfigurationError, match="none is no finished run"):
        compare_runs(a, tmp_path / "none")
    (a / ANSWERS_FILE).unlink()
    with pytest.raises(ConfigurationError, match="a is no finished run"):
        compare_runs(a, a)

"""The gaps of a run are measured in turn, count from the step after the next, and are kept with the run."""

import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from experts.adapt.gap_schedule import GapSchedule
from experts.adapt.run_folder import RunFolder

TEACHER = {"law": 0.0, "sea": 0.0}
EVEN = {"law": 0.5, "sea": 0.5}


class Student:
    """One that is far behind in law at first, and in the sea after its first measurement."""

    def __init__(self) -> None:
        self.measured = 0

    def measure(self) -> Mapping[str, float]:
        self.measured += 1
        return {"law": math.log(9), "sea": 0.0} if self.measured == 1 else {"law": 0.0, "sea": math.log(9)}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.aside.mkdir()
    return folder


def test_a_measurement_counts_from_the_step_after_the_next(run: RunFolder) -> None:
    schedule = GapSchedule(run, TEACHER, Student().measure, every_steps=4, guided=True)
    schedule.begin()
    first = schedule.find_weights(1)
    assert first["law"] > 0.6
    for step in range(1, 5):
        schedule.after_step(step)
    assert [schedule.find_weights(step) == first for step in (4, 5, 6)] == [True, True, False]
    assert schedule.find_weights(6)["sea"] > first["sea"]
    assert schedule.find_gaps(4)["sea"].ratio == pytest.approx(9)
    (line,) = run.read_log()
    assert line["step"] == 4
    assert line["sea_loss"] == pytest.approx(math.log(9))


def test_a_resumed_run_has_the_weights_of_the_steps_that_it_takes_again(run: RunFolder) -> None:
    student = Student()
    schedule = GapSchedule(run, TEACHER, student.measure, every_steps=2, guided=True)
    schedule.begin()
    for step in range(1, 7):
        schedule.after_step(step)
    again = GapSchedule(run, TEACHER, student.measure, every_steps=2, guided=True)
    again.begin()
    assert student.measured == 4
    # Taken up after step 4: step 6 is measured again, from the weights of step 4.
    again.after_step(6)
    assert [again.find_weights(step) for step in range(1, 9)] == [schedule.find_weights(step) for step in range(1, 9)]


def test_a_run_that_the_gaps_do_not_guide_stays_even_and_is_measured_all_the_same(run: RunFolder) -> None:
    schedule = GapSchedule(run, TEACHER, Student().measure, every_steps=1, guided=False)
    schedule.begin()
    schedule.after_step(1)
    assert schedule.find_weights(1) == schedule.find_weights(9) == EVEN
    assert schedule.find_gaps(1)["sea"].ratio == pytest.approx(9)

"""The gaps of a run as they are measured, and the weights that each of its steps draws by."""

from collections.abc import Callable, Mapping
from dataclasses import asdict

from experts.adapt.domain_gaps import DomainGap, plan_weights, share_evenly
from experts.adapt.run_folder import RunFolder

# What a measurement keeps of the weights before it, and what is dealt out evenly whatever the gaps.
_SMOOTHING = 0.5
_EVEN_SHARE = 0.1
# Rows are drawn a micro-batch ahead, so a measurement counts from the step after the next.
_DRAWN_AHEAD = 2
_NOTE = "gaps"


class GapSchedule:
    """Measures the gaps every so many steps and keeps them with the run, so that a resumed run draws the same rows.

    Weights stay even where the gaps do not guide the run.
    """

    def __init__(
        self,
        run: RunFolder,
        teacher: Mapping[str, float],
        measure_student: Callable[[], Mapping[str, float]],
        every_steps: int,
        guided: bool,
    ) -> None:
        self._run = run
        self._teacher = teacher
        self._measure_student = measure_student
        self._every_steps = every_steps
        self._guided = guided
        self._gaps: dict[int, dict[str, DomainGap]] = {}
        self._weights: dict[int, dict[str, float]] = {}
        for step, line in (run.read_note(_NOTE) or {}).items():
            self._gaps[int(step)] = {domain: DomainGap(**gap) for domain, gap in line["gaps"].items()}
            self._weights[int(step)] = line["weights"]

    def begin(self) -> None:
        """Measure before the first step; a resumed run has it already."""
        if 0 not in self._gaps:
            self._measure(0)

    def after_step(self, step: int) -> None:
        """Measure where it is time to."""
        if step % self._every_steps == 0:
            self._measure(step)
            losses = {f"{domain}_loss": gap.student_loss for domain, gap in self._gaps[step].items()}
            weights = {f"{domain}_weight": weight for domain, weight in self._weights[step].items()}
            self._run.log(step, **losses, **weights)

    def find_gaps(self, step: int) -> dict[str, DomainGap]:
        """The gaps after a step, measured now if they were not before."""
        if step not in self._gaps:
            self._measure(step)
        return self._gaps[step]

    def find_weights(self, step: int) -> dict[str, float]:
        """The weights that a step, from 1, draws by: of the last measurement made before its rows are drawn."""
        return self._weights[max(at for at in self._weights if at == 0 or at <= step - _DRAWN_AHEAD)]

    def _measure(self, step: int) -> None:
        student = self._measure_student()
        gaps = {domain: DomainGap(student[domain], loss) for domain, loss in self._teacher.items()}
        earlier = [at for at in self._weights if at < step]
        weights = self._weights[max(earlier)] if earlier else share_evenly(gaps)
        if self._guided:
            weights = plan_weights(gaps, weights, _SMOOTHING, _EVEN_SHARE)
        self._gaps[step], self._weights[step] = gaps, weights
        noted = {
            at: {"gaps": {domain: asdict(gap) for domain, gap in gaps.items()}, "weights": self._weights[at]}
            for at, gaps in self._gaps.items()
        }
        self._run.note(_NOTE, {str(at): line for at, line in noted.items()})

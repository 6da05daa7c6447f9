"""A run's log as a picture."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

# A line of noise hides its trend: the mean of the last twentieth of the steps is drawn over it.
_SMOOTHED_SHARE = 0.05
_MANY_POINTS = 40


def draw_curves(lines: Sequence[Mapping[str, float]], title: str, target: Path) -> None:
    """Write a PNG with one curve for each figure whose name ends in `loss`."""
    from matplotlib.figure import Figure

    curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for line in lines:
        for name, value in line.items():
            if name.endswith("loss"):
                curves[name].append((line["step"], value))
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    for place, (name, points) in enumerate(sorted(curves.items())):
        steps, values = zip(*points, strict=True)
        label, colour = name.replace("_", " "), f"C{place}"
        if len(points) > _MANY_POINTS:
            axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
            axes.plot(steps, smooth(values), color=colour, linewidth=1.8, label=label)
        else:
            axes.plot(steps, values, color=colour, linewidth=1.8, marker="o", markersize=4, label=label)
    axes.set_xlabel("step")
    axes.set_ylabel("loss per answer token (nats)")
    highest = max((value for points in curves.values() for _, value in points), default=1.0)
    axes.set_ylim(0, highest * 1.05 or 1.0)
    axes.grid(alpha=0.3)
    axes.set_title(title)
    if curves:
        axes.legend(frameon=False)
    figure.savefig(target, format="png", metadata={"Software": None})


def smooth(values: Sequence[float]) -> list[float]:
    """Each value as the mean of itself and the few before it."""
    width = max(1, round(len(values) * _SMOOTHED_SHARE))
    return [fmean(values[max(0, place - width + 1) : place + 1]) for place in range(len(values))]

"""The timeline of a simulation as a picture: requests waiting and running, and KV cache in use, by engine."""

from collections.abc import Sequence
from pathlib import Path

from cluster.simulation import PlacedReplica, Simulated
from experts.errors import BadRequest


def draw_timeline(simulated: Simulated, placed: Sequence[PlacedReplica], path: Path) -> None:
    """Write the picture; raises BadRequest where the path or its ending cannot be written."""
    # Half a second and its fonts, for those who want a picture only.
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    engines = list(dict.fromkeys(one.settings.engine for one in placed))
    members = {name: [i for i, one in enumerate(placed) if one.settings.engine == name] for name in engines}
    rooms = {name: sum(placed[i].settings.kv_tokens for i in members[name]) for name in engines}
    times = [sample.at_s for sample in simulated.timeline]
    figure, axes = plt.subplots(3, 1, figsize=(10, 8), sharex=True, layout="constrained")
    for name in engines:
        mine = members[name]
        axes[0].plot(times, [sum(sample.waiting[i] for i in mine) for sample in simulated.timeline], label=name)
        axes[1].plot(times, [sum(sample.running[i] for i in mine) for sample in simulated.timeline])
        held = [100 * sum(sample.kv_tokens_used[i] for i in mine) / rooms[name] for sample in simulated.timeline]
        axes[2].plot(times, held)
    for axis, label in zip(axes, ("requests waiting", "requests running", "KV cache in use, %"), strict=True):
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    axes[2].set_xlabel("seconds")
    axes[0].legend(loc="upper right", ncols=4, fontsize="small")
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise BadRequest(f"--plot {path}: cannot be written ({error}); name a .png, .svg or .pdf file") from error
    finally:
        plt.close(figure)

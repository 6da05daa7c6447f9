"""What a model card says of a run."""

from collections.abc import Mapping
from typing import Any, Literal


def describe_run(kind: Literal["adapter", "model"], figures: Mapping[str, Any]) -> dict[str, str]:
    """The card's sections, from the figures of `run.json`."""
    data, trained, exact = (figures[name] for name in ("data", "training", "held_out_exact"))
    guard = figures["guard"]
    found = ", ".join(f"{data[name]} {name}" for name in ("broken", "too long", "contradiction", "leak", "duplicate"))
    results = [
        "| measure | before | after |",
        "| --- | --- | --- |",
        f"| held-out answers exactly right ({data['held_out']} rows) | {exact['before']:.1%} | {exact['after']:.1%} |",
    ]
    if guard is not None:
        results.append(
            f"| general answers exactly right ({guard['rows']} rows) | {guard['before']:.1%} | {guard['after']:.1%} |"
        )
    results += [
        "",
        f"Loss on the last step {trained['loss']:.4f}" + _held_out_loss(trained) + ".",
        "",
        "![curves](curves.png)",
    ]
    return {
        "What it is": f"`{figures['base']}`, fine-tuned ({figures['method']}, seed {figures['seed']}) by "
        "`guildhall adapt sft`. " + describe_serving(kind),
        "Data": f"{', '.join(f'`{name}`' for name in data['files'])}, fingerprint `{data['fingerprint']}`: "
        f"{data['learned']} rows learned, {data['held_out']} held out; found {found}, "
        f"{data['unsupported']} answers that their context may not support.",
        "Results": "\n".join(results),
        "Training": describe_training(figures),
        "Prompt": f"Trained on the prompts of template `{figures['template']}`; a fleet whose prompts have another "
        "refuses it.",
    }


def describe_training(figures: Mapping[str, Any]) -> str:
    """What was computed, on what, how fast and in how much memory."""
    plan, trained = figures["plan"], figures["training"]
    return (
        f"{plan['steps']} steps of {plan['batch_size']} rows ({plan['micro_batch']} at once"
        f"{', activations computed again' if plan['recompute'] else ''}), highest learning rate "
        f"{plan['learning_rate']:g}, {figures['precision']} on {figures['device']}: {trained['seconds']:.0f} s, "
        f"{trained['tokens_per_s']:,.0f} tokens/s, {trained['data_share']:.1%} of the time in data, peak memory "
        f"{figures['peak_gib']:.2f} GiB of {figures['memory_limit_gib']:.2f} allowed."
        + (f" Resumed at step {trained['resumed_at']}; times are of the rest." if trained["resumed_at"] else "")
    )


def _held_out_loss(trained: Mapping[str, Any]) -> str:
    loss = trained["held_out_loss"]
    return "" if loss is None else f", on held-out rows {loss:.4f}"


def describe_serving(kind: Literal["adapter", "model"]) -> str:
    """How a fleet file names the artifact."""
    if kind == "model":
        return "A whole model in `model/`: name that folder as an engine's `model`."
    return "A LoRA adapter in `adapter/`: name that folder as a variant's `adapter`, on an engine with the same base."

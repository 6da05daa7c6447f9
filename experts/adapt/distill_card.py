"""What the model card of a distilled student says."""

from collections.abc import Mapping
from typing import Any

from experts.adapt.card import describe_serving, describe_training


def describe_distillation(figures: Mapping[str, Any]) -> dict[str, str]:
    """The card's sections, from the figures of `run.json`."""
    adapter = figures["teacher_adapter"]
    teacher = f"`{figures['teacher']}`" + (f" with the adapter `{adapter}`" if adapter else "")
    learned = "its probabilities" if figures["learn"] == "logits" else "answers that it wrote"
    drawn = (
        "drawn by how far the student was behind (after DDK, Liu et al. 2024)"
        if figures["sampling"] == "domain_gaps"
        else "drawn all alike"
    )
    results = [
        "The gap is the student's perplexity over the teacher's on held-out rows.",
        "",
        "| domain | tokens trained | gap before | gap after | exactly right before | exactly right after |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for domain, one in figures["domains"].items():
        gap, exact = one["gap"], one["held_out_exact"]
        results.append(
            f"| {domain} | {one['tokens']:,} | {gap['before']:.2f} | {gap['after']:.2f} | {exact['before']:.1%} | "
            f"{exact['after']:.1%} |"
        )
    data = figures["data"]
    return {
        "What it is": f"`{figures['student']}`, distilled from {teacher} by `guildhall adapt distill` (seed "
        f"{figures['seed']}): it learned {learned}, domains {drawn}. {describe_serving(figures['artifact'])}",
        "Data": f"Fingerprint `{data['fingerprint']}`:\n\n"
        + "\n".join(
            f"- {domain}: `{file}`, {data['learned'][domain]} rows learned, {data['held_out'][domain]} held out"
            for domain, file in data["files"].items()
        ),
        "Results": "\n".join([*results, "", "![curves](curves.png)"]),
        "Training": describe_training(figures),
        "Prompt": f"Trained on the prompts of template `{figures['template']}`; a fleet whose prompts have another "
        "refuses it.",
    }

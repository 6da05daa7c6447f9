"""How the command shows plans, answers, the fleet and checks to people; on a terminal or not."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deployments.client import Answered
from deployments.up import UpReport

CITED_CHARS = 110


def print_plan(console: Console, plan: Mapping[str, Any]) -> None:
    """The plan as a table, the reasons for its shape, and microseconds per stage."""
    table = _table("#", "sub-query", "span", "domain", "confidence", "tier", "runner-up", "needs", "variant")
    for part in plan["sub_queries"]:
        runner_up = next((other for other in part["candidates"] if other["domain"] != part["domain"]), None)
        table.add_row(
            str(part["id"]),
            escape(str(part["text"])),
            "{}-{}".format(*part["span"]) if part["span"] else "",
            "[red]refused[/]" if part["refusal"] else f"[bold]{escape(str(part['domain']))}[/]",
            f"{part['confidence']:.2f}",
            escape(str(part["tier"])),
            f"{escape(str(runner_up['domain']))} {runner_up['score']:.2f}" if runner_up else "",
            ", ".join(str(needed) for needed in part["needs"]),
            _describe_variant(part),
        )
    console.print(table)
    for part in plan["sub_queries"]:
        console.print(f"  {part['id']}: {escape(str(part['reason']))}")
        if "variant_reason" in part:
            console.print(f"     {escape(str(part['variant']))}: {escape(str(part['variant_reason']))}")
    for reason in plan.get("reasons", ()):
        console.print(f"  {escape(str(reason))}")
    console.print(f"  {_microseconds(plan.get('timings_s', {}))}", style="dim")


def _describe_variant(part: Mapping[str, Any]) -> str:
    """Who would answer now: 'adapter, right 0.90, cost 1, queue 0'."""
    if "variant" not in part:
        return ""
    right, cost, queue = part["predicted_quality"], part["cost"], part["queue"]
    return f"{escape(str(part['variant']))}, right {right:.2f}, cost {cost:g}, queue {queue}"


def print_plan_line(console: Console, plan: Mapping[str, Any]) -> None:
    """The plan in a few words, before its answer."""
    for part in plan["sub_queries"]:
        needs = part.get("needs") or ()
        after = f" (after {', '.join(str(needed) for needed in needs)})" if needs else ""
        console.print(f"[dim]→[/] [bold]{escape(str(part['domain']))}[/]{after}  {escape(str(part['text']))}")


def print_ending(console: Console, answered: Answered) -> None:
    """Citations, failures and timings below an answer."""
    for citation in answered.guildhall.get("citations", ()):
        line = f"\\[{citation['number']}] {escape(str(citation['title']))}  [dim]{escape(str(citation['source']))}[/]"
        console.print(line, soft_wrap=True)
    for part in answered.guildhall.get("sub_answers", ()):
        if part.get("failure"):
            console.print(f"[red]✗ {escape(str(part['domain']))}: {escape(str(part['failure']['message']))}[/]")
    timings = answered.guildhall.get("timings_s", {})
    shown = [f"{name.replace('_', ' ')} {_duration(seconds)}" for name, seconds in timings.items()]
    tokens = answered.usage.get("completion_tokens")
    if tokens is not None:
        shown.append(f"{tokens} tokens")
    if answered.finish_reason == "length":
        shown.append("cut at the token limit")
    console.print(", ".join(shown), style="dim")


def print_fleet(console: Console, fleet: Mapping[str, Any]) -> None:
    """One line per domain and variant."""
    table = _table("domain", "variant", "engine", "replicas", "running", "requests", "tokens/s", "index", "nodes")
    for line in fleet["domains"]:
        answers = "" if line.get("answers", True) else " (in reserve)"
        generalist = " [dim](generalist)[/]" if line["domain"] == fleet.get("generalist") else ""
        replicas = str(line["replicas"]) if line["replicas"] else "[red]0[/]"
        if line.get("state") == "asleep":
            replicas = f"{line['replicas']} [dim]asleep[/]"
        table.add_row(
            f"[bold]{escape(str(line['domain']))}[/]{generalist}",
            f"{escape(str(line['variant']))}{answers}",
            escape(str(line["engine"])),
            replicas,
            str(line["running"]),
            str(line["requests"]),
            f"{line['tokens_per_s']:.1f}",
            escape(str(line["index_version"] or "none")),
            escape(", ".join(str(node)[:12] for node in line["nodes"])),
        )
    console.print(f"fleet [bold]{escape(str(fleet['name']))}[/]")
    console.print(table)
    for record in fleet.get("scaling", ()):
        _print_scaling(console, record)
    for domain, problem in {line["domain"]: line.get("index_problem") for line in fleet["domains"]}.items():
        if problem:
            console.print(f"[red]✗[/] index of {escape(str(domain))}: {escape(str(problem))}", soft_wrap=True)


def _print_scaling(console: Console, record: Mapping[str, Any]) -> None:
    """Why an engine has the replicas that it has; nothing of one that has its floor for no other reason."""
    if record["policy"] == "floor" and record["replicas"] == record["wanted"] == record["running"]:
        return
    capped = f" [yellow]({escape(str(record['capped']))})[/]" if record["capped"] else ""
    console.print(
        f"engine [bold]{escape(str(record['engine']))}[/]: {record['running']} of {record['replicas']} replicas run; "
        f"{escape(str(record['policy']))}: {escape(str(record['reason']))}{capped}",
        soft_wrap=True,
    )


def print_up(console: Console, report: UpReport) -> None:
    """Where the fleet is, how to ask it and how to stop it."""
    console.print(f"fleet [bold]{report.fleet}[/] answers at [bold]{report.url}[/] after {report.total_s:.1f} s")
    console.print(
        escape('  ask:   guildhall ask "What was the revenue of Norvane Systems in Q2 2025?"'), soft_wrap=True
    )
    console.print("  watch: guildhall status", soft_wrap=True)
    console.print("  stop:  guildhall down", soft_wrap=True)


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _microseconds(timings_s: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {seconds * 1e6:.0f} µs" for name, seconds in timings_s.items())

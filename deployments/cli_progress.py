"""Stages with their elapsed time on stderr: a live table on a terminal, one line per event elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

State = Literal["running", "done", "failed"]

_MARKS: dict[State, str] = {"running": "[cyan]…[/]", "done": "[green]✓[/]", "failed": "[red]✗[/]"}
# Off a terminal, a stage that only counts up says so this often; a log reader wants progress, not a line per poll.
REPEAT_S = 5.0


@dataclass(slots=True)
class _Stage:
    started: float
    state: State = "running"
    detail: str = ""
    ended: float | None = None
    said: float = field(default=float("-inf"))

    def elapsed_s(self) -> float:
        return (self.ended if self.ended is not None else time.monotonic()) - self.started


class Progress:
    """What is under way and how long it takes; `timings_s` has each finished stage, in order of their start."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console if console is not None else Console(stderr=True, highlight=False)
        self._stages: dict[str, _Stage] = {}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(
                console=self.console, get_renderable=self._render, refresh_per_second=8, redirect_stdout=False
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stage in self._stages.values():
            if stage.state == "running":
                stage.state, stage.ended = "failed" if kind is not None else "done", time.monotonic()
        if self._live is not None:
            self._live.stop()
            self._live = None

    @property
    def timings_s(self) -> dict[str, float]:
        return {name: round(stage.elapsed_s(), 3) for name, stage in self._stages.items()}

    def start(self, name: str, detail: str = "") -> None:
        """Begin a stage, or take it up again."""
        self._stages.setdefault(name, _Stage(time.monotonic()))
        self.update(name, detail)

    def update(self, name: str, detail: str) -> None:
        """Say where a running stage stands."""
        stage = self._stages[name]
        now = time.monotonic()
        due = detail != stage.detail and now - max(stage.said, stage.started) >= REPEAT_S
        stage.detail = detail
        if due and self._live is None:
            stage.said = now
            self._say(name, stage)

    def finish(self, name: str, detail: str = "") -> None:
        """End a stage well; a stage that was not begun took no time."""
        self._end(name, "done", detail)

    def fail(self, name: str, detail: str = "") -> None:
        """End a stage badly."""
        self._end(name, "failed", detail)

    def is_running(self, name: str) -> bool:
        return name in self._stages and self._stages[name].state == "running"

    @contextmanager
    def stage(self, name: str, detail: str = "") -> Iterator[None]:
        """A stage that ends with its block; its last detail stays."""
        self.start(name, detail)
        try:
            yield
        except BaseException:
            self.fail(name, self._stages[name].detail)
            raise
        self.finish(name, self._stages[name].detail)

    def say(self, text: str) -> None:
        """A line of its own, above the live table."""
        self.console.print(escape(text))

    def _end(self, name: str, state: State, detail: str) -> None:
        stage = self._stages.setdefault(name, _Stage(time.monotonic()))
        stage.state, stage.ended, stage.detail = state, time.monotonic(), detail
        if self._live is None:
            self._say(name, stage)

    def _say(self, name: str, stage: _Stage) -> None:
        detail = f"  {escape(stage.detail)}" if stage.detail else ""
        line = f"{_MARKS[stage.state]} {stage.elapsed_s():5.1f} s  {escape(name)}{detail}"
        self.console.print(line, soft_wrap=True)

    def _render(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, stage in self._stages.items():
            table.add_row(_MARKS[stage.state], f"{stage.elapsed_s():5.1f} s", escape(name), escape(stage.detail))
        return table

"""The folder of one run: written aside, resumable, and renamed into place when the run is finished.

config.yaml   the config as it was read        log.jsonl   one line per step or measurement
run.json      seed, fingerprints, figures      curves.png  the log, drawn
README.md     the model card                   adapter/ or model/ with guildhall.json
"""

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from experts.errors import ConfigurationError

_LIBRARIES = ("torch", "transformers", "peft", "trl", "tokenizers")


# Folders that this process keeps others out of. A run that is taken up again by the process that left it is no second
# one; a process that dies lets go of what it held.
_held: dict[Path, int] = {}


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run that is under way in `aside` and becomes `output`."""

    output: Path

    @property
    def aside(self) -> Path:
        return self.output.with_name(f"{self.output.name}.unfinished")

    @property
    def checkpoints(self) -> Path:
        return self.aside / "checkpoints"

    def artifact(self, kind: Literal["adapter", "model"]) -> Path:
        """Where what is trained is written, empty."""
        folder = self.aside / kind
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def note(self, name: str, value: Mapping[str, Any]) -> None:
        """Keep what a resumed run must know, whole or not at all."""
        _write(self.aside / f"{name}.json", json.dumps(dict(value), indent=2, default=str) + "\n")

    def read_note(self, name: str) -> dict[str, Any] | None:
        """What was noted before; None if nothing was."""
        path = self.aside / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def log(self, step: int, **figures: float) -> None:
        """Add one line to the log."""
        with (self.aside / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")

    def read_log(self) -> list[dict[str, float]]:
        """The log's lines; one that a kill cut short is none."""
        path = self.aside / "log.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def rewind_log(self, step: int) -> None:
        """Forget what was logged after a step: a resumed run says it again."""
        kept = [json.dumps(line) + "\n" for line in self.read_log() if line["step"] <= step]
        _write(self.aside / "log.jsonl", "".join(kept))

    def draw_curves(self, title: str) -> None:
        """Draw every figure of the log whose name ends in `loss` against the step."""
        from experts.adapt.curves import draw_curves

        draw_curves(self.read_log(), title, self.aside / "curves.png")

    def write_card(self, title: str, sections: Mapping[str, str]) -> None:
        """Write the model card, one heading per section."""
        parts = [f"# {title}", *(f"## {name}\n\n{text.strip()}" for name, text in sections.items())]
        _write(self.aside / "README.md", "\n\n".join(parts) + "\n")

    def finish(self, figures: Mapping[str, Any]) -> Path:
        """Write run.json, remove checkpoints and notes, and rename into place; gives the final folder."""
        self.note("run", {**figures, "versions": observe_versions()})
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        for path in self.aside.glob("*.json"):
            if path.name != "run.json":
                path.unlink()
        for path in [*self.aside.rglob("*"), self.aside]:
            _sync(path)
        replaced = self.output.with_name(f"{self.output.name}.replaced")
        shutil.rmtree(replaced, ignore_errors=True)
        if self.output.exists():
            os.rename(self.output, replaced)
        os.rename(self.aside, self.output)
        _sync(self.output.parent)
        shutil.rmtree(replaced, ignore_errors=True)
        _let_go(self.aside)
        return self.output


def open_run(output: Path, config: Path, settings: Mapping[str, Any], restart: bool) -> RunFolder:
    """The run of these settings: begun, or taken up where it was left.

    Raises ConfigurationError where `output` is finished or another run's, unless `restart` discards what is there: a
    finished run only once the new one is. Raises it too where another process is at that run now.
    """
    run = RunFolder(output)
    if restart:
        with suppress(FileNotFoundError):
            _hold(run.aside)
            shutil.rmtree(run.aside)
    elif output.exists():
        raise ConfigurationError(
            f"output {output} exists; name another output, or give --restart to replace it when the new run is finished"
        )
    before = run.read_note("settings")
    wanted = json.loads(json.dumps(dict(settings), default=str))
    if before is not None and before != wanted:
        changed = sorted(name for name in {*before, *wanted} if before.get(name) != wanted.get(name))
        raise ConfigurationError(
            f"{run.aside} holds an unfinished run with another {', '.join(changed)}; give it back its settings, name "
            "another output, or give --restart to discard it"
        )
    run.aside.mkdir(parents=True, exist_ok=True)
    _hold(run.aside)
    shutil.copyfile(config, run.aside / "config.yaml")
    run.note("settings", wanted)
    return run


def _hold(folder: Path) -> None:
    """Keep other processes out of a folder; raises ConfigurationError where one is in it."""
    _let_go(folder)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise ConfigurationError(
            f"{folder} is the run of another process that goes on; wait for it, end it, or name another output"
        ) from None
    _held[folder] = handle


def _let_go(folder: Path) -> None:
    handle = _held.pop(folder, None)
    if handle is not None:
        os.close(handle)


def observe_versions() -> dict[str, str]:
    """The versions of what trained, where installed."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _sync(path: Path) -> None:
    """Have a file's bytes, or a folder's entries, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.aside")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)

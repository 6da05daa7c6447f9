"""Compares what is installed with a lock file: `python -m k8s.image requirements/cpu.lock` ends the build of an image.

An image that holds another version than the lock is another program than the one that was tested.
"""

import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OURSELVES = "guildhall-serve"


def compare_with_lock(lock: str, installed: Mapping[str, str]) -> tuple[str, ...]:
    """Every difference between a lock file's text and what is installed (canonical name to version); none: equal.

    Lines whose marker does not hold on this machine are left out. What the image's Python brings along (pip) may be
    there beside the lock; anything else may not.
    """
    wanted = {
        canonicalize_name(line.name): str(line.specifier).removeprefix("==")
        for line in _read_lines(lock)
        if line.marker is None or line.marker.evaluate()
    }
    mistakes = [
        f"{name}: {installed[name]} is installed, the lock has {version}"
        if name in installed
        else f"{name}: the lock has {version}, nothing is installed"
        for name, version in wanted.items()
        if installed.get(name) != version
    ]
    beside = sorted(installed.keys() - wanted.keys() - {OURSELVES, "pip", "setuptools", "wheel"})
    return (*mistakes, *(f"{name}: {installed[name]} is installed, the lock does not have it" for name in beside))


def observe_installed() -> dict[str, str]:
    """The distributions of this Python by canonical name."""
    return {canonicalize_name(found.metadata["Name"]): found.version for found in distributions()}


def _read_lines(lock: str) -> Iterator[Requirement]:
    for line in lock.splitlines():
        text = line.partition(" #")[0].strip()
        if text and not text.startswith(("#", "-")):
            yield Requirement(text)


def main(arguments: list[str]) -> int:
    """Say every difference; exit code 1 where there is one."""
    (lock,) = arguments
    mistakes = compare_with_lock(Path(lock).read_text(encoding="utf-8"), observe_installed())
    for mistake in mistakes:
        sys.stderr.write(f"{mistake}\n")
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

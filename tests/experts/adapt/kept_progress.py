"""What the tests of training share: progress that can be read afterwards, and one thread."""

from collections.abc import Iterator

import pytest
import torch


class KeptProgress:
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def start(self, name: str, detail: str = "") -> None: ...

    def update(self, name: str, detail: str) -> None:
        self.lines.append(f"{name}: {detail}")

    def finish(self, name: str, detail: str = "") -> None:
        self.lines.append(f"{name}: {detail}")

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices this small take longer on two threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

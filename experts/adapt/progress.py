"""Where a run says how far it is."""

from typing import Protocol


class Progress(Protocol):
    """Named stages with a detail that changes; `deployments.cli_progress` shows them."""

    def start(self, name: str, detail: str = "") -> None:
        """Begin a stage."""

    def update(self, name: str, detail: str) -> None:
        """Say where a running stage stands."""

    def finish(self, name: str, detail: str = "") -> None:
        """End a stage well."""

    def say(self, text: str) -> None:
        """A line of its own."""

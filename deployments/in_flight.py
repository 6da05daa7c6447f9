"""Limits on what is in flight at one gateway replica; owned by its event loop."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from experts.errors import Overloaded
from experts.fleet import Fleet


class InFlight:
    """Counts holders against a limit; refuses at once instead of queueing, because queues stand at the experts."""

    def __init__(self, what: str, setting: str, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._what = what
        self._setting = setting

    @contextmanager
    def hold(self, observe: Callable[[int], object] | None = None) -> Iterator[None]:
        """Hold one slot for the body of the `with`; raises Overloaded when there is none.

        `observe` is given the number held, after it changed.
        """
        if self.held >= self.limit:
            raise Overloaded(
                f"{self._what} has {self.held} requests in flight, limit {self.limit}; "
                f"retry later or raise {self._setting}"
            )
        self.held += 1
        try:
            if observe is not None:
                observe(self.held)
            yield
        finally:
            self.held -= 1
            if observe is not None:
                observe(self.held)


class Slots:
    """The gateway's own limit and one per domain; limits change with the fleet, holders stay counted."""

    def __init__(self) -> None:
        self.gateway = InFlight("the gateway", "gateway.max_in_flight", 1)
        self._domains: dict[str, InFlight] = {}

    @property
    def domains(self) -> Mapping[str, InFlight]:
        return self._domains

    def apply_limits(self, fleet: Fleet) -> None:
        """Take the limits of a fleet."""
        self.gateway.limit = fleet.gateway.max_in_flight
        for name, domain in fleet.domains.items():
            slot = self._domains.get(name)
            if slot is None:
                self._domains[name] = InFlight(
                    f"domain '{name}'", f"domains.{name}.max_in_flight", domain.max_in_flight
                )
            else:
                slot.limit = domain.max_in_flight

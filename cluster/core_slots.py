"""Cores that steps take turns on: the lock of a core is held for one step, and by nobody who has died."""

from cluster.ledger_locks import LedgerLocks


class CoreSlots:
    """The cores that this process holds for its step."""

    def __init__(self, locks: LedgerLocks, cores: int) -> None:
        self._locks = locks
        self._cores = cores
        self._held: list[int] = []

    def try_take(self, threads: int) -> bool:
        """Take a core for every thread, as many as there are at most, or none: who waits holds nothing."""
        wanted = min(threads, self._cores)
        for core in range(self._cores):
            if len(self._held) == wanted:
                break
            if self._locks.try_core(core):
                self._held.append(core)
        if len(self._held) < wanted:
            self.give_back()
            return False
        return True

    def give_back(self) -> None:
        """Give back what is held; nothing where nothing is."""
        for core in self._held:
            self._locks.release_core(core)
        self._held.clear()

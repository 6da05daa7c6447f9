"""Slots on a node's cores, which steps take and give back; a slot's lock is held by nobody who has died."""

from cluster.ledger_locks import LedgerLocks

# Steps at the same time on one core, which the system shares out. With one, short steps waited for long ones: four
# engines on two cores had 30 % of their answers within twice the latency of one alone, where with two they had 72 %.
SLOTS_PER_CORE = 2


class CoreSlots:
    """The slots that this process holds for its step."""

    def __init__(self, locks: LedgerLocks, cores: int) -> None:
        self._locks = locks
        self._slots = SLOTS_PER_CORE * cores
        self._held: list[int] = []

    def take(self, most: int) -> int:
        """Take free slots until `most` are held or none is free; how many are held."""
        for slot in range(self._slots):
            if len(self._held) >= most:
                break
            if slot not in self._held and self._locks.try_slot(slot):
                self._held.append(slot)
        return len(self._held)

    def give_back(self) -> None:
        """Give back what is held; nothing where nothing is."""
        for slot in self._held:
            self._locks.release_slot(slot)
        self._held.clear()

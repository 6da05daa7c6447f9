"""The quotas of this process's node, read from its ledger for people and metrics."""

from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import Any

from cluster.ledger import Ledger
from cluster.quota_reasons import explain_quotas
from cluster.quotas import set_quotas


class NodeQuotas:
    """Reads the ledger of one node; opens it once there is one, and once only (see `LedgerLocks`)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ledger: Ledger | None = None
        # The event loop and the thread that hands metrics on both read.
        self._opening = Lock()

    def read(self) -> list[dict[str, Any]]:
        """Each living engine's `QuotaReason`, by device and claim."""
        with self._opening:
            if self._ledger is None:
                if not self._path.exists():
                    return []
                self._ledger = Ledger.open(self._path)
        return [
            asdict(reason) for load in self._ledger.read_devices() for reason in explain_quotas(load, set_quotas(load))
        ]

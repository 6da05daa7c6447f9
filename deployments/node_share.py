"""One engine's part in its node: keeps its rows, has its quota computed and takes cores, in the engine-core process."""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock, Thread

from cluster.core_slots import CoreSlots
from cluster.ledger import BEAT_S, STALE_S, Ledger, Row
from cluster.ledger_layout import Entry
from cluster.node_load import DeviceLoad, EngineLoad
from cluster.quotas import Quota, Settled, find_shortage, set_quotas, settle_quota
from deployments.engine_sharing import EngineSharing, find_slo
from experts.errors import ConfigurationError
from experts.fleet import Slo

# A step that finds no free core goes ahead after this long: sharing may slow an engine, never stop it.
_CORES_WAIT_S = 0.25
# How often a waiting step asks for cores, times its place in the order: far below a step, far above what asking costs.
_CORES_POLL_S = 0.0001
# The row of an engine that was killed and starts again may look alive for this long.
_DEAD_ROW_S = 4 * STALE_S


@dataclass(frozen=True, slots=True)
class StepShare:
    """What the next step may use."""

    kv_bytes: int
    tokens: int
    admit: bool
    """Whether new requests may begin."""
    cores: int
    """What a step with enough work may use."""
    turn: int
    crowded: bool
    """Whether steps take turns on the cores."""


class NodeShare:
    """An engine's rows, one for each of its devices, and its quota in force: the smallest of its devices'.

    The engine's thread calls all methods. A thread of its own beats, and lowers the quota of an engine
    without requests, so that nobody waits for its next step.
    """

    def __init__(self, sharing: EngineSharing, devices: tuple[str, ...], load: EngineLoad) -> None:
        """Claims the rows; `load` is the engine's before any request.

        Raises ConfigurationError where the node's KV memory cannot hold one sequence of each of its engines.
        """
        self._sharing = sharing
        self.slo = Slo(ttft_s=sharing.ttft_s, tpot_s=sharing.tpot_s)
        """What the engine owes its users; replaced as a whole where `write_slo` says another."""
        self._node_cores = count_cores()
        self._ledger = Ledger.open(Path(sharing.ledger))
        self._slots = CoreSlots(self._ledger.locks, self._node_cores)
        self._lock = Lock()
        self._quota_bytes = load.pool_bytes if sharing.kv_bytes is None else 0
        self._load = load
        self._rows: dict[str, Row] = {device: self._ledger.claim(self._make_entry(device, 0)) for device in devices}
        self._ended = Event()
        self._write()
        Thread(target=self._keep_beating, name="guildhall-ledger", daemon=True).start()
        self._await_room()

    def settle(self, load: EngineLoad) -> StepShare:
        """Put the load into the ledger, and bring the quota in force as near to what it should be as the others let."""
        with self._lock:
            self._load = load
            self._write()
            return self._settle()

    def take_core(self, share: StepShare) -> None:
        """Wait for a core, where engines have to take turns; not for long."""
        if not share.crowded:
            return
        last = time.monotonic() + _CORES_WAIT_S
        while not self._slots.take(1) and time.monotonic() < last:
            time.sleep(_CORES_POLL_S * (1 + share.turn))

    def take_more_cores(self, share: StepShare) -> int:
        """Take what is free of the cores that a step with enough work may use; how many threads it may run."""
        return max(1, self._slots.take(share.cores)) if share.crowded else share.cores

    def give_cores_back(self) -> None:
        """The step is over."""
        self._slots.give_back()

    def end_work(self, load: EngineLoad) -> None:
        """Say that no request is left: from now on others may have what the engine does not need."""
        with self._lock:
            self._load = load
            self._write()
            self._lower()

    def close(self) -> None:
        """Leave the ledger."""
        if self._ended.is_set():
            return
        self._ended.set()
        with self._lock:
            for row in self._rows.values():
                self._ledger.release(row)
            self._rows.clear()

    @property
    def quota_bytes(self) -> int:
        """The quota in force."""
        return self._quota_bytes

    def _settle(self) -> StepShare:
        loads, quotas, settled = self._plan()
        wanted = min(s.kv_bytes for s in settled)
        if wanted > self._quota_bytes and self._ledger.locks.try_table():
            # Two engines that raise at the same time would both take what only one can have.
            try:
                loads, quotas, settled = self._plan()
                self._put(min(s.kv_bytes for s in settled))
            finally:
                self._ledger.locks.release_table()
        elif wanted < self._quota_bytes:
            self._put(wanted)
        # On a GPU the device itself parts its time.
        crowded = self._sharing.device == "cpu" and any(
            sum(e.threads for e in load.engines) > load.cores for load in loads
        )
        return StepShare(
            self._quota_bytes,
            min(q.tokens_per_step for q in quotas),
            all(s.admit for s in settled),
            min(q.cores_per_step for q in quotas),
            max(q.turn for q in quotas),
            crowded,
        )

    def _lower(self) -> None:
        """Leave to others what they need and an engine without requests does not; it is raised by the next step."""
        wanted = min(s.kv_bytes for s in self._plan()[2])
        if wanted < self._quota_bytes:
            self._put(wanted)

    def _plan(self) -> tuple[list[DeviceLoad], list[Quota], list[Settled]]:
        loads = [self._ledger.read(device) for device in self._rows]
        quotas = [set_quotas(load).find(row.claim) for load, row in zip(loads, self._rows.values(), strict=True)]
        return loads, quotas, [settle_quota(load, quota) for load, quota in zip(loads, quotas, strict=True)]

    def _put(self, quota_bytes: int) -> None:
        self._quota_bytes = quota_bytes
        self._write()

    def _write(self) -> None:
        for device, row in self._rows.items():
            row.write(self._make_entry(device, row.claim))

    def _make_entry(self, device: str, claim: int) -> Entry:
        load = replace(
            self._load,
            device=device,
            claim=claim,
            quota_bytes=self._quota_bytes,
            ttft_s=self.slo.ttft_s,
            tpot_s=self.slo.tpot_s,
        )
        return Entry(load, self._sharing.kv_bytes, self._node_cores)

    def _keep_beating(self) -> None:
        slo_file, slo_read = find_slo(self._sharing), 0.0
        while not self._ended.wait(BEAT_S):
            for row in tuple(self._rows.values()):
                row.beat()
            if (written := _observe_change(slo_file)) != slo_read:
                self.slo, slo_read = Slo.model_validate_json(slo_file.read_text()), written
            if self._load.active:
                continue
            with self._lock:
                if self._rows and not self._load.active:
                    self._lower()

    def _await_room(self) -> None:
        """Raise ConfigurationError unless one sequence of every engine fits, dead rows aside."""
        last = time.monotonic() + _DEAD_ROW_S
        while any(short := [find_shortage(self._ledger.read(device)) for device in self._rows]):
            if time.monotonic() > last:
                self.close()
                raise ConfigurationError(
                    f"engine '{self._sharing.engine}': the KV memory that the engines of this node share lacks "
                    f"{max(short) / 2**20:.1f} MiB for one sequence of each; raise sharing.kv_cache_gib or lower "
                    "max_model_len"
                )
            time.sleep(BEAT_S)


def _observe_change(file: Path) -> float:
    """When a file was written last; 0 where there is none."""
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def count_cores() -> int:
    """Cores that this process may use: those it is bound to, within the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        allowed, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if allowed == "max" else max(1, min(cores, int(allowed) // int(period)))

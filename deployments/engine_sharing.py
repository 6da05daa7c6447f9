"""What an engine's process is told of the node that it shares."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from cluster.ledger import Ledger
from deployments.environment import read_environment
from experts.fleet import Engine, Fleet, Slo

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # the one place where a file is memory
ADDITIONAL_CONFIG_KEY = "guildhall"


@dataclass(frozen=True, slots=True)
class EngineSharing:
    """Settings of `deployments.quota_scheduler`; they reach the engine-core process as vLLM's `additional_config`."""

    ledger: str
    engine: str
    device: Literal["cpu", "gpu"]
    kv_bytes: int | None
    """KV memory that the engines of a node share; None: each has its own pool."""
    threads: int
    """Cores that a step uses."""
    ttft_s: float
    tpot_s: float

    def to_engine_kwargs(self) -> dict[str, Any]:
        """The vLLM arguments that make an engine share its node."""
        # vLLM schedules the next step of a GPU while one runs, with another class; on CPUs it never does.
        scheduler = "AsyncQuotaScheduler" if self.device == "gpu" else "QuotaScheduler"
        return {
            "scheduler_cls": f"deployments.quota_scheduler.{scheduler}",
            "additional_config": {ADDITIONAL_CONFIG_KEY: asdict(self)},
        }


def plan_fleet_sharing(fleet: Fleet) -> dict[str, Any]:
    """What every replica is told of the sharing: what changes here needs new engine processes."""
    return {"fleet": fleet.name, "kv_cache_gib": fleet.sharing.kv_cache_gib if fleet.sharing is not None else None}


def plan_sharing(name: str, engine: Engine, sharing: Mapping[str, Any]) -> EngineSharing:
    """How one engine shares the node that this process is on; `sharing` is from `plan_fleet_sharing`.

    Its SLO is the default one until `write_slo`.
    """
    kv_gib = sharing["kv_cache_gib"] if engine.device == "cpu" else None
    return EngineSharing(
        ledger=str(find_ledger(sharing["fleet"], read_environment().data_dir)),
        engine=name,
        device=engine.device,
        kv_bytes=int(kv_gib * 2**30) if kv_gib is not None else None,
        threads=count_threads(engine),
        ttft_s=Slo().ttft_s,
        tpot_s=Slo().tpot_s,
    )


def choose_strictest_slo(fleet: Fleet, engine: str) -> Slo:
    """What an engine owes its users: the strictest of its domains'."""
    slos = [domain.slo for domain in fleet.domains_of(engine).values()] or [Slo()]
    return Slo(ttft_s=min(slo.ttft_s for slo in slos), tpot_s=min(slo.tpot_s for slo in slos))


def write_slo(sharing: EngineSharing, slo: Mapping[str, Any]) -> None:
    """Tell the engines of this name on this node what they owe, while they run (`NodeShare` reads it)."""
    path = find_slo(sharing)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = path.with_name(f"{path.name}.{os.getpid()}")
    made.write_text(json.dumps({"ttft_s": slo["ttft_s"], "tpot_s": slo["tpot_s"]}))
    made.replace(path)


def find_slo(sharing: EngineSharing) -> Path:
    """The file in which `write_slo` leaves it."""
    return Path(f"{sharing.ledger}.{sharing.engine}.slo")


def count_threads(engine: Engine) -> int:
    """Cores that one step of an engine uses."""
    return max(1, int(engine.cpus))


def find_ledger(fleet: str, data_dir: Path) -> Path:
    """Where the ledger of a fleet lies on each of its nodes: fleets with other data are strangers."""
    folder = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    return folder / f"guildhall-{os.getuid()}" / f"{fleet}-{sha256(str(data_dir).encode()).hexdigest()[:12]}.ledger"


def remove_ledgers(data_dir: Path) -> None:
    """Remove what fleets with this data have left in this node's shared memory, where none of their engines lives."""
    every = find_ledger("*", data_dir)
    for ledger in every.parent.glob(every.name):
        if Ledger.remove(ledger):
            for slo in ledger.parent.glob(f"{ledger.name}.*.slo"):
                slo.unlink(missing_ok=True)

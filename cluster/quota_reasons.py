"""The quotas of a node as a person reads them: who has what, from whom, and why."""

from dataclasses import dataclass

from cluster.node_load import DeviceLoad
from cluster.quotas import Quota, Quotas

_MIB = 2**20


@dataclass(frozen=True, slots=True)
class NamedLoan:
    """A loan by the names of its engines; a lender of None is the node."""

    lender: str | None
    borrower: str
    kv_bytes: int


@dataclass(frozen=True, slots=True)
class QuotaReason:
    """One engine on one device: what it may hold, holds and wants, and the sentence that says why."""

    engine: str
    device: str
    running: int
    waiting: int
    in_force_bytes: int
    quota_bytes: int
    share_bytes: int
    floor_bytes: int
    used_bytes: int
    wanted_bytes: int
    tokens_per_step: int
    turn: int
    loans: tuple[NamedLoan, ...]
    reason: str


def explain_quotas(load: DeviceLoad, quotas: Quotas) -> tuple[QuotaReason, ...]:
    """What `set_quotas` decided on a snapshot, in words."""
    names = {engine.claim: engine.engine for engine in load.engines}
    reasons = []
    for engine, quota in zip(load.engines, quotas.quotas, strict=True):
        loans = tuple(
            NamedLoan(names[loan.lender] if loan.lender is not None else None, names[loan.borrower], loan.kv_bytes)
            for loan in quota.loans
        )
        sentence = _explain(quota, loans, len(load.engines), load.kv_bytes)
        if engine.quota_bytes != quota.kv_bytes and load.kv_bytes is not None:
            sentence += (
                f"; {_mib(engine.quota_bytes)} in force until others give theirs back"
                if engine.quota_bytes < quota.kv_bytes
                else f"; {_mib(engine.quota_bytes)} in force until its running requests end"
            )
        reasons.append(
            QuotaReason(
                engine.engine,
                load.device,
                engine.running,
                engine.waiting,
                engine.quota_bytes,
                quota.kv_bytes,
                quota.share_bytes,
                quota.floor_bytes,
                engine.used_bytes,
                engine.wanted_bytes,
                quota.tokens_per_step,
                quota.turn,
                loans,
                sentence,
            )
        )
    return tuple(reasons)


def _explain(quota: Quota, loans: tuple[NamedLoan, ...], engines: int, kv_bytes: int | None) -> str:
    if kv_bytes is None:
        return f"its own pool of {_mib(quota.kv_bytes)}; the engines of this device share no KV memory"
    of = f"of {_mib(kv_bytes)} for {engines} engine{'s' if engines > 1 else ''}"
    if quota.why == "borrows":
        lenders = ", ".join(f"{_mib(loan.kv_bytes)} from {loan.lender or 'what no share holds'}" for loan in loans)
        return f"wants more than its share of {_mib(quota.share_bytes)} and borrows {lenders}"
    if quota.why == "lends":
        borrowers = ", ".join(f"{_mib(loan.kv_bytes)} to {loan.borrower}" for loan in loans)
        return f"needs less than its share of {_mib(quota.share_bytes)} and lends {borrowers}; keeps {_floor(quota)}"
    if quota.why == "short":
        return f"its part {of}, which do not hold one sequence of each"
    return f"its share {of}; never lends {_floor(quota)}"


def _floor(quota: Quota) -> str:
    return f"its floor of {_mib(quota.floor_bytes)}"


def _mib(kv_bytes: int) -> str:
    return f"{kv_bytes / _MIB:.1f} MiB"

"""The reasons of quotas as people read them."""

from benchmarks.engine_load import MIB, make_load
from cluster.node_load import DeviceLoad, EngineLoad
from cluster.quota_reasons import explain_quotas
from cluster.quotas import set_quotas


def explain(*engines: EngineLoad, kv_mib: int | None = 64) -> list[str]:
    load = DeviceLoad("cpu", kv_mib * MIB if kv_mib is not None else None, 2, engines)
    return [reason.reason for reason in explain_quotas(load, set_quotas(load))]


def test_lenders_and_borrowers_name_each_other_and_say_what_is_in_force_meanwhile() -> None:
    busy = make_load(1, engine="law", running=9, wanted_bytes=64 * MIB, quota_bytes=16 * MIB)
    idle = [make_load(claim, engine=f"e{claim}", quota_bytes=16 * MIB) for claim in (2, 3, 4)]
    assert explain(busy, *idle) == [
        "wants more than its share of 16.0 MiB and borrows 12.0 MiB from e2, 12.0 MiB from e3, 12.0 MiB from e4; "
        "16.0 MiB in force until others give theirs back",
        *(
            "needs less than its share of 16.0 MiB and lends 12.0 MiB to law; keeps its floor of 4.0 MiB; "
            "16.0 MiB in force until its running requests end"
            for _ in idle
        ),
    ]


def test_shares_pools_and_shortage_are_said() -> None:
    assert explain(make_load(1, quota_bytes=64 * MIB)) == [
        "its share of 64.0 MiB for 1 engine; never lends its floor of 4.0 MiB"
    ]
    assert explain(make_load(1), kv_mib=None) == [
        "its own pool of 64.0 MiB; the engines of this device share no KV memory"
    ]
    assert (
        explain(make_load(1, quota_bytes=3 * MIB), make_load(2, quota_bytes=3 * MIB), kv_mib=6)
        == ["its part of 6.0 MiB for 2 engines, which do not hold one sequence of each"] * 2
    )


def test_what_is_less_than_a_block_is_not_called_a_loan() -> None:
    engines = [make_load(claim, block_bytes=3 * MIB, running=1, wanted_bytes=63 * MIB) for claim in (1, 2)]
    reasons = explain(*engines, kv_mib=65)
    assert [reason.split(";")[0] for reason in reasons] == ["its share of 65.0 MiB for 2 engines"] * 2

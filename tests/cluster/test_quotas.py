"""Quotas: their sum fits, floors hold, spare memory goes where it is wanted and comes back, and nobody starves."""

import random
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.node_load import DeviceLoad, EngineLoad
from cluster.quotas import find_shortage, set_quotas, settle_quota
from tests.cluster.engine_loads import MIB, device_loads, make_load

many = settings(max_examples=60, deadline=None)


def make_device(*engines: EngineLoad, kv_mib: int | None = 64, cores: int = 2) -> DeviceLoad:
    return DeviceLoad("cpu", kv_mib * MIB if kv_mib is not None else None, cores, engines)


def busy(claim: int, wanted_mib: int = 64, **changes: Any) -> EngineLoad:
    wanted = wanted_mib * MIB
    return make_load(
        claim, running=8, waiting=8, oldest_at=1.0, prefill_tokens=100, wanted_bytes=wanted, stepped_at=9.0, **changes
    )


@many
@given(device_loads)
def test_the_quotas_never_exceed_the_memory_and_are_whole_blocks_of_each_pool(load: DeviceLoad) -> None:
    quotas = set_quotas(load).quotas
    if load.kv_bytes is not None:
        assert sum(quota.kv_bytes for quota in quotas) <= load.kv_bytes
    for quota, engine in zip(quotas, load.engines, strict=True):
        assert 0 <= quota.kv_bytes <= engine.pool_bytes
        assert quota.kv_bytes % engine.block_bytes == 0
        assert 1 <= quota.tokens_per_step <= engine.max_tokens
        assert 1 <= quota.cores_per_step <= engine.threads


@many
@given(device_loads)
def test_nobody_is_below_the_floor_and_a_floor_holds_a_request(load: DeviceLoad) -> None:
    for quota, engine in zip(set_quotas(load).quotas, load.engines, strict=True):
        assert quota.kv_bytes >= min(quota.floor_bytes, quota.share_bytes)
        if not find_shortage(load):
            # Shares are cut down to whole blocks, which a block of another engine may cost.
            assert quota.floor_bytes >= min(engine.request_bytes, engine.least_bytes) or load.kv_bytes is None
            assert quota.share_bytes >= engine.least_bytes


@many
@given(device_loads, st.integers(0, 2**32))
def test_every_engine_computes_the_same_quotas_in_whatever_order_it_read_the_rows(load: DeviceLoad, seed: int) -> None:
    engines = list(load.engines)
    random.Random(seed).shuffle(engines)
    again = replace(load, engines=tuple(sorted(engines, key=lambda engine: engine.claim)))
    assert set_quotas(again) == set_quotas(load)


@many
@given(device_loads)
def test_what_is_borrowed_is_what_others_lend_and_reasons_say_so(load: DeviceLoad) -> None:
    quotas = set_quotas(load)
    for quota in quotas.quotas:
        lent = sum(loan.kv_bytes for loan in quota.loans if loan.lender == quota.claim)
        borrowed = sum(loan.kv_bytes for loan in quota.loans if loan.borrower == quota.claim)
        engine = load.find(quota.claim)
        assert not (lent and borrowed)
        assert quota.kv_bytes == (quota.share_bytes - lent + borrowed) // engine.block_bytes * engine.block_bytes
        if quota.why in ("lends", "borrows"):
            assert (quota.why == "lends") == (lent > 0)


@many
@given(device_loads)
def test_nobody_lends_what_it_wants_itself(load: DeviceLoad) -> None:
    for quota, engine in zip(set_quotas(load).quotas, load.engines, strict=True):
        if quota.why == "lends":
            assert quota.kv_bytes + engine.block_bytes > min(engine.wanted_bytes, quota.share_bytes)


@many
@given(device_loads)
def test_the_turns_are_an_order_and_idle_engines_come_last(load: DeviceLoad) -> None:
    quotas = set_quotas(load).quotas
    assert sorted(quota.turn for quota in quotas) == list(range(len(quotas)))
    active = [q.turn for q, e in zip(quotas, load.engines, strict=True) if e.active]
    assert sorted(active) == list(range(len(active)))


def test_an_engine_alone_has_all_that_its_pool_can_hold() -> None:
    assert set_quotas(make_device(busy(1), kv_mib=40)).quotas[0].kv_bytes == 40 * MIB
    assert set_quotas(make_device(make_load(1), kv_mib=100)).quotas[0].kv_bytes == 64 * MIB


def test_idle_engines_keep_equal_shares_while_nobody_wants_more() -> None:
    quotas = set_quotas(make_device(make_load(1), make_load(2), make_load(3), make_load(4))).quotas
    assert [quota.kv_bytes for quota in quotas] == [16 * MIB] * 4
    assert {quota.why for quota in quotas} == {"share"}


def test_a_busy_engine_borrows_what_the_others_need_not_and_the_loans_name_both() -> None:
    quotas = set_quotas(make_device(busy(1), make_load(2), make_load(3), make_load(4))).quotas
    assert [quota.kv_bytes // MIB for quota in quotas] == [52, 4, 4, 4]
    assert [quota.why for quota in quotas] == ["borrows", "lends", "lends", "lends"]
    assert [(loan.lender, loan.kv_bytes // MIB) for loan in quotas[0].loans] == [(2, 12), (3, 12), (4, 12)]


def test_two_busy_engines_borrow_alike_whatever_the_sizes_of_their_blocks() -> None:
    quotas = set_quotas(make_device(busy(1), busy(2, block_bytes=MIB // 4), make_load(3), make_load(4))).quotas
    assert [quota.kv_bytes // MIB for quota in quotas] == [28, 28, 4, 4]


def test_an_owner_who_wants_its_share_has_it_whatever_others_want() -> None:
    quotas = set_quotas(make_device(busy(1), busy(2, 12), make_load(3), make_load(4))).quotas
    assert quotas[1].kv_bytes == 16 * MIB or quotas[1].kv_bytes >= 12 * MIB
    crowded = set_quotas(make_device(busy(1), busy(2), busy(3), busy(4))).quotas
    assert [quota.kv_bytes // MIB for quota in crowded] == [16] * 4


def test_a_floor_grows_as_the_ttft_nears_the_time_in_which_loans_come_back() -> None:
    def floor(ttft_s: float) -> int:
        device = make_device(busy(1, hold_s=4.0), make_load(2, ttft_s=ttft_s))
        return set_quotas(device).quotas[1].floor_bytes // MIB

    assert [floor(10.0), floor(1.0), floor(0.5), floor(0.1)] == [4, 16, 32, 32]


def test_an_engine_without_requests_keeps_a_usual_request_and_has_its_share_again_when_it_wants_it() -> None:
    idle, again = make_load(2, request_bytes=2 * MIB), make_load(2, request_bytes=2 * MIB, wanted_bytes=30 * MIB)
    assert set_quotas(make_device(busy(1), idle)).quotas[1].kv_bytes == 2 * MIB
    assert set_quotas(make_device(busy(1), again)).quotas[1].kv_bytes == 30 * MIB


def test_too_little_memory_is_parted_and_said() -> None:
    device = make_device(busy(1), busy(2), kv_mib=6)
    assert find_shortage(device) == 2 * MIB
    assert [(quota.kv_bytes // MIB, quota.why) for quota in set_quotas(device).quotas] == [(3, "short"), (3, "short")]


def test_a_loan_is_given_back_as_requests_end_and_none_begins_meanwhile() -> None:
    owner, pool = busy(2, quota_bytes=4 * MIB), 64 * MIB
    borrower = busy(1, quota_bytes=60 * MIB, used_bytes=40 * MIB, running_bytes=50 * MIB, pool_bytes=pool)
    device = make_device(borrower, owner)
    target = set_quotas(device).find(1)
    assert target.kv_bytes == 32 * MIB
    fresh = replace(device, engines=(borrower, replace(owner, oldest_at=8.9)))
    assert settle_quota(fresh, target) == settle_quota(fresh, set_quotas(fresh).find(1))
    assert (settle_quota(fresh, target).kv_bytes, settle_quota(fresh, target).admit) == (50 * MIB, False)
    # A tenth of its TTFT gone, the owner need not wait for the longest end.
    assert settle_quota(device, target).kv_bytes == 40 * MIB
    done = replace(device, engines=(replace(borrower, used_bytes=8 * MIB, running_bytes=20 * MIB), owner))
    assert settle_quota(done, target).kv_bytes == 32 * MIB
    assert settle_quota(done, target).admit


@many
@given(seed=st.integers(0, 2**32), kv_mib=st.sampled_from([None, 8, 64, 200]))
def test_in_force_the_sum_never_passes_the_memory_at_any_step(seed: int, kv_mib: int | None) -> None:
    """Engines come, work, are killed and settle in any order; a killed one's memory is somebody else's afterwards."""
    draw = random.Random(seed)
    device = DeviceLoad("cpu", kv_mib * MIB if kv_mib is not None else None, 2, ())
    claims = 0
    for _ in range(80):
        engines = list(device.engines)
        action = draw.choice(["start", "kill", "step", "step", "step", "step", "step", "step"])
        if action == "start" and len(engines) < 6:
            claims += 1
            engines.append(make_load(claims, sequence_bytes=MIB))
        elif action == "kill" and engines:
            engines.pop(draw.randrange(len(engines)))
        elif action == "step" and engines:
            at = draw.randrange(len(engines))
            used = draw.randint(0, engines[at].quota_bytes // MIB) * MIB
            running = draw.randint(used // MIB, 64) * MIB
            engines[at] = replace(
                engines[at],
                running=used // MIB,
                waiting=draw.randint(0, 3),
                oldest_at=draw.uniform(0, 10),
                used_bytes=used,
                running_bytes=running,
                wanted_bytes=draw.randint(running // MIB, 128) * MIB,
                stepped_at=draw.uniform(0, 10),
            )
            seen = replace(device, engines=tuple(engines))
            settled = settle_quota(seen, set_quotas(seen).find(engines[at].claim))
            assert settled.kv_bytes >= used
            engines[at] = replace(engines[at], quota_bytes=settled.kv_bytes)
        device = replace(device, engines=tuple(engines))
        if device.kv_bytes is not None:
            assert sum(max(engine.quota_bytes, engine.used_bytes) for engine in engines) <= device.kv_bytes


@many
@given(device_loads)
def test_when_running_requests_end_every_engine_comes_to_its_quota(load: DeviceLoad) -> None:
    """After a dead row is gone and requests have ended, two rounds of steps are enough, in whatever order."""
    engines = [replace(e, used_bytes=0, running_bytes=0, quota_bytes=0) for e in load.engines]
    for _ in range(2):
        for at, engine in enumerate(engines):
            seen = replace(load, engines=tuple(engines))
            settled = settle_quota(seen, set_quotas(seen).find(engine.claim))
            engines[at] = replace(engine, quota_bytes=settled.kv_bytes)
    final = set_quotas(replace(load, engines=tuple(engines)))
    assert [engine.quota_bytes for engine in engines] == [quota.kv_bytes for quota in final.quotas]


def test_prefills_step_before_decodes_and_who_stepped_last_goes_last() -> None:
    engines = (
        make_load(1, running=4, stepped_at=9.99),
        make_load(2, running=4, waiting=1, prefill_tokens=9, oldest_at=5.0, stepped_at=9.99),
        make_load(3, running=4, waiting=1, prefill_tokens=9, oldest_at=4.0, stepped_at=10.0),
        make_load(4, running=4, stepped_at=9.95),
        make_load(5),
    )
    assert [quota.turn for quota in set_quotas(make_device(*engines)).quotas] == [3, 0, 1, 2, 4]


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 8), st.integers(0, 7))
def test_a_decoding_engine_steps_although_the_others_prefill_without_end(others: int, start: int) -> None:
    """One core; each step lasts 50 ms, every other engine always has a prompt."""
    engines = [make_load(1, running=1, stepped_at=float(start))]
    engines += [
        make_load(claim, waiting=5, prefill_tokens=500, oldest_at=0.0, stepped_at=float(start))
        for claim in range(2, others + 2)
    ]
    now, stepped = float(start), []
    for _ in range(20 * (others + 1)):
        now += 0.05
        quotas = set_quotas(make_device(*engines, cores=1)).quotas
        first = min(range(len(engines)), key=lambda at: quotas[at].turn)
        engines[first] = replace(engines[first], stepped_at=now)
        stepped.append(engines[first].claim)
    assert set(stepped) == {engine.claim for engine in engines}
    longest = max(len(run) for run in "".join(str(int(claim == 1)) for claim in stepped).split("1"))
    assert longest <= others + 3


def test_a_long_prefill_is_cut_where_another_engine_decodes_on_the_same_cores() -> None:
    prompt = busy(1, token_s=0.001, max_tokens=2048)
    decode, other = make_load(2, running=3, tpot_s=0.4), busy(3)

    def limit(*engines: EngineLoad, cores: int) -> int:
        return set_quotas(make_device(*engines, cores=cores)).quotas[0].tokens_per_step

    # Three engines with requests are one more than a core has slots.
    assert limit(prompt, decode, replace(other, running=0), cores=1) == 208
    assert limit(prompt, decode, cores=1) == 2048
    assert limit(prompt, decode, other, cores=2) == 2048
    assert limit(*(replace(engine, threads=2) for engine in (prompt, decode, other)), cores=2) == 2048


def test_engines_with_requests_have_the_cores_in_equal_parts() -> None:
    def part(active: int, threads: int, cores: int) -> list[int]:
        engines = [busy(at, threads=threads) if at < active else make_load(at, threads=threads) for at in range(4)]
        return [quota.cores_per_step for quota in set_quotas(make_device(*engines, cores=cores)).quotas]

    assert part(active=1, threads=4, cores=4) == [4, 2, 2, 2]
    assert part(active=2, threads=4, cores=4) == [2, 2, 1, 1]
    assert part(active=4, threads=2, cores=2) == [1, 1, 1, 1]
    assert part(active=4, threads=2, cores=8) == [2, 2, 2, 2]

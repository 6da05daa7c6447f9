"""What a replica says of its own load."""

import time

import pytest
from prometheus_client import CollectorRegistry, Gauge

from deployments.expert_call import Finished, TextDelta
from deployments.replica_load import RECENT_S, ReplicaLoad
from router.question import Usage


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_request_waits_until_its_first_text_and_is_in_flight_until_it_ends(clock: list[float]) -> None:
    load = ReplicaLoad(CollectorRegistry())
    with load.hold("law") as visit:
        clock[0] += 0.5
        waiting = load.record()
        load.note(visit, TextDelta("Yes"))
        clock[0] += 2
        answering = load.record()
        load.note(visit, Finished("stop", Usage(30, 5), {}))
    ended = load.record()
    assert [(figures["in_flight"], figures["waiting"]) for figures in (waiting, answering, ended)] == [
        (1, 1),
        (1, 0),
        (0, 0),
    ]
    assert ended["arrived"] == 1
    assert ended["answer_s"] == 2, "without its wait for the first token"


def test_a_request_that_still_waits_counts_as_late_before_any_has_been_answered(clock: list[float]) -> None:
    load = ReplicaLoad(CollectorRegistry())
    with load.hold("law"):
        clock[0] += 7
        assert load.record()["ttft_s.law"] == 7


def test_times_to_first_token_are_those_of_each_domain_and_are_forgotten(clock: list[float]) -> None:
    load = ReplicaLoad(CollectorRegistry())
    for domain, seconds in [("law", 0.1)] * 9 + [("law", 4.0)] * 2 + [("art", 0.2)]:
        with load.hold(domain) as visit:
            clock[0] += seconds
            load.note(visit, TextDelta("a"))
    figures = load.record()
    assert figures["ttft_s.law"] == pytest.approx(4.0), "nine of ten are not late, the tenth is"
    assert figures["ttft_s.art"] == pytest.approx(0.2)
    clock[0] += RECENT_S + 1
    assert load.record()["ttft_s.law"] == 0


def test_an_answer_that_comes_in_one_piece_is_not_late_for_being_long(clock: list[float]) -> None:
    load = ReplicaLoad(CollectorRegistry())
    with load.hold("law", streams=False) as visit:
        clock[0] += 20
        figures = load.record()
        load.note_text(visit)
    assert (figures["in_flight"], figures["waiting"]) == (1, 0)
    assert load.record().get("ttft_s.law", 0) == 0


def test_vllms_queue_and_kv_cache_are_read_where_it_counts_them(clock: list[float]) -> None:
    registry = CollectorRegistry()
    Gauge("vllm:kv_cache_usage_perc", "", registry=registry).set(0.75)
    Gauge("vllm:num_requests_waiting", "", registry=registry).set(3)
    load = ReplicaLoad(registry)
    with load.hold("law") as visit:
        load.note(visit, Finished("stop", Usage(200, 5), {}))
    figures = load.record()
    assert figures["kv_use"] == 0.75
    assert figures["waiting_tokens"] == 600, "three prompts like those before"


def test_a_request_that_fails_leaves_nothing_behind(clock: list[float]) -> None:
    load = ReplicaLoad(CollectorRegistry())
    with pytest.raises(RuntimeError), load.hold("law"):
        raise RuntimeError
    figures = load.record()
    assert (figures["in_flight"], figures["waiting"], figures["arrived"]) == (0, 0, 1)

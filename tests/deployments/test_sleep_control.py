"""Which engines sleep with a domain, what the fleet then says of itself, and which settings of it are mistakes."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.expert_call import ReplicaState
from deployments.fleet_status import describe_state, explain_unready
from deployments.sleep_control import choose_engines
from experts.errors import BadRequest
from experts.fleet import Fleet
from experts.fleet_file import check_fleet


def make_document(**engine: Any) -> dict[str, Any]:
    return {
        "name": "drowsy",
        "engines": {"shared": {"model": "x/y", "max_adapters": 2, **engine}, "own": {"model": "x/z"}},
        "domains": {
            "law": {
                "description": "Contracts and courts.",
                "variants": {"a": {"engine": "shared"}, "b": {"engine": "own"}},
            },
            "art": {"description": "Painters and paintings.", "variants": {"a": {"engine": "shared"}}},
            "rest": {"description": "Everything else.", "variants": {"a": {"engine": "own"}}},
        },
        "generalist": "rest",
        "nodes": {"here": {"cpus": 8, "memory_gib": 16, "gpus": 1, "gpu_memory_gib": 80}},
    }


def make_fleet(**engine: Any) -> Fleet:
    return Fleet.model_validate(make_document(**engine))


def state(asleep: bool) -> ReplicaState:
    return ReplicaState("shared", "r", "n", 0, {}, {}, {}, 1.0, asleep=asleep)


def test_engine_sleeps_for_all_its_domains_and_the_other_engine_of_the_domain_stays_awake() -> None:
    assert choose_engines(make_fleet(sleep={"idle_sleep_s": 60}), "law") == {"shared": ("law", "art")}


def test_domain_without_an_engine_that_may_sleep_is_told_which_key_to_add() -> None:
    fleet = make_fleet()
    with pytest.raises(BadRequest, match=r"'law' has no engine .* sleep: shared, own .* add engines.shared.sleep"):
        choose_engines(fleet, "law")
    with pytest.raises(BadRequest, match="no domain 'lore' in fleet 'drowsy'; it has law, art, rest"):
        choose_engines(fleet, "lore")


def test_fleet_says_asleep_only_where_the_next_request_wakes_and_is_ready_all_the_while() -> None:
    cpu = make_fleet(sleep={"idle_sleep_s": 60})
    gpu = make_fleet(sleep={"idle_sleep_s": 60}, device="gpu")
    never = make_fleet()
    assert describe_state(cpu.engines["shared"], []) == "asleep"
    assert describe_state(gpu.engines["shared"], [state(True)]) == "asleep"
    assert describe_state(gpu.engines["shared"], [state(True), state(False)]) == "serving"
    assert describe_state(gpu.engines["shared"], []) == describe_state(never.engines["shared"], []) == "unavailable"
    own = ReplicaState("own", "r", "n", 0, {}, {}, {}, 1.0)
    assert explain_unready(cpu, [own]) == []
    assert len(explain_unready(never, [own])) == 1


def observe_mistakes(folder: Path, **engine: Any) -> str:
    file = folder / "fleet.yaml"
    file.write_text(yaml.safe_dump(make_document(**engine)))
    return "\n".join(check_fleet(file).mistakes)


def test_deep_sleep_with_adapters_is_a_mistake_since_it_would_lose_them(tmp_path: Path) -> None:
    assert "set level: 1" in observe_mistakes(tmp_path, device="gpu", sleep={"level": 2})
    assert observe_mistakes(tmp_path, device="gpu", sleep={"level": 1}) == ""
    assert observe_mistakes(tmp_path, device="gpu", sleep={"level": 2}, max_adapters=0) == ""


def test_machine_that_the_fleet_does_not_have_is_a_mistake(tmp_path: Path) -> None:
    assert observe_mistakes(tmp_path, placed_on=["here-1"]) == ""
    for name in ("here-2", "here-0", "here", "there-1"):
        assert "known machines: here-1 to here-1" in observe_mistakes(tmp_path, placed_on=[name])

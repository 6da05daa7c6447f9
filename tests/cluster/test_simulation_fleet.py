"""What is simulated of a fleet file."""

from pathlib import Path
from typing import Any

import pytest

from cluster.placement import plan_placement
from cluster.profile import Profile
from cluster.simulation import simulate
from cluster.simulation_fleet import SimulatedFleet, list_simulated
from cluster.simulation_requests import Arrival
from experts.errors import ConfigurationError
from experts.fleet import Fleet

WEIGHTS = str(Path(__file__).parents[2] / "experts" / "pocket" / "weights" / "base")


def list_two(kv_cache_gib: float = 0.1, **settings: Any) -> SimulatedFleet:
    """Two pocket engines on one machine with two cores."""
    engine = {"model": WEIGHTS, "dtype": "bfloat16", "max_model_len": 1024, "kv_cache_gib": kv_cache_gib}
    names = ("first", "second")
    fleet = Fleet.model_validate(
        {
            "name": "two",
            "engines": dict.fromkeys(names, engine),
            "domains": {
                name: {"description": "Questions of one domain.", "variants": {"base": {"engine": name}}}
                for name in names
            },
            "generalist": "first",
            "nodes": {"here": {"cpus": 2, "memory_gib": 4}},
            **settings,
        }
    )
    return list_simulated(fleet, plan_placement(fleet).assignments, Profile({}), {})


def test_engines_with_cores_and_memory_of_their_own_share_nothing() -> None:
    found = list_two()
    assert found.share is None
    assert found.engines == {"first": "first", "second": "second"}
    assert found.computed == ("first", "second")
    assert {one.node for one in found.replicas} == {"here-1"}
    # 0.1 GiB of the pocket base, 3 KiB a token, in blocks of 128.
    assert {one.settings.kv_tokens for one in found.replicas} == {int(0.1 * 2**30) // 3072 // 128 * 128}


def test_engines_that_share_memory_get_quotas_of_it() -> None:
    found = list_two(sharing={"kv_cache_gib": 0.1})
    arrivals = [Arrival(0.001 * k, "first", 500, 100) for k in range(40)]
    done = simulate(arrivals, found.replicas, found.engines, found.cores, found.share)
    assert found.share is not None
    assert all(request.ended_at is not None for request in done.requests)
    alone = list_two()
    free = simulate(arrivals, alone.replicas, alone.engines, alone.cores, alone.share)
    # The other engine's floor is not lent.
    assert done.ended_at_s >= free.ended_at_s


def test_an_engine_without_room_for_its_context_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"engine 'first' has room for \d+ tokens of KV cache on here-1"):
        list_two(kv_cache_gib=0.001)

"""Sharing machines: floors first, then evenly by weight, never more than there is."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cluster.scaling_share import Claim, Room, measure_room, share_replicas
from experts.fleet import Domain, Engine, Fleet, NodeType, Variant
from experts.scaling_settings import FleetScaling


def claim(engine: str, needed: int, **changes: Any) -> Claim:
    fields: dict[str, Any] = {"floor": 1, "needed": needed, "wanted": needed, "running": 0, "weight": 1.0}
    return Claim(engine, **(fields | {"gpus": 1.0, "cpus": 1.0} | changes))


def share(claims: list[Claim], gpus: float, **room: Any) -> dict[str, int]:
    return {name: grant.replicas for name, grant in share_replicas(claims, Room(gpus, 1000, **room)).items()}


def test_where_there_is_room_everybody_gets_what_it_wants() -> None:
    grants = share_replicas([claim("a", 3), claim("b", 5)], Room(8, 8))
    assert {name: (grant.replicas, grant.reason) for name, grant in grants.items()} == {"a": (3, ""), "b": (5, "")}


def test_a_huge_spike_leaves_every_other_engine_its_floor() -> None:
    claims = [claim("spike", 1000, weight=50.0), claim("quiet", 2, floor=2), claim("law", 1)]
    grants = share_replicas(claims, Room(10, 1000))
    assert {name: grant.replicas for name, grant in grants.items()} == {"spike": 7, "quiet": 2, "law": 1}
    assert grants["spike"].reason == "1000 wanted, but the fleet has no more GPUs"


def test_shares_are_even_by_weight_and_who_needs_less_gets_all_of_it() -> None:
    assert share([claim("a", 12), claim("b", 12)], 12) == {"a": 6, "b": 6}
    assert share([claim("a", 12, weight=2.0), claim("b", 12)], 12) == {"a": 8, "b": 4}
    assert share([claim("a", 24), claim("b", 3)], 16) == {"a": 13, "b": 3}


def test_what_is_only_held_gives_way_to_what_is_needed() -> None:
    assert share([claim("a", 6), claim("past", 1, wanted=6, running=6)], 8) == {"a": 6, "past": 2}


def test_equals_do_not_take_turns_with_what_runs() -> None:
    assert share([claim("a", 4, running=1), claim("b", 4, running=2)], 3) == {"a": 1, "b": 2}
    assert share([claim("a", 4, running=2), claim("b", 4, running=1)], 3) == {"a": 2, "b": 1}


def test_an_engine_that_names_a_node_type_is_held_to_its_machines() -> None:
    claims = [claim("big", 9, node_type="large"), claim("small", 9)]
    grants = share_replicas(claims, Room(12, 1000, {"large": (4.0, 500.0), "plain": (8.0, 500.0)}))
    assert {name: grant.replicas for name, grant in grants.items()} == {"big": 4, "small": 8}
    assert grants["big"].reason.endswith("no more GPUs of node type large")


def test_room_is_what_the_nodes_have_or_the_fleets_caps() -> None:
    fields: dict[str, Any] = {
        "name": "office",
        "engines": {"small": Engine(model="a/b")},
        "domains": {"all": Domain(description="Everything.", variants={"full": Variant(engine="small")})},
        "generalist": "all",
        "nodes": {"one": NodeType(count=3, cpus=8, memory_gib=1, gpus=2)},
    }
    assert measure_room(Fleet(**fields)) == Room(6, 24, {"one": (6, 24)})
    capped = measure_room(Fleet(**fields, scaling=FleetScaling(max_gpus=4)))
    assert (capped.gpus, capped.cpus) == (4, 24)


CLAIMS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 40),
        st.integers(0, 20),
        st.floats(0.1, 100),
        st.sampled_from([0.25, 1.0, 2.0]),
    ),
    min_size=1,
    max_size=6,
)


@given(CLAIMS, st.floats(0, 60))
def test_floors_are_kept_and_nothing_beyond_the_room_is_granted(rows: list[Any], gpus: float) -> None:
    claims = [
        claim(str(index), needed, floor=floor, wanted=needed + held, weight=weight, gpus=size)
        for index, (floor, needed, held, weight, size) in enumerate(rows)
    ]
    granted = share(claims, gpus)
    floors = {claim.engine: min(claim.floor, claim.wanted) for claim in claims}
    assert all(floors[claim.engine] <= granted[claim.engine] <= claim.wanted for claim in claims)
    used = sum(granted[claim.engine] * claim.gpus for claim in claims)
    assert used <= max(gpus, sum(floors[claim.engine] * claim.gpus for claim in claims)) + 1e-3
    # Nobody is left short while a replica of its own would fit.
    for one in claims:
        assert granted[one.engine] == one.wanted or used + one.gpus > gpus - 1e-3

"""A fleet in containers is open to the pod network, and its indexes are where every pod can read them."""

import pytest

from experts.errors import ConfigurationError
from k8s.container_fleet import HOME, plan_container_fleet
from tests.cluster.test_moved_fleet import PROJECT, make_fleet


def test_the_gateway_is_open_to_the_pod_network_and_so_asks_for_keys() -> None:
    fleet = plan_container_fleet(make_fleet(), PROJECT)
    assert fleet.gateway.host == "0.0.0.0"
    assert fleet.engines["own"].model == f"{HOME}/models/own"


def test_an_index_in_a_folder_of_this_machine_is_refused() -> None:
    domains = make_fleet().model_dump()["domains"]
    domains["web"]["index"]["location"] = "/data/web"
    with pytest.raises(ConfigurationError, match=r"domains\.web\.index\.location .* or name a URL"):
        plan_container_fleet(make_fleet(domains=domains), PROJECT)

"""Runs the experts' contract against the real adapter, as a driver of a running fleet's own Ray.

python -m tests.deployments.contract_on_ray FLEET_FILE
"""

import asyncio
import dataclasses
import sys
from pathlib import Path

from deployments.environment import read_environment
from deployments.expert_call import ExpertRequest, Sampling
from deployments.local_ray import find_local_ray
from deployments.up import connect_ray
from experts.fleet_file import load_fleet
from tests.deployments.experts_contract import (
    check_cancel_gives_back,
    check_failure_is_data,
    check_order_of_events,
    check_scores_are_given_where_asked,
)


async def check(fleet_file: Path) -> None:
    from deployments.serve_experts import ServeExperts

    experts = ServeExperts(load_fleet(fleet_file))

    async def count_running() -> int:
        return sum(state.running for state in await experts.observe())

    request = ExpertRequest("contract-1", "plain", "full", "Tell me.", None, Sampling(max_tokens=400, temperature=1.0))
    short = dataclasses.replace(request, sampling=Sampling(max_tokens=8, temperature=0))
    await check_order_of_events(experts, short)
    await check_scores_are_given_where_asked(experts, dataclasses.replace(short, request_id="contract-2"))
    await check_failure_is_data(experts, dataclasses.replace(short, text="Why? " * 3000))
    await check_cancel_gives_back(experts, request, count_running)


def main() -> None:
    environment = read_environment()
    with connect_ray(find_local_ray(environment.data_dir), environment):
        asyncio.run(check(Path(sys.argv[1])))
    sys.stdout.write("the contract holds\n")


if __name__ == "__main__":
    main()

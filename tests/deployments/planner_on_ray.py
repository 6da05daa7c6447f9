"""Asks the generalist of a running fleet for plans, as a driver of the fleet's own Ray, and writes what came as JSON.

python -m tests.deployments.planner_on_ray FLEET_FILE QUESTION...
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from deployments.environment import read_environment
from deployments.expert_call import ExpertEvent, ExpertRequest, TextDelta
from deployments.in_flight import Slots
from deployments.local_ray import find_local_ray
from deployments.planner_tier import plan_with_generalist
from deployments.up import connect_ray
from experts.fleet import Fleet
from experts.fleet_file import load_fleet
from router.question import Question
from tests.deployments.fakes import build_plan, build_sub_query

DEADLINE_S = 120


async def plan(fleet: Fleet, text: str) -> dict[str, Any]:
    """What the planner made of a question, with the text that it wrote and the schema that it was held to."""
    from deployments.serve_experts import ServeExperts

    class Heard(ServeExperts):
        """The real experts, written down."""

        def __init__(self) -> None:
            super().__init__(fleet)
            self.texts: list[str] = []
            self.schema: Any = None

        async def answer(self, request: ExpertRequest) -> AsyncIterator[ExpertEvent]:
            assert request.sampling.response_format is not None
            self.schema = request.sampling.response_format["json_schema"]["schema"]
            async for event in super().answer(request):
                if isinstance(event, TextDelta):
                    self.texts.append(event.text)
                yield event

    heard = Heard()
    slots = Slots()
    slots.apply_limits(fleet)
    answer = await plan_with_generalist(
        heard,
        fleet,
        slots.domains,
        Question(text),
        build_plan(build_sub_query(0, text, fleet.generalist)),
        request_id="planner",
        deadline=asyncio.get_running_loop().time() + DEADLINE_S,
    )
    return {
        "outcome": answer.outcome,
        "reason": answer.reason,
        "seconds": answer.seconds,
        "parts": [(part.text, part.domain) for part in answer.parts],
        "raw": "".join(heard.texts),
        "schema": heard.schema,
    }


async def plan_all(fleet_file: Path, questions: Sequence[str]) -> list[dict[str, Any]]:
    # Two sub-queries: whatever a generalist that cannot plan rambles, they fit into half of its 1,024 tokens.
    fleet = load_fleet(fleet_file)
    fleet = fleet.model_copy(update={"router": fleet.router.model_copy(update={"max_sub_queries": 2})})
    return [await plan(fleet, text) for text in questions]


def main() -> None:
    environment = read_environment()
    with connect_ray(find_local_ray(environment.data_dir), environment):
        planned = asyncio.run(plan_all(Path(sys.argv[1]), sys.argv[2:]))
    sys.stdout.write(json.dumps(planned) + "\n")


if __name__ == "__main__":
    main()

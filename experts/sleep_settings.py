"""When an expert sleeps, as the fleet file says it."""

from typing import Literal

from pydantic import Field

from experts.settings import Settings


class Sleep(Settings):
    """When an engine sleeps, and how deeply; its next request wakes it."""

    idle_sleep_s: float = Field(
        default=900, gt=0, le=604_800, description="Seconds without a request after which the engine sleeps."
    )
    level: Literal[1, 2] = Field(
        default=1,
        description="On a GPU. 1: the weights wait in the node's memory; 2: they are loaded from disk again. Without a "
        "GPU the replica ends, and starts again with the next request.",
    )

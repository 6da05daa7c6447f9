"""Ways to say one thing, in two parts that never meet: for training, and held out for evaluation."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from experts.pocket.alternatives import split_alternatives


@dataclass(frozen=True)
class Templates:
    """Format strings with the same slots."""

    trained: Sequence[str]
    held_out: Sequence[str]

    def draw(self, rng: random.Random, held_out: bool, **slots: str) -> str:
        """One of them, filled in."""
        return rng.choice(self.held_out if held_out else self.trained).format(**slots)


def read_templates(trained: str, held_out: str) -> Templates:
    """Templates from texts with bars between the alternatives."""
    return Templates(split_alternatives(trained), split_alternatives(held_out))

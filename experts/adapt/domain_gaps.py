"""How far a student is behind its teacher in each domain, and how often each domain is drawn because of it.

After DDK (Liu et al. 2024, "DDK: Distilling Domain Knowledge for Efficient Large Language Models"): the gap of a domain
is the student's perplexity over the teacher's on held-out rows; a domain is drawn in proportion to its gap, the
proportions are measured again as training goes, and each new one is blended with the one before.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DomainGap:
    """Mean loss in nats per answer token on a domain's held-out rows, of the student and of its teacher."""

    student_loss: float
    teacher_loss: float

    @property
    def ratio(self) -> float:
        """The student's perplexity over the teacher's: 1 where the student has caught up."""
        return math.exp(self.student_loss - self.teacher_loss)


def share_evenly(domains: Mapping[str, object]) -> dict[str, float]:
    """Weights that draw every domain as often as any other."""
    return dict.fromkeys(domains, 1 / len(domains))


def plan_weights(
    gaps: Mapping[str, DomainGap], before: Mapping[str, float], smoothing: float, even_share: float
) -> dict[str, float]:
    """The share of tokens that each domain gets next; the shares add up to 1.

    `before` are the shares until now and `smoothing` what is kept of them, in [0, 1). `even_share` is dealt out evenly,
    so that no domain is given up; the rest goes by the gaps.
    """
    # The largest is taken out first: a fresh student may be e^20 behind, and no sum of those may overflow.
    highest = max(gap.student_loss - gap.teacher_loss for gap in gaps.values())
    behind = {name: math.exp(gap.student_loss - gap.teacher_loss - highest) for name, gap in gaps.items()}
    total = sum(behind.values())
    return {
        name: smoothing * before[name] + (1 - smoothing) * ((1 - even_share) * share / total + even_share / len(gaps))
        for name, share in behind.items()
    }

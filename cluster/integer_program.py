"""Integer programs and their solver: HiGHS (Q. Huangfu, J. Hall, Math. Prog. Comp. 10, 2018) as scipy ships it.

Why this solver: docs/decisions/0007-planner-solver.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, inf

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class IntegerProgram:
    """Minimise `costs` over columns within their bounds and rows within theirs; columns and rows count from 0."""

    costs: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    integral: list[bool] = field(default_factory=list)
    row_lower: list[float] = field(default_factory=list)
    row_upper: list[float] = field(default_factory=list)
    entries: list[tuple[int, int, float]] = field(default_factory=list)

    def add_column(self, cost: float = 0.0, upper: float = inf, *, integral: bool = True) -> int:
        """A column from 0 to `upper`."""
        self.costs.append(cost)
        self.upper.append(upper)
        self.integral.append(integral)
        return len(self.costs) - 1

    def add_row(self, terms: Mapping[int, float], lower: float = -inf, upper: float = inf) -> None:
        row = len(self.row_lower)
        self.row_lower.append(lower)
        self.row_upper.append(upper)
        self.entries += [(row, column, factor) for column, factor in terms.items() if factor]


@dataclass(frozen=True, slots=True)
class Solution:
    """`values` are None without a solution; `bound` is below every solution's cost; `infeasible` says there is none."""

    values: NDArray[np.float64] | None
    bound: float
    infeasible: bool


def solve_program(program: IntegerProgram, time_limit_s: float, gap: float) -> Solution:
    """The best solution found until the time is up or it is proven to be within `gap` of the best there is."""
    # Half a second of imports, which only planning needs.
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    rows, columns, factors = np.array(program.entries, float).reshape(-1, 3).T
    shape = (len(program.row_lower), len(program.costs))
    matrix = csr_array((factors, (rows.astype(int), columns.astype(int))), shape=shape)
    result = milp(
        np.array(program.costs),
        integrality=np.array(program.integral, int),
        bounds=Bounds(0, np.array(program.upper)),
        constraints=LinearConstraint(matrix, program.row_lower, program.row_upper),
        options={"time_limit": time_limit_s, "mip_rel_gap": gap},
    )
    bound = -inf if result.mip_dual_bound is None else float(result.mip_dual_bound)
    return Solution(result.x, bound, result.status == 2)


def round_bound(bound: float, step: int) -> float:
    """The least multiple of `step` that a cost in whole steps can have above a bound; 0 steps: the bound itself."""
    return ceil(bound / step - 1e-6) * step if step and np.isfinite(bound) else bound

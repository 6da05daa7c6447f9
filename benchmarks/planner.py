"""The planner at the sizes that it promises: time, GPUs and proven gap, its greedy start and other solvers beside it.

Small: MuxServe's 19 LLMs on 32 GPUs. Large: 200 experts on 1,000 GPUs. All contenders solve the same integer program,
and what they find is put on the same GPUs. Each runs in a process of its own: the libraries of highspy and OR-tools
bring HiGHS along in versions that one process cannot hold. Run with `make bench-planner`.
"""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from multiprocessing import get_context
from typing import Any

import numpy as np

from benchmarks.planner_fleets import ALPHAS, AZURE, SHAREGPT, Case, build_case
from benchmarks.result import save_result, summarize
from cluster.candidates import Task, list_task
from cluster.greedy_selection import choose_greedily
from cluster.integer_program import Solution, round_bound, solve_program
from cluster.packing import Selection, pack_selection
from cluster.placement_program import PlacementProgram, build_program
from cluster.planner import plan_fewest_gpus, plan_most_throughput
from cluster.profile import Profile

SMALL_LIMIT_S, LARGE_LIMIT_S = 5.0, 60.0
# No placement has more replicas of one kind on one mesh size; CP-SAT wants finite columns.
MOST = 100_000

Solve = Callable[[PlacementProgram, float, Selection], Solution]


def main() -> None:
    small = [build_case("19 experts, 32 GPUs", 19, 4, alpha, 40, "A100-80G", SHAREGPT) for alpha in ALPHAS]
    large = [build_case("200 experts, 1000 GPUs", 200, 125, *rest, "H100", AZURE) for rest in ((0.7, 160), (0.9, 480))]
    cases = [measure_case(case, SMALL_LIMIT_S, 3) for case in small]
    cases += [measure_case(case, LARGE_LIMIT_S, 1) for case in large]
    overload = [
        measure_throughput(build_case("19 experts, 32 GPUs", 19, 4, alpha, 80, "A100-80G", SHAREGPT))
        for alpha in ALPHAS
    ]
    path = save_result("planner", {"fewest_gpus": cases, "most_throughput": overload, "replan": measure_replan()})
    print(f"wrote {path}")


def measure_case(case: Case, limit_s: float, repeats: int) -> dict[str, Any]:
    """The planner as users call it, then the contenders on the same program."""
    seconds, planned, task = [], None, None
    for _ in range(repeats):
        started = time.perf_counter()
        task = list_task(case.fleet, case.demand, Profile({}))
        planned = plan_fewest_gpus(task, limit_s)
        seconds.append(time.perf_counter() - started)
    assert task is not None
    assert planned is not None, f"{case.name}: no placement found"
    assert planned.proof is not None
    contenders = {}
    for name in SOLVERS:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            contenders[name] = process.submit(measure_solver, task, name, limit_s).result()
    figures = {
        "case": case.name,
        "gpus": planned.gpus,
        "replicas": len(planned.placement.assignments),
        "bound": planned.proof.bound / 100,
        "gap": planned.proof.gap,
        "method": planned.proof.method,
        "seconds": summarize(seconds),
        "contenders": {"greedy": measure_greedy(task), **contenders},
    }
    print(case.name, planned.gpus, f"gap {planned.proof.gap:.2%}", f"{max(seconds):.2f} s", contenders, flush=True)
    return figures


def measure_greedy(task: Task) -> dict[str, Any]:
    started = time.perf_counter()
    selection = choose_greedily(task, task.rates)
    assert selection is not None
    packing = pack_selection(task, selection)
    figures = {"seconds": time.perf_counter() - started, "gpus": packing.gpus}
    return figures | {"replicas_without_room": sum(packing.left.values())}


def measure_solver(task: Task, name: str, limit_s: float) -> dict[str, Any]:
    """One solver alone: the program built, solved within the limit, and put on GPUs."""
    greedy = choose_greedily(task, task.rates)
    assert greedy is not None
    SOLVERS[name](build_program(task, "fewest-gpus"), 0.01, greedy)  # imports
    started = time.perf_counter()
    built = build_program(task, "fewest-gpus")
    solution = SOLVERS[name](built, limit_s, greedy)
    figures: dict[str, Any] = {
        "seconds": time.perf_counter() - started,
        "bound": round_bound(solution.bound, 100) / 100,
    }
    if solution.values is None:
        return figures | {"gpus": None, "gap": None}
    packing = pack_selection(task, built.read_selection(solution.values), built.read_patterns(solution.values))
    gap = (packing.gpus - figures["bound"]) / packing.gpus
    return figures | {"gpus": packing.gpus, "gap": gap, "replicas_without_room": sum(packing.left.values())}


def measure_throughput(case: Case) -> dict[str, Any]:
    """More asked for than the GPUs carry: what is served, and what could be at most."""
    started = time.perf_counter()
    task = list_task(case.fleet, case.demand, Profile({}))
    planned = plan_most_throughput(task, SMALL_LIMIT_S)
    seconds = time.perf_counter() - started
    assert planned is not None
    assert planned.proof is not None
    proof = planned.proof
    asked = sum(task.rates.values())
    print(case.name, "served", proof.value, "of", asked, f"gap {proof.gap:.2%} {seconds:.2f} s", flush=True)
    figures = {"case": case.name, "asked_per_s": asked, "served_per_s": proof.value, "bound_per_s": proof.bound}
    return figures | {"gap": proof.gap, "method": proof.method, "seconds": seconds}


def measure_replan() -> dict[str, Any]:
    """One expert's rate doubles: replicas started by a plan that knows what runs, and by one that does not."""
    case = build_case("19 experts, 32 GPUs", 19, 4, 0.9, 30, "A100-80G", SHAREGPT)
    before = plan_fewest_gpus(list_task(case.fleet, case.demand, Profile({})), SMALL_LIMIT_S)
    assert before is not None
    traffic = dict(case.demand.domains)
    traffic["e000"] = traffic["e000"].model_copy(update={"requests_per_s": 2 * traffic["e000"].requests_per_s})
    demand = case.demand.model_copy(update={"domains": traffic})
    running = before.placement.assignments
    task = list_task(case.fleet, demand, Profile({}), running)
    knows = plan_fewest_gpus(task, SMALL_LIMIT_S)
    forgets = plan_fewest_gpus(replace(task, current=()), SMALL_LIMIT_S)
    assert knows is not None
    assert forgets is not None
    places = {(one.engine, one.shares) for one in running}
    moved = sum((one.engine, one.shares) not in places for one in forgets.placement.assignments)
    figures = {"case": f"{case.name}, the rate of e000 doubles", "replicas_running": len(running)}
    return figures | {
        "knows_what_runs": {"gpus": knows.gpus, "started": knows.started},
        "plans_anew": {"gpus": forgets.gpus, "started": moved},
    }


def solve_with_scipy(built: PlacementProgram, limit_s: float, greedy: Selection) -> Solution:
    return solve_program(built.program, limit_s, 0.0)


def solve_with_highspy(built: PlacementProgram, limit_s: float, greedy: Selection) -> Solution:
    """HiGHS with the greedy choice as its start."""
    import highspy

    program = built.program
    model = highspy.Highs()
    model.setOptionValue("output_flag", False)
    model.setOptionValue("time_limit", limit_s)
    model.setOptionValue("mip_rel_gap", 0.0)
    for cost, upper in zip(program.costs, program.upper, strict=True):
        model.addCol(cost, 0.0, min(upper, highspy.kHighsInf), 0, [], [])
    whole = [column for column, integral in enumerate(program.integral) if integral]
    model.changeColsIntegrality(len(whole), np.array(whole), np.array([highspy.HighsVarType.kInteger] * len(whole)))
    for row, terms in enumerate(list_rows(built)):
        columns, factors = np.array(list(terms), np.int32), np.array(list(terms.values()))
        model.addRow(program.row_lower[row], program.row_upper[row], len(columns), columns, factors)
    start = list_start(built, greedy)
    model.setSolution(len(start), np.array(list(start), np.int32), np.array(list(start.values()), float))
    model.run()
    info = model.getInfo()
    found = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    values = np.array(model.getSolution().col_value) if found else None
    return Solution(values, info.mip_dual_bound, model.getModelStatus() == highspy.HighsModelStatus.kInfeasible)


def solve_with_cp_sat(built: PlacementProgram, limit_s: float, greedy: Selection) -> Solution:
    """CP-SAT with the greedy choice as a hint, on both cores of the machine."""
    from ortools.sat.python import cp_model

    program = built.program
    model = cp_model.CpModel()
    variables = [model.new_int_var(0, int(min(upper, MOST)), "") for upper in program.upper]
    for row, terms in enumerate(list_rows(built)):
        assert all(factor == int(factor) for factor in terms.values()), "CP-SAT takes whole factors"
        lower, upper = (int(max(-1e12, min(1e12, limit))) for limit in (program.row_lower[row], program.row_upper[row]))
        expression = sum(int(factor) * variables[column] for column, factor in terms.items())
        model.add_linear_constraint(expression, lower, upper)
    model.minimize(sum(int(cost) * variable for cost, variable in zip(program.costs, variables, strict=True) if cost))
    for column, value in list_start(built, greedy).items():
        model.add_hint(variables[column], value)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = limit_s
    solver.parameters.num_workers = 2
    status = solver.solve(model)
    found = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    values = np.array([solver.value(variable) for variable in variables], float) if found else None
    return Solution(values, solver.best_objective_bound, status == cp_model.INFEASIBLE)


def list_rows(built: PlacementProgram) -> list[dict[int, float]]:
    rows: list[dict[int, float]] = [{} for _ in built.program.row_lower]
    for row, column, factor in built.program.entries:
        rows[row][column] = factor
    return rows


def list_start(built: PlacementProgram, greedy: Selection) -> dict[int, int]:
    """The columns of candidates as the greedy choice sets them."""
    chosen = {id(choice.candidate) for choice in greedy.values()}
    return {column: int(id(candidate) in chosen) for column, candidate in built.choices.items()}


# The last two only where they are installed: pip install highspy ortools.
SOLVERS: dict[str, Solve] = {
    "HiGHS by scipy": solve_with_scipy,
    **({"HiGHS by highspy, greedy start": solve_with_highspy} if find_spec("highspy") else {}),
    **({"CP-SAT, greedy hint": solve_with_cp_sat} if find_spec("ortools") else {}),
}


if __name__ == "__main__":
    main()

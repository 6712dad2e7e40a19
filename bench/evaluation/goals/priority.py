"""G5: who is critical is served before others at half load, and nobody starves for it."""

from __future__ import annotations

from bench.evaluation.case import FIRST_COME, Case
from bench.evaluation.crew import Task
from bench.evaluation.figures import WISHES
from bench.evaluation.line import Line, Target
from bench.evaluation.results import Results, Spread

RATE = 11.0


def list_tasks(workload: str) -> list[Task]:
    """Ours, and the same in order of arrival."""
    return [(Case(workload, RATE), False), (Case(workload, RATE, changes=(FIRST_COME,)), False)]


def judge(results: Results, workload: str) -> list[Line]:
    """A wish starves if its longest wait is more than twice that of first come, first served."""
    ours, in_turn = Case(workload, RATE), Case(workload, RATE, changes=(FIRST_COME,))
    waits = {one: results.ratio(ours, in_turn, f"longest_wait_{one}_s") for one in WISHES}
    seconds: dict[str, Spread | None] = {one: results.spread(ours, f"longest_wait_{one}_s") for one in WISHES}
    saved = {"11/min": results.ratio(ours, in_turn, "critical_e2e_p99_s")}
    return [
        Line("G5", "critical p99 saved against first come, first served", "saved", Target("<=", 0.7), saved),
        Line("G5", "longest wait by that of first come, first served", "ratio", Target("<=", 2.0), waits),
        Line("G5", "longest wait", "seconds", None, seconds),
    ]

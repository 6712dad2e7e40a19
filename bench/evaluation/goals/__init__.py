"""The goals, one module each: the runs it needs, and the lines it fills from them.

All were fixed before anything was run, and so were the settings: the defaults, but for what a goal itself changes.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.evaluation.crew import Task
from bench.evaluation.goals import accounts, cap, deadlines, learning, oracle, priority, tails
from bench.evaluation.line import Line
from bench.evaluation.results import Results

_SIMULATED = (deadlines, tails, oracle, priority, learning, cap, accounts)


def list_tasks(workload: str) -> list[Task]:
    """What has to be run for the goals, on all slices."""
    return [task for goal in _SIMULATED for task in goal.list_tasks(workload)]


def judge(results: Results, workload: str) -> Sequence[Line]:
    """The lines of the goals that are reached in the simulator, in their order."""
    return [line for goal in _SIMULATED for line in goal.judge(results, workload)]

"""G4: how far the joules are from the least that any schedule as good as ours would need, and why."""

from __future__ import annotations

from bench.evaluation.case import LENGTHS_KNOWN, MEMORY_AMPLE, Case
from bench.evaluation.crew import Task
from bench.evaluation.line import Line, Target, name_rate
from bench.evaluation.results import Results

RATES = (11.0, 14.0, 17.0)
#: Where the same is looked at without a goal.
LIGHT_RATES = (2.0, 5.0, 8.0)
#: What is given to the policy, and to the bound that it is held to.
GIFTS = ((), (LENGTHS_KNOWN,), (MEMORY_AMPLE,), (LENGTHS_KNOWN, MEMORY_AMPLE))
#: A bound that is closer to what can be done, of those schedules that keep the package cool.
_CHARGED = "the same, as it is, by a bound that pays for waiting for memory and never throttles"
_WORDS = ("as it is", "lengths known", "memory ample", "both")


def list_tasks(workload: str) -> list[Task]:
    """Every gift at every rate; the bound of each at the goal's rates."""
    tasks = [(Case(workload, rate, changes=gift), True) for rate in RATES for gift in GIFTS]
    light = [(Case(workload, rate, changes=gift), not gift) for rate in LIGHT_RATES for gift in GIFTS]
    return [*tasks, *light]


def judge(results: Results, workload: str) -> list[Line]:
    """Joules by those of the bound that knows everything, is no later and no oftener late. Only the first is a goal."""
    lines = [
        Line(
            "G4",
            f"joules by those of the bound, {words}",
            "ratio",
            None if gift else Target("<=", 1.10),
            {name_rate(r): results.spread(Case(workload, r, changes=gift), "bound_ratio") for r in RATES},
        )
        for gift, words in zip(GIFTS, _WORDS, strict=True)
    ]
    charged = {name_rate(r): results.spread(Case(workload, r), "charged_bound_ratio") for r in RATES}
    return [*lines, Line("G4", _CHARGED, "ratio", None, charged)]

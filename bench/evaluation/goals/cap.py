"""G7: a power cap is kept, at no cost against the best choice of devices that keeps it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from bench.evaluation.case import Case, build_setting
from bench.evaluation.crew import Task
from bench.evaluation.line import Line, Target
from bench.evaluation.results import Results
from ollama_proxy.lab.simulation.devices import DEFAULT_DEVICES
from ollama_proxy.lab.simulation.run import choose_within

RATE = 8.0
CAP = "cap 60"
_MET = "deadline_met_ratio"


def list_fitting() -> Iterator[str]:
    """Every set of devices that may all run at once under the cap, as a change."""
    names = [one.name for one in DEFAULT_DEVICES]
    for size in range(1, len(names) + 1):
        for some in combinations(names, size):
            change = f"only {'+'.join(some)}"
            if choose_within(build_setting((change, CAP), 0.0, 1)).active == set(some):
                yield change


def list_tasks(workload: str) -> list[Task]:
    """Ours with the cap, without it, and each fixed set."""
    changes = [(CAP,), (), *((only, CAP) for only in list_fitting())]
    return [(Case(workload, RATE, changes=each), False) for each in changes]


def judge(results: Results, workload: str) -> list[Line]:
    """The best set is that with the highest mean of deadlines met."""
    ours = Case(workload, RATE, changes=(CAP,))
    fixed = {only: Case(workload, RATE, changes=(only, CAP)) for only in list_fitting()}
    met = {only: spread for only, case in fixed.items() if (spread := results.spread(case, _MET))}
    best = max(met, key=lambda only: met[only].mean, default="")
    loss = results.combine(lambda a, b: a - b, (ours, _MET), (fixed[best], _MET)) if best else None
    words = best.removeprefix("only ").replace("ollama-", "").replace("+", " and ")
    where = "8/min, 60 W"
    return [
        Line(
            "G7",
            "longest time above the cap",
            "seconds",
            Target("<=", 1.0),
            {where: results.spread(ours, "longest_above_s")},
        ),
        Line("G7", "time above the cap in sum", "seconds", None, {where: results.spread(ours, "seconds_above_cap")}),
        Line(
            "G7",
            f"deadlines met, less those of the best fixed set ({words})",
            "points",
            Target(">=", -0.01),
            {where: loss},
        ),
        Line("G7", "deadlines met with the cap", "share", None, {where: results.spread(ours, _MET)}),
        Line("G7", "deadlines met without it", "share", None, {where: results.spread(Case(workload, RATE), _MET)}),
    ]

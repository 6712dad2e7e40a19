"""G1 and G2: deadlines where the static rule fails, and joules where the fastest choice wastes them."""

from __future__ import annotations

from bench.evaluation.case import MEMORY_AMPLE, Case
from bench.evaluation.crew import Task
from bench.evaluation.line import Line, Target, name_rate
from bench.evaluation.results import Results, Spread

RATES = (2.0, 5.0, 8.0, 11.0)
POLICIES = ("predictive", "static-documented", "shortest-expected-delay")
_MET, _JOULES = "deadline_met_ratio", "joules_per_request"


def list_tasks(workload: str) -> list[Task]:
    """A task each rate and policy; and the last pair without contention."""
    tasks = [(Case(workload, rate, policy), False) for rate in RATES for policy in POLICIES]
    ample = [(case, False) for rate in RATES for case in _pair_ample(workload, rate)]
    return [*tasks, *ample]


def judge(results: Results, workload: str) -> list[Line]:
    """G1 against `static-documented`, G2 against `shortest-expected-delay`."""
    ours, documented, soonest = (
        {name_rate(rate): Case(workload, rate, policy) for rate in RATES} for policy in POLICIES
    )

    def compare(others: dict[str, Case], name: str) -> dict[str, Spread | None]:
        return {where: results.ratio(case, others[where], name) for where, case in ours.items()}

    met, theirs = ({where: results.spread(case, _MET) for where, case in one.items()} for one in (ours, documented))
    points = {
        where: results.combine(lambda a, b: a - b, (case, _MET), (soonest[where], _MET)) for where, case in ours.items()
    }
    ample = {name_rate(rate): results.ratio(*_pair_ample(workload, rate), _JOULES) for rate in RATES}
    joules, saved = compare(documented, _JOULES), compare(soonest, _JOULES)
    return [
        Line("G1", "deadlines met", "share", Target(">=", 0.97), met),
        Line("G1", "deadlines met by static-documented", "share", Target("<=", 0.85), theirs),
        Line("G1", "joules by those of static-documented", "ratio", Target("<=", 1.05), joules),
        Line("G2", "joules saved against shortest-expected-delay", "saved", Target("<=", 0.85), saved),
        Line("G2", "the same, memory ample", "saved", None, ample),
        Line("G2", "deadlines met, less those of shortest-expected-delay", "points", Target(">=", -0.015), points),
    ]


def _pair_ample(workload: str, rate_per_min: float) -> tuple[Case, Case]:
    ours, _, soonest = (Case(workload, rate_per_min, policy, changes=(MEMORY_AMPLE,)) for policy in POLICIES)
    return ours, soonest

"""G3: fewer joules and a shorter tail than the static rule as shipped, with one setting for all rates."""

from __future__ import annotations

from bench.evaluation.case import LAMBDA_3, MEMORY_AMPLE, Case
from bench.evaluation.crew import Task
from bench.evaluation.line import Line, Target, name_rate
from bench.evaluation.results import Results

RATES = (2.0, 5.0, 8.0, 11.0, 14.0)
#: What is compared: the mix, what is changed in ours, and the words for it.
_WAYS = (("balanced", (LAMBDA_3,), "all balanced, lambda 3 W"), ("default", (), "default mix and settings"))


def list_tasks(workload: str) -> list[Task]:
    """Both ways, ours and the rule as shipped; and the same without contention."""
    return [
        (case, False)
        for rate in RATES
        for mix, changes, _ in _WAYS
        for is_ample in (False, True)
        for case in _pair(workload, rate, mix, changes, is_ample)
    ]


def judge(results: Results, workload: str) -> list[Line]:
    """A line each for joules and p99 of all requests, twice."""
    lines = []
    for mix, changes, words in _WAYS:
        for name, what, most in (("joules_per_request", "joules", 0.9), ("e2e_p99_s", "p99", 0.85)):
            found, ample = (
                {name_rate(r): results.ratio(*_pair(workload, r, mix, changes, is_ample), name) for r in RATES}
                for is_ample in (False, True)
            )
            title = f"{what} saved against static-shipped, {words}"
            lines.append(Line("G3", title, "saved", Target("<=", most), found))
            lines.append(Line("G3", "the same, memory ample", "saved", None, ample))
    return lines


def _pair(workload: str, rate_per_min: float, mix: str, changes: tuple[str, ...], is_ample: bool) -> tuple[Case, Case]:
    shared = (MEMORY_AMPLE,) if is_ample else ()
    ours = Case(workload, rate_per_min, "predictive", mix, (*changes, *shared))
    return ours, Case(workload, rate_per_min, "static-shipped", mix, shared)

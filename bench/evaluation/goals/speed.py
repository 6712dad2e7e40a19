"""G8: microseconds of one decision, on this machine, with nothing else of the evaluation running."""

from __future__ import annotations

from collections.abc import Mapping

from bench.decisions import Load, replace_views, sample_decisions
from bench.evaluation.line import Line, Target
from bench.evaluation.results import Spread
from ollama_proxy.lab.simulation.report import percentile

#: Backends, and how many decisions among them.
_TIMES = {16: 8000, 1000: 2000}
_REPLACED = 3
#: Microseconds of each decision, by what happens between two and the number of backends.
Taken = Mapping[tuple[str, int], list[float]]
_LOAD, _NEW = "under load", f"{_REPLACED} of them new each time"


def measure(share: float = 1.0) -> Taken:
    """`share` of the usual number of decisions. Under load one request is sent and one ends between two of them."""
    found = {}
    for size, times in _TIMES.items():
        some = max(20, int(times * share))
        found[_LOAD, size] = sample_decisions(Load(size).next_view, some)
        found[_NEW, size] = sample_decisions(replace_views(size, _REPLACED), some)
    return found


def judge(taken_us: Taken) -> list[Line]:
    """One machine, one run: there is no range."""
    goals = ((16, "median", 0.5, 20.0), (16, "p99", 0.99, 60.0), (1000, "median", 0.5, 50.0), (1000, "p99", 0.99, None))
    return [
        Line(
            "G8",
            f"a decision among {size:,} backends, {between}, {words}",
            "microseconds",
            None if most is None else Target("<=", most),
            {"this machine": _spread(percentile(taken_us[between, size], share))},
        )
        for between in (_LOAD, _NEW)
        for size, words, share, most in goals
    ]


def _spread(value: float | None) -> Spread | None:
    return None if value is None else Spread.of([value])

"""G8: microseconds of one decision, on this machine, with nothing else of the evaluation running."""

from __future__ import annotations

from collections.abc import Mapping

from bench.decisions import sample_decisions
from bench.evaluation.line import Line, Target
from bench.evaluation.results import Spread
from ollama_proxy.lab.simulation.report import percentile

#: Backends, and how many decisions among them.
_TIMES = {16: 8000, 1000: 400}
_CHANGED = 3


def measure(share: float = 1.0) -> dict[int, list[float]]:
    """Microseconds by number of backends, three of which change before each decision. `share` of the usual number."""
    return {size: sample_decisions(size, _CHANGED, max(20, int(times * share))) for size, times in _TIMES.items()}


def judge(taken_us: Mapping[int, list[float]]) -> list[Line]:
    """One machine, one run: there is no range."""
    goals = ((16, "median", 0.5, 20.0), (16, "p99", 0.99, 60.0), (1000, "median", 0.5, 50.0), (1000, "p99", 0.99, None))
    return [
        Line(
            "G8",
            f"a decision among {size:,} backends, {words}",
            "microseconds",
            None if most is None else Target("<=", most),
            {"this machine": _spread(percentile(taken_us[size], share))},
        )
        for size, words, share, most in goals
    ]


def _spread(value: float | None) -> Spread | None:
    return None if value is None else Spread.of([value])

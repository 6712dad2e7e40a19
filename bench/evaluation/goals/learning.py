"""G6: configured speeds that are wrong, and a card that slows down meanwhile, are made good by learning."""

from __future__ import annotations

from bench.evaluation.case import CARD_SLOWED, LEARNS_NOT, SPEEDS_WRONG, Case
from bench.evaluation.crew import Task
from bench.evaluation.line import Line, Target, name_rate
from bench.evaluation.results import Results

RATES = (5.0, 11.0)
_RIGHT = (CARD_SLOWED,)
_WRONG = (SPEEDS_WRONG, CARD_SLOWED)
_IGNORANT = (SPEEDS_WRONG, CARD_SLOWED, LEARNS_NOT)
_MET = "deadline_met_ratio"


def list_tasks(workload: str) -> list[Task]:
    """Right speeds, wrong ones, and wrong ones without learning; the card slows down in all of them."""
    return [(Case(workload, rate, changes=one), False) for rate in RATES for one in (_RIGHT, _WRONG, _IGNORANT)]


def judge(results: Results, workload: str) -> list[Line]:
    """The last line is what it would be without learning."""
    right, wrong, ignorant = (
        {name_rate(rate): Case(workload, rate, changes=one) for rate in RATES} for one in (_RIGHT, _WRONG, _IGNORANT)
    )

    def compare(ours: dict[str, Case], kind: str, target: Target | None, what: str) -> Line:
        found = {
            where: results.combine(lambda a, b: a - b, (case, _MET), (right[where], _MET))
            for where, case in ours.items()
        }
        return Line("G6", what, kind, target, found)

    errors = {where: results.spread(case, "prediction_error") for where, case in wrong.items()}
    worst = {where: results.spread(case, "worst_prediction_error") for where, case in wrong.items()}
    return [
        compare(
            wrong, "points", Target(">=", -0.02), "deadlines met with speeds wrong by 2, less those with right ones"
        ),
        compare(ignorant, "points", None, "the same without learning"),
        Line("G6", "error of predicted time, median after 30 requests a device", "share", Target("<=", 0.10), errors),
        Line("G6", "the same of the worst device", "share", None, worst),
    ]

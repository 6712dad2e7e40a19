"""G6: configured speeds that are wrong, and a card that slows down meanwhile, are made good by learning."""

from __future__ import annotations

from bench.evaluation.case import CARD_SLOWED, LEARNS_NOT, SPEEDS_HIGH, SPEEDS_LOW, Case
from bench.evaluation.crew import Task
from bench.evaluation.line import Line, Target, name_rate
from bench.evaluation.results import Results, Spread

RATES = (5.0, 11.0)
_MET = "deadline_met_ratio"
_RIGHT = (CARD_SLOWED,)
_WRONG = {"half": SPEEDS_LOW, "twice": SPEEDS_HIGH}


def list_tasks(workload: str) -> list[Task]:
    """Right speeds, and wrong ones with and without learning; the card slows down in all of them."""
    wrong = [(change, CARD_SLOWED, *more) for change in _WRONG.values() for more in ((), (LEARNS_NOT,))]
    return [(Case(workload, rate, changes=changes), False) for rate in RATES for changes in (_RIGHT, *wrong)]


def judge(results: Results, workload: str) -> list[Line]:
    """Speeds that are configured too low, then too high; each with what it would be without learning."""
    lines = []
    for words, change in _WRONG.items():
        told = _compare(results, workload, (change, CARD_SLOWED))
        untold = _compare(results, workload, (change, CARD_SLOWED, LEARNS_NOT))
        title = f"deadlines met with configured speeds {words} the real ones, less those with right ones"
        lines += [
            Line("G6", title, "points", Target(">=", -0.02), told),
            Line("G6", "the same without learning", "points", None, untold),
        ]
    for words, change in _WRONG.items():
        cases = {name_rate(rate): Case(workload, rate, changes=(change, CARD_SLOWED)) for rate in RATES}
        errors, worst = (
            {where: results.spread(case, name) for where, case in cases.items()}
            for name in ("prediction_error", "worst_prediction_error")
        )
        title = f"error of predicted time after 30 requests a device (median), speeds {words} the real ones"
        lines += [
            Line("G6", title, "share", Target("<=", 0.10), errors),
            Line("G6", "the same of the worst device", "share", None, worst),
        ]
    return lines


def _compare(results: Results, workload: str, changes: tuple[str, ...]) -> dict[str, Spread | None]:
    """Deadlines met with the changes, less those with right speeds."""
    found = {}
    for rate in RATES:
        ours, right = Case(workload, rate, changes=changes), Case(workload, rate, changes=_RIGHT)
        found[name_rate(rate)] = results.combine(lambda a, b: a - b, (ours, _MET), (right, _MET))
    return found

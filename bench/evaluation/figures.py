"""The figures of one run: those of `lab simulate`, and what the goals ask besides. No clock is in them, only seeds."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from statistics import median

import msgspec

from ollama_proxy.lab.simulation.bound import bound
from ollama_proxy.lab.simulation.contention import charge_waiting
from ollama_proxy.lab.simulation.report import allow_like, measure_e2e_s, percentile, summarise_run
from ollama_proxy.lab.simulation.run import Setting
from ollama_proxy.lab.simulation.timing import time_as_drawn
from ollama_proxy.lab.simulation.workload import Run, Served

Figures = dict[str, float]

WISHES = ("critical", "efficient", "deadline")
#: Predictions are judged after so many requests of a device have ended.
LEARNED_AFTER = 30
_REAL_TIME = "decide_us"


def measure_run(run: Run, is_capped: bool) -> Figures:
    """A figure that has no request behind it is absent. Rejected requests wait for nothing and are not predicted."""
    figures = {
        name: float(value)
        for name, value in summarise_run(run, is_capped).items()
        if not name.startswith(_REAL_TIME)  # real time, and that of a machine with other work
    }
    if is_capped:
        figures["longest_above_s"] = run.longest_above_s
    return figures | _measure_wishes(run) | _measure_predictions(run)


def measure_bound(run: Run, setting: Setting) -> Figures:
    """Least joules for the requests that the run served, no later and no oftener late than there."""
    served = tuple(one for one in run.served if one.device)
    kept = msgspec.structs.replace(run, served=served)
    arrivals, drawn = [one.arrival for one in served], time_as_drawn(setting.seed)
    found = bound(arrivals, setting.devices, *allow_like(kept), setting.host, drawn)
    charge = partial(charge_waiting, setting.devices, setting.host)
    charged = bound(arrivals, setting.devices, *allow_like(kept), setting.host, drawn, charge)
    return {
        "bound_joules_per_request": found.joules / len(served),
        "bound_ratio": run.joules / found.joules,
        "charged_bound_ratio": run.joules / charged.joules,
    }


def _measure_wishes(run: Run) -> Figures:
    """Of each wish the p99, the longest wait, and its part of the slowest 1 %.

    Policies that do not hold requests let the devices queue them, so nothing waits there.
    """
    figures: Figures = {}
    slowest = sorted((one for one in run.served if one.device), key=measure_e2e_s)[-max(1, len(run.served) // 100) :]
    for wish in sorted({one.arrival.wish for one in run.served}):
        mine = [one for one in run.served if one.arrival.wish == wish and one.device]
        p99_s = percentile([measure_e2e_s(one) for one in mine], 0.99)
        if p99_s is not None:
            figures[f"e2e_p99_{wish}_s"] = p99_s
            figures[f"tail_share_{wish}"] = sum(one.arrival.wish == wish for one in slowest) / len(slowest)
            figures[f"longest_wait_{wish}_s"] = max(one.started_s - one.arrival.at_s for one in mine)
    return figures


def _measure_predictions(run: Run) -> Figures:
    """Median of |predicted / actual - 1| of the time from start to end, and that of the worst device."""
    errors: dict[str, list[float]] = defaultdict(list)
    seen: dict[str, int] = defaultdict(int)
    for one in sorted(run.served, key=lambda one: one.ended_s):
        if one.predicted_s is not None and _lasted_s(one) > 0:
            seen[one.device] += 1
            if seen[one.device] > LEARNED_AFTER:
                errors[one.device].append(abs(one.predicted_s / _lasted_s(one) - 1.0))
    if not errors:
        return {}
    return {
        "prediction_error": median([each for of_device in errors.values() for each in of_device]),
        "worst_prediction_error": max(map(median, errors.values())),
    }


def _lasted_s(one: Served) -> float:
    return one.ended_s - one.started_s

"""How true the books are: the joules given to requests, beside what the emulated machine knows they cost."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum
from statistics import median

from bench.evaluation.figures import Figures
from bench.evaluation.metered import MeteredMachine, Truth
from ollama_proxy.energy.activity import RequestEnergy
from ollama_proxy.energy.attribution import Balance
from ollama_proxy.lab.simulation.run import Setting, run_policy
from ollama_proxy.lab.simulation.workload import Arrival


def measure_accounting(arrivals: Sequence[Arrival], setting: Setting) -> Figures:
    """Figures by hardware, such as `nvidia_error`. Errors are relative and not negative."""
    run = run_policy("predictive", arrivals, setting)
    machine = MeteredMachine(setting)
    machine.replay(sorted((one for one in run.served if one.device), key=lambda one: one.started_s))
    package_j = machine.package_rest_j + fsum(
        _sum_up(books.balance) for name, books in machine.books.items() if name != "nvidia"
    )
    figures = {
        "nvidia_balance_error": abs(_sum_up(machine.books["nvidia"].balance) / machine.card_j - 1.0),
        "package_balance_error": abs(package_j / machine.package_j - 1.0),
    }
    for name, energies in machine.energies.items():
        figures |= {f"{name}_{key}": value for key, value in _compare(energies, machine.truths).items()}
    return figures


def _sum_up(balance: Balance) -> float:
    return balance.marginal_j + balance.floor_j + balance.other_j + balance.idle_j + balance.pending_j


def _compare(energies: dict[int, RequestEnergy], truths: dict[int, Truth]) -> Figures:
    """Joules above the floor; those of the first requests, before any idle time, are unknown.

    What is modelled from configured watts, since the meter does not tell it yet, is compared apart.
    """
    known = [(truths[job], one) for job, one in energies.items() if one.marginal_j is not None]
    modelled = [pair for pair in known if pair[1].kind == "modelled"]
    figures: Figures = {"requests": float(len(energies)), "unknown": float(len(energies) - len(known))}
    if energies:
        figures["modelled"] = len(modelled) / len(energies)
    if modelled:
        figures["modelled_covered"] = _measure_cover(modelled)
    rest = [pair for pair in known if pair not in modelled]
    if rest:
        total_j = fsum(truth.marginal_j for truth, _ in rest)
        figures |= {
            "error": median([abs(_above_floor_j(one) / truth.marginal_j - 1.0) for truth, one in rest]),
            "sum_error": abs(fsum(_above_floor_j(one) for _, one in rest) / total_j - 1.0),
            "covered": _measure_cover(rest),
            "doubt": median([one.plus_minus_j / _above_floor_j(one) for _, one in rest if _above_floor_j(one) > 0]),
        }
    return figures


def _measure_cover(pairs: Sequence[tuple[Truth, RequestEnergy]]) -> float:
    """The part of the requests whose truth lies within their stated error."""
    return sum(abs(_above_floor_j(one) - truth.marginal_j) <= one.plus_minus_j for truth, one in pairs) / len(pairs)


def _above_floor_j(energy: RequestEnergy) -> float:
    assert energy.marginal_j is not None
    return energy.marginal_j

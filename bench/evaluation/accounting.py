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
    """Of the requests whose joules above the floor are known: those of the first, before any idle time, are not."""
    known = [(truths[job], one, one.marginal_j) for job, one in energies.items() if one.marginal_j is not None]
    figures: Figures = {"requests": float(len(energies)), "unknown": float(len(energies) - len(known))}
    if known:
        errors = [abs(joules / truth.marginal_j - 1.0) for truth, _, joules in known]
        covered = [abs(joules - truth.marginal_j) <= one.plus_minus_j for truth, one, joules in known]
        total_j = fsum(truth.marginal_j for truth, _, _ in known)
        figures |= {
            "error": median(errors),
            "sum_error": abs(fsum(joules for _, _, joules in known) / total_j - 1.0),
            "covered": sum(covered) / len(covered),
            "full_error": median([abs(one.full_j / truth.full_j - 1.0) for truth, one, _ in known]),
            "doubt": median([one.plus_minus_j / joules for _, one, joules in known if joules > 0]),
        }
    return figures

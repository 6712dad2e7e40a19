"""Every policy at every rate: the runs behind the tables and pictures that stand below the goals."""

from __future__ import annotations

from collections.abc import Iterable

from bench.evaluation.case import Case
from bench.evaluation.crew import Task
from ollama_proxy.routing.rules import POLICY_RULES

OURS = "predictive"
RATES = (2.0, 5.0, 8.0, 11.0, 14.0, 17.0)
OTHER_RATES = (2.0, 5.0, 8.0, 11.0, 14.0)
OTHER_POLICIES = ("static-shipped", "static-documented", "shortest-expected-delay", OURS)


def list_policies(is_first: bool) -> tuple[str, ...]:
    """Ours last. On workloads that have no goals only those that goals name."""
    return (*(name for name in POLICY_RULES if name != OURS), OURS) if is_first else OTHER_POLICIES


def list_rates(is_first: bool) -> tuple[float, ...]:
    """Requests a minute."""
    return RATES if is_first else OTHER_RATES


def list_tasks(workloads: Iterable[str]) -> list[Task]:
    """All of them; ours with its bound."""
    return [
        (Case(workload, rate, policy), policy == OURS)
        for place, workload in enumerate(workloads)
        for rate in list_rates(place == 0)
        for policy in list_policies(place == 0)
    ]

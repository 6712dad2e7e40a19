"""All runs over the cores of this machine: the same figures whoever runs them, and in whatever order."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Collection, Sequence

from bench.evaluation.case import Case, run_case
from bench.evaluation.figures import Figures
from bench.evaluation.workload import Workload, find_workloads

Task = tuple[Case, bool]

_workloads: dict[str, Workload] = {}


def run_cases(
    tasks: Collection[Task], requests: int, seed: int, progress: Callable[[int, int], None]
) -> dict[Case, Figures]:
    """The figures of every case; a task is a case and whether its bound is wanted.

    Workers are new interpreters, each with its own hash seed, so that nothing can depend on one. Raises what a run
    raises.
    """
    ordered = sorted(tasks, key=lambda task: (not task[1], -task[0].rate_per_min))  # the long ones first
    found: dict[Case, Figures] = {}
    context = multiprocessing.get_context("spawn")
    with context.Pool(os.cpu_count() or 1, _prepare, (requests, seed)) as pool:
        for case, figures in pool.imap_unordered(_run, ordered):
            found[case] = figures
            progress(len(found), len(ordered))
    return found


def find_differences(
    tasks: Sequence[Task], found: dict[Case, Figures], requests: int, seed: int, progress: Callable[[int, int], None]
) -> list[Case]:
    """Run some cases once more, in other processes; those that came out differently."""
    again = run_cases(tasks, requests, seed, progress)
    return [case for case, figures in again.items() if figures != found[case]]


def _prepare(requests: int, seed: int) -> None:
    _workloads.update(find_workloads(requests, seed))


def _run(task: Task) -> tuple[Case, Figures]:
    case, has_bound = task
    return case, run_case(case, _workloads[case.workload], has_bound)

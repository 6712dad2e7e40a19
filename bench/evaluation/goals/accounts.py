"""G9: the joules given to requests add up to the meter, are near the truth, and their stated error covers it."""

from __future__ import annotations

from bench.evaluation.case import ACCOUNTED, MEMORY_AMPLE, Case
from bench.evaluation.crew import Task
from bench.evaluation.line import Line, Target
from bench.evaluation.results import Results, Spread

RATE = 8.0
DEVICES = {"nvidia": "graphics card", "npu": "NPU", "igpu": "integrated GPU", "cpu": "processor"}
_METERS = {"nvidia": "card's meter", "package": "package's meter"}


def list_tasks(workload: str) -> list[Task]:
    """A run, whose requests are done again on the machine with meters; and one without contention."""
    return [(_case(workload), False), (_case(workload, MEMORY_AMPLE), False)]


def judge(results: Results, workload: str) -> list[Line]:
    """Joules above the floor. Devices with a zone of their own, and a processor without requests, have no goal.

    Goals are about what the meter tells; what is billed by configured watts meanwhile has lines of its own.
    """

    def find(figure: str, *names: str, changes: tuple[str, ...] = ()) -> dict[str, Spread | None]:
        return {DEVICES[one]: results.spread(_case(workload, *changes), f"{one}_{figure}") for one in names}

    ample = (MEMORY_AMPLE,)

    sums = {words: results.spread(_case(workload), f"{one}_balance_error") for one, words in _METERS.items()}
    others = {name: spread for name, spread in find("error", "igpu", "cpu").items() if spread}
    return [
        Line("G9", "what was given out, off its meter by", "share", Target("<=", 0.01), sums),
        Line(
            "G9", "joules of a request off by (median), own meter", "share", Target("<=", 0.05), find("error", "nvidia")
        ),
        Line(
            "G9", "joules of all requests off by, own meter", "share", Target("<=", 0.05), find("sum_error", "nvidia")
        ),
        Line(
            "G9", "joules of a request off by (median), apportioned", "share", Target("<=", 0.15), find("error", "npu")
        ),
        Line("G9", "joules of all requests off by, apportioned", "share", Target("<=", 0.15), find("sum_error", "npu")),
        Line("G9", "the same, memory ample", "share", None, find("sum_error", "npu", changes=ample)),
        Line("G9", "truth within the stated error", "share", Target(">=", 0.9), find("covered", "nvidia", "npu")),
        Line("G9", "the same, memory ample", "share", None, find("covered", "nvidia", "npu", changes=ample)),
        Line("G9", "the same, billed by configured watts", "share", None, find("modelled_covered", "nvidia", "npu")),
        Line("G9", "requests still billed by configured watts", "share", None, find("modelled", "nvidia", "npu")),
        Line("G9", "stated error of a request (median)", "share", None, find("doubt", "nvidia", "npu")),
        Line("G9", "joules of a request off by (median), own zone", "share", None, others),
    ]


def _case(workload: str, *changes: str) -> Case:
    return Case(workload, RATE, changes=(ACCOUNTED, *changes))

"""What a measure works with: one participant that runs, the mock behind it, and the load programs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.participant import Plan
from bench.process import Failed, Process
from bench.programs import Load, Mock

#: What a measure found, by metric; the unit is in the name.
Found = dict[str, float]


@dataclass(slots=True)
class Stage:
    """`server` is None when nobody stands between load and mock. `start_s` is from exec to the first answer."""

    plan: Plan
    mock: Mock
    programs: Path
    ghz: str
    server: Process | None
    start_s: float
    scale: float = 1.0  # of the length of each measurement
    unary_per_s: float = 0.0  # a first idea of what it can do
    warm_kb: float = 0.0  # memory after the warm-up, before the first stream

    @contextmanager
    def load(self, flags: list[str], limit_s: float) -> Iterator[Load]:
        """One run of the load program against the participant."""
        running = Load(self.programs, self.plan.port, flags, limit_s)
        try:
            yield running
        finally:
            running.stop()

    def cpu_ns(self) -> int:
        """CPU that the participant has used; 0 without one."""
        return self.server.cpu_ns() if self.server else 0

    def memory_kb(self) -> float:
        """Memory that the participant holds, shared pages divided; 0 without one."""
        return self.server.memory().pss_kb if self.server else 0.0


def refuse_errors(report: dict[str, object], what: str) -> None:
    """A measurement with errors in it measures something else. Raises Failed."""
    if report["errors"]:
        raise Failed(f"{what}: {report['errors']} errors, the first: {report.get('first_error', '?')}")

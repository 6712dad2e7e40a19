"""The run: every participant in turn, round after round, so that a slow minute of the machine falls on all of them."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.measures import Measure, make_measure
from bench.measures.unary import warm_up
from bench.participant import Participant, Plan, Unavailable
from bench.participants import make_participant
from bench.ports import find_ports
from bench.process import SERVER_CORE, Failed, Process
from bench.programs import Mock
from bench.results import Results
from bench.stage import Stage

READY_LIMIT_S = 60.0
#: Start, warm-up and stop, as the plan reckons them.
_AROUND_S = 3.0
_COLD = ("memory", "start")  # before the first request
_HTTP = ("unary", "latency", "cache-hit", "streams-", "translated-")
#: Once may be the machine's fault.
_FAILURES_ALLOWED = 1


@dataclass(slots=True)
class Run:
    """What is to be measured, and how. `say` takes lines of progress."""

    participants: list[Participant]
    measures: list[str]
    rounds: int
    scale: float
    tools: Path
    programs: Path
    ghz: str
    say: Callable[[str], None]
    results: Results = field(default_factory=Results)
    _failures: dict[tuple[str, str], int] = field(default_factory=dict)

    def expected_s(self) -> float:
        """Without installing."""
        total = 0.0
        for participant in self.participants:
            for group in self.groups(participant):
                total += _AROUND_S + sum(measure.expected_s for measure in group)
        return total * self.rounds

    def groups(self, participant: Participant) -> list[list[Measure]]:
        """Measures that can share a start: those with the same upstreams. Failed ones are left out."""
        made = [make_measure(name) for name in self.measures if self._is_open(participant, name)]
        return [
            group
            for dialect in ("openai", "ollama", "anthropic", "")
            if (group := [measure for measure in made if measure.dialect == dialect])
        ]

    def _is_open(self, participant: Participant, measure: str) -> bool:
        failed = ((participant.name, measure), (participant.name, "start-up"))
        return measure in participant.measures and all(
            self._failures.get(key, 0) <= _FAILURES_ALLOWED for key in failed
        )

    def go(self) -> None:
        """All rounds. Failures are noted, and never end the run."""
        began_s = time.monotonic()
        for number in range(1, self.rounds + 1):
            for participant in self.participants:
                for group in self.groups(participant):
                    self._take(participant, group)
            self.say(f"round {number} of {self.rounds} done after {time.monotonic() - began_s:.0f} s")

    def _take(self, participant: Participant, group: list[Measure]) -> None:
        began_s = time.monotonic()
        try:
            with self._stage(participant, group) as stage:
                cold = [measure for measure in group if measure.name in _COLD]
                warm = [measure for measure in group if measure.name not in _COLD]
                for measure in cold:
                    self._measure(participant, measure, stage)
                if any(measure.name.startswith(_HTTP) for measure in warm):
                    warm_up(stage)
                for measure in warm:
                    self._measure(participant, measure, stage)
        except (Failed, Unavailable, OSError) as error:
            self._note(participant, "start-up", str(error))
        self.say(f"  {participant.name}: {len(group)} measures, {time.monotonic() - began_s:.1f} s")

    def _measure(self, participant: Participant, measure: Measure, stage: Stage) -> None:
        smaller = self._saturated_before(participant, measure.name)
        if smaller:
            self.results.problems[participant.name, measure.name] = f"not tried: it could not keep up at {smaller}"
            return
        try:
            found = measure.run(stage)
            stage.mock.check_alive()
            self.results.add(participant.name, measure.name, found)
        except (Failed, OSError, ValueError, KeyError, TypeError) as error:
            self._note(participant, measure.name, f"{type(error).__name__}: {error}")

    def _saturated_before(self, participant: Participant, measure: str) -> str:
        sizes = ("streams-100", "streams-400", "streams-2000")
        smaller = sizes[: sizes.index(measure)] if measure in sizes else ()
        return next((name for name in smaller if self.results.is_saturated(participant.name, name)), "")

    def _note(self, participant: Participant, measure: str, reason: str) -> None:
        key = participant.name, measure
        self.results.problems[key] = reason
        self._failures[key] = self._failures.get(key, 0) + 1
        self.say(f"  {participant.name}, {measure}: {reason}")

    @contextmanager
    def _stage(self, participant: Participant, group: list[Measure]) -> Iterator[Stage]:
        work = Path(tempfile.mkdtemp(prefix=f"bench-{participant.name}-"))
        mock = server = None
        try:
            mock = Mock(self.programs, work / "mock")
            port = find_ports(2)
            upstreams = mock.upstreams(getattr(participant, "upstream_count", 4))
            plan = Plan(self.tools, work, port, port + 1, upstreams, group[0].dialect or "openai")
            launch = participant.launch(plan)
            start_s = 0.0
            if not launch.command or not group[0].dialect:
                plan = Plan(self.tools, work, mock.port, mock.port, upstreams, plan.upstream_dialect)
            else:
                server = Process(launch.command, work, SERVER_CORE, launch.env)
                start_s = server.wait_ready(port if launch.ready_path else port + 1, launch.ready_path, READY_LIMIT_S)
            yield Stage(plan, mock, self.programs, self.ghz, server, start_s, self.scale)
            mock.check_alive()
        finally:
            for process in (server, mock):
                if process is not None:
                    process.stop()
            shutil.rmtree(work, ignore_errors=True)


def install_all(names: list[str], tools: Path, say: Callable[[str], None], results: Results) -> list[Participant]:
    """Those that are here or could be installed; the others are named with their reason."""
    found = []
    for name in names:
        began_s = time.monotonic()
        try:
            participant = make_participant(name)
            results.versions[name] = participant.install(tools)
        except (Unavailable, ImportError, OSError) as error:
            results.problems[name, "install"] = str(error)
            say(f"  {name}: {error}")
            continue
        say(f"  {name}: {results.versions[name]} ({time.monotonic() - began_s:.0f} s)")
        found.append(participant)
    return found

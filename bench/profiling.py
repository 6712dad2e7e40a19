"""Where our microseconds go: the product under load with cProfile in it, by function.

The profiler makes small functions look dearer than they are; so the whole cost is measured without it first, in the
same process, and the shares are what to read.
"""

from __future__ import annotations

import pstats
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.measures import make_measure
from bench.measures.unary import warm_up
from bench.participant import Launch, Plan
from bench.participants.ours import SOURCE, Ours
from bench.ports import find_ports
from bench.process import SERVER_CORE, Failed, Process
from bench.programs import Mock, build_programs, find_ghz
from bench.stage import Found, Stage

#: Word on the command line: the measure that is run.
KINDS = {
    "unary": "unary",
    "stream": "streams-100",
    "stream-400": "streams-400",
    "translated": "translated-openai-anthropic",
    "translated-back": "translated-ollama-openai",
    "translated-anthropic": "translated-openai-anthropic",
    "grpc": "grpc-unary",
    "grpc-stream": "grpc-stream",
    "grpc-health": "grpc-health",
}
_ROWS = 40
_PROFILED = Path(__file__).with_name("profiled.py")


@dataclass(frozen=True, slots=True)
class Row:
    """One function, per request or token: how often it was called, and its own microseconds."""

    place: str
    calls: float
    own_us: float


def print_profile(kind: str, tools: Path) -> int:
    """Measure without, then with the profiler; print both."""
    measure = make_measure(KINDS[kind])
    with tempfile.TemporaryDirectory(prefix="bench-profile-") as folder:
        work = Path(folder)
        programs, ghz = build_programs(tools), find_ghz(tools)
        mock = Mock(programs, work / "mock")
        server: Process | None = None
        try:
            port = find_ports(2)
            plan = Plan(tools, work, port, port + 1, mock.upstreams(4), measure.dialect)
            launch = wrap_launch(Ours().launch(plan), work / "profile")
            server = Process(launch.command, work, SERVER_CORE, launch.env)
            server.wait_ready(port, launch.ready_path, 30)
            stage = Stage(plan, mock, programs, ghz, server, 0.0)
            warm_up(stage)
            plain = measure.run(stage)
            server.send(signal.SIGUSR1)
            found = measure.run(stage)
            server.send(signal.SIGUSR2)
            rows = read_rows(wait_for(work / "profile"), found["count"])
        finally:
            for process in (server, mock):
                if process is not None:
                    process.stop()
    print("\n".join(render_profile(kind, plain, found, rows)))
    return 0


def wrap_launch(launch: Launch, file: Path) -> Launch:
    """The same command with the profiler in it."""
    arguments = launch.command[launch.command.index("ollama_proxy") + 1 :]
    return Launch([sys.executable, "-P", str(_PROFILED), str(file), *arguments], launch.env, launch.ready_path)


def wait_for(file: Path, limit_s: float = 20.0) -> Path:
    """Until it is there."""
    deadline_s = time.monotonic() + limit_s
    while not file.exists():
        if time.monotonic() > deadline_s:
            raise Failed("the profiled server wrote nothing")
        time.sleep(0.05)
    return file


def read_rows(file: Path, count: float) -> list[Row]:
    """All functions, those with the most time of their own first."""
    rows = []
    stats: dict[tuple[str, int, str], tuple[int, int, float, float, object]] = pstats.Stats(str(file)).stats  # type: ignore[attr-defined]  # typeshed leaves it out
    for (path, line, name), (_, calls, own_s, _, _) in stats.items():
        rows.append(Row(shorten(path, line, name), calls / count, own_s * 1e6 / count))
    return sorted(rows, key=lambda row: -row.own_us)


def shorten(path: str, line: int, name: str) -> str:
    """A place as one reads it: from the package on, or the name of a builtin."""
    if path == "~":
        return name.strip("<>")
    for root in (f"{SOURCE}/src/ollama_proxy/", "site-packages/"):
        _, found, rest = path.partition(root)
        if found:
            return f"{rest}:{line} {name}"
    return f"{Path(path).name}:{line} {name}"


def render_profile(kind: str, plain: Found, found: Found, rows: list[Row]) -> list[str]:
    """Lines for people."""
    total_us = sum(row.own_us for row in rows) or 1.0
    lines = [
        f"{kind}: {plain['cpu_us']:.1f} us each without the profiler, {found['cpu_us']:.1f} with it; "
        f"{found['count']:.0f} profiled.",
        f"Python and what it calls directly: {total_us:.1f} us each as profiled. The event loop's own calls, reads and",
        "writes of sockets above all, are in the functions that make them. Own time, largest first:",
        "",
        "  calls      us  share  function",
    ]
    for row in rows[:_ROWS]:
        lines.append(f"{row.calls:7.2f} {row.own_us:7.2f} {row.own_us / total_us:6.1%}  {row.place}")
    return lines

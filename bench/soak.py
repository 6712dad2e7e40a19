"""Whether the product keeps anything: a great many requests and streams, then a look at what it holds.

What it holds is resident memory, connections to upstreams that wait for the next request, and other descriptors; what
it believes to be running comes from its own metrics. It is looked at twice at rest: after a first share, when all
that is made once is made, and at the end.
"""

from __future__ import annotations

import re
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.measures.unary import run_unary
from bench.participant import Plan
from bench.participants.ours import Ours
from bench.ports import find_ports
from bench.process import SERVER_CORE, Failed, Process
from bench.programs import Mock, build_programs
from bench.stage import Stage, refuse_errors

_UPSTREAMS = 4
_STREAMS_AT_ONCE = 100
_REQUESTS_AT_ONCE = 50_000
_TOKENS = 20
#: What memory may differ by: the allocator's holes.
GROWTH_KB = 4096
_RUNNING = re.compile(r"^ollama_proxy_backend_in_flight\{.*\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Held:
    """What it holds at rest."""

    rss_kb: int
    descriptors: int
    idle_upstream: int
    running: float


def run_soak(requests: int, streams: int, tools: Path) -> int:
    """Run, print both looks; 0 when nothing was kept."""
    with tempfile.TemporaryDirectory(prefix="bench-soak-") as folder:
        work = Path(folder)
        programs = build_programs(tools)
        mock = Mock(programs, work / "mock")
        port = find_ports(2)
        plan = Plan(tools, work, port, port + 1, mock.upstreams(_UPSTREAMS), "openai")
        launch = Ours().launch(plan)
        server = Process(launch.command, work / "ours", SERVER_CORE, launch.env)
        try:
            server.wait_ready(port, launch.ready_path, 30)
            stage = Stage(plan, mock, programs, "", server, 0.0)
            run_share(stage, max(requests // 20, 1), max(streams // 20, _STREAMS_AT_ONCE))
            before = look(server, port, mock.port)
            began_s = time.monotonic()
            run_share(stage, requests, streams)
            took_s = time.monotonic() - began_s
            after = look(server, port, mock.port)
        finally:
            server.stop()
            mock.stop()
    print("\n".join(render_soak(requests, streams, took_s, before, after)))
    return 0 if is_clean(before, after) else 1


def run_share(stage: Stage, requests: int, streams: int) -> None:
    """Whole answers first, then streams, a hundred at a time. Raises Failed for the first that is not right."""
    left = requests
    while left:
        count = min(left, _REQUESTS_AT_ONCE)
        run_unary(stage, 16, count)
        left -= count
    stage.mock.set_pace(1.0, _TOKENS)
    for _ in range(0, streams, _STREAMS_AT_ONCE):
        flags = ["-mode", "stream", "-streams", str(_STREAMS_AT_ONCE), "-ramp", "100ms"]
        with stage.load(flags, 30.0) as load:
            refuse_errors(load.finish(), "streams")


def look(server: Process, port: int, upstream_port: int) -> Held:
    """What it holds once all connections of clients are gone. Raises Failed when they stay."""
    process = psutil.Process(server.pid)
    for _ in range(200):
        connections = process.net_connections("tcp")
        if not any(one.laddr.port == port and one.raddr for one in connections):
            break
        time.sleep(0.05)
    else:
        raise Failed("connections of clients that are gone stay open")
    ports = range(upstream_port, upstream_port + _UPSTREAMS)
    idle = sum(bool(one.raddr) and one.raddr.port in ports for one in connections)
    page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    return Held(server.memory().rss_kb, process.num_fds() - idle, idle, sum(map(float, _RUNNING.findall(page))))


def is_clean(before: Held, after: Held) -> bool:
    """Whether nothing was kept."""
    grown_kb = after.rss_kb - before.rss_kb
    pooled = after.idle_upstream <= _UPSTREAMS * _STREAMS_AT_ONCE
    # A probe of each upstream may be under way at either look.
    kept = after.descriptors > before.descriptors + _UPSTREAMS
    return grown_kb <= GROWTH_KB and not kept and pooled and not after.running


def render_soak(requests: int, streams: int, took_s: float, before: Held, after: Held) -> list[str]:
    """Lines for people."""
    verdict = "nothing was kept" if is_clean(before, after) else "SOMETHING WAS KEPT"
    return [
        f"{requests:,} whole answers and {streams:,} streams of {_TOKENS} tokens in {took_s:.0f} s: {verdict}.",
        "",
        "| | before | after |",
        "|---|---|---|",
        f"| resident memory, MB | {before.rss_kb / 1024:.1f} | {after.rss_kb / 1024:.1f} |",
        f"| idle connections to upstreams | {before.idle_upstream} | {after.idle_upstream} |",
        f"| other descriptors | {before.descriptors} | {after.descriptors} |",
        f"| attempts it believes to be running | {before.running:g} | {after.running:g} |",
    ]

"""Whole answers: CPU a request, requests a second, latency."""

from __future__ import annotations

import time
from typing import Any

from bench.stage import Found, Stage, refuse_errors

_LIMIT_S = 30.0
_FEWEST, _MOST = 64, 60_000


def run_unary(stage: Stage, connections: int, requests: int, *flags: str) -> tuple[dict[str, Any], float, float]:
    """The load program's report, CPU microseconds a request, and the share of a core that was used."""
    cpu_ns, began_s = stage.cpu_ns(), time.monotonic()
    with stage.load(["-connections", str(connections), "-requests", str(requests), *flags], _LIMIT_S) as load:
        report = load.finish()
    cpu_ns, took_s = stage.cpu_ns() - cpu_ns, time.monotonic() - began_s
    refuse_errors(report, f"{connections} connections")
    return report, cpu_ns / requests / 1e3, cpu_ns / took_s / 1e9


def warm_up(stage: Stage) -> None:
    """Let it open its connections and compile what it compiles; learn how fast it is."""
    rate = 0.0
    for requests in (_FEWEST, 0):
        report, _, _ = run_unary(stage, 16, requests or choose_requests(rate, 0.4 * stage.scale))
        rate = report["count"] / report["seconds"]
    stage.unary_per_s = rate
    if stage.server:
        stage.server.find_members()
        stage.warm_kb = stage.memory_kb()


def choose_requests(per_s: float, seconds: float) -> int:
    """As many requests as take so long: a fixed number, so that none is broken off."""
    return max(_FEWEST, min(_MOST, int(per_s * seconds)))


class Unary:
    """16 connections for about two seconds."""

    name = "unary"
    dialect = "openai"
    expected_s = 2.0

    def run(self, stage: Stage) -> Found:
        """`cpu_us` a request, `per_s`, and the share of its core."""
        requests = choose_requests(stage.unary_per_s, 2.0 * stage.scale)
        report, cpu_us, core = run_unary(stage, 16, requests)
        return {"cpu_us": cpu_us, "per_s": report["count"] / report["seconds"], "core": core, "count": requests}


class Latency:
    """1, 16 and 64 connections."""

    name = "latency"
    dialect = "openai"
    expected_s = 2.4

    def run(self, stage: Stage) -> Found:
        """p50 and p99 in microseconds for each number of connections."""
        found: Found = {}
        for connections in (1, 16, 64):
            # One connection alone is slower than sixteen together; by how much is not known, a third will do.
            per_s = stage.unary_per_s / (3 if connections == 1 else 1)
            report, _, _ = run_unary(stage, connections, choose_requests(per_s, 0.8 * stage.scale))
            for share in ("p50", "p99"):
                found[f"{share}_us_{connections}"] = report["latency_us"][share]
        return found


class CacheHit:
    """16 connections, each with a request of its own again and again, answered from the cache but for the first."""

    name = "cache-hit"
    dialect = "openai"
    expected_s = 2.2

    def run(self, stage: Stage) -> Found:
        """`cpu_us` a request, and `per_s`."""
        run_unary(stage, 16, _FEWEST, "-cached")
        requests = choose_requests(stage.unary_per_s, 2.0 * stage.scale)
        report, cpu_us, _ = run_unary(stage, 16, requests, "-cached")
        return {"cpu_us": cpu_us, "per_s": report["count"] / report["seconds"], "count": requests}

"""gRPC calls: the server alone (HealthCheck), and through to an Ollama upstream (Generate, GenerateStream)."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from bench.participant import MODEL
from bench.process import LOAD_CORE, Failed, pin
from bench.stage import Found, Stage

_SERVICE = "compute.v1.ComputeService"
_PROTO = Path(__file__).resolve().parents[2] / "proto/compute/v1/compute.proto"
_LIMIT_S = 60.0
_FEWEST, _MOST = 200, 200_000
_PROMPT = "Please summarise the following notes about rivers, foxes and lazy dogs in a few short sentences. " * 9


def run_ghz(stage: Stage, method: str, data: dict[str, Any], calls: int, at_once: int) -> dict[str, Any]:
    """Its report. Raises Failed unless every call ended with OK."""
    target = f"127.0.0.1:{stage.plan.grpc_port}"
    words = [stage.ghz, "--insecure", "--proto", str(_PROTO), "--call", f"{_SERVICE}.{method}", "-d", json.dumps(data)]
    shape = ["-n", str(calls), "-c", str(at_once), "--connections", str(min(4, at_once)), "-t", "60s", "-O", "json"]
    report: dict[str, Any] = json.loads(_run([*words, *shape, target]))
    good = report["statusCodeDistribution"].get("OK", 0)
    if good != calls:
        raise Failed(f"{method}: {good} of {calls} calls were OK: {report.get('errorDistribution')}")
    return report


def run_h2load(stage: Stage, method: str, calls: int) -> float:
    """Calls a second with an empty message, 16 at once on each of 4 connections.

    It looks at the HTTP status only; that the answers are good, ghz has seen. But it costs a tenth of ghz, so that the
    server and not the client is busy.
    """
    message = stage.plan.work / "empty-message"
    message.write_bytes(bytes(5))  # not compressed, no bytes long
    fields = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    url = f"http://127.0.0.1:{stage.plan.grpc_port}/{_SERVICE}/{method}"
    text = _run(["h2load", "-n", str(calls), "-c", "4", "-m", "16", "-d", str(message), *fields, url])
    done = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", text)
    rate = re.search(r"finished in [\d.]+\w+, ([\d.]+) req/s", text)
    if not done or not rate or int(done[1]) != calls:
        raise Failed(f"h2load: {done[0] if done else text[-200:]}")
    return float(rate[1])


def _run(command: list[str]) -> str:
    try:
        return subprocess.run(
            pin(command, LOAD_CORE), capture_output=True, text=True, timeout=_LIMIT_S, check=True
        ).stdout
    except subprocess.CalledProcessError as error:
        raise Failed(f"{command[0]}: {(error.stderr or error.stdout).strip()[-300:]}") from error
    except (subprocess.SubprocessError, OSError) as error:
        raise Failed(f"{command[0]}: {error}") from error


def choose_calls(per_s: float, seconds: float) -> int:
    """As many calls as take so long."""
    return max(_FEWEST, min(_MOST, int(per_s * seconds)))


class GrpcHealth:
    """HealthCheck: nothing behind it."""

    name = "grpc-health"
    dialect = "ollama"
    expected_s = 5.0

    def run(self, stage: Stage) -> Found:
        """`cpu_us` a call and `per_s` by h2load, `ghz_cpu_us` by ghz."""
        slow = run_ghz(stage, "HealthCheck", {}, _FEWEST, 16)["rps"]
        few = choose_calls(slow, 1.2 * stage.scale)
        cpu_ns = stage.cpu_ns()
        run_ghz(stage, "HealthCheck", {}, few, 16)
        ghz_cpu_us = (stage.cpu_ns() - cpu_ns) / few / 1e3
        rate = run_h2load(stage, "HealthCheck", few)
        calls = choose_calls(rate, 2.0 * stage.scale)
        cpu_ns = stage.cpu_ns()
        rate = run_h2load(stage, "HealthCheck", calls)
        cpu_us = (stage.cpu_ns() - cpu_ns) / calls / 1e3
        return {"cpu_us": cpu_us, "per_s": rate, "ghz_cpu_us": ghz_cpu_us, "count": _FEWEST + 2 * few + calls}


class GrpcUnary:
    """Generate: a whole answer from an Ollama upstream."""

    name = "grpc-unary"
    dialect = "ollama"
    expected_s = 3.0

    def run(self, stage: Stage) -> Found:
        """`cpu_us` a call, `per_s`, and latency at 16 calls at once."""
        # Some servers ask the upstream for a stream also when the client wants the whole: it should not be paced then.
        stage.mock.set_pace(0, 40)
        ask = {"prompt": _PROMPT, "model": MODEL}
        rate = run_ghz(stage, "Generate", ask, _FEWEST, 16)["rps"]
        calls = choose_calls(rate, 2.0 * stage.scale)
        cpu_ns = stage.cpu_ns()
        report = run_ghz(stage, "Generate", ask, calls, 16)
        cpu_us = (stage.cpu_ns() - cpu_ns) / calls / 1e3
        shares = {entry["percentage"]: entry["latency"] / 1e3 for entry in report["latencyDistribution"]}
        return {
            "cpu_us": cpu_us,
            "per_s": report["rps"],
            "p50_us": shares[50],
            "p99_us": shares[99],
            "count": _FEWEST + calls,
        }


class GrpcStream:
    """GenerateStream: a hundred calls at once, a token each in 20 ms from an Ollama upstream."""

    name = "grpc-stream"
    dialect = "ollama"
    expected_s = 3.5
    streams, interval_ms, open_s = 100, 20.0, 2.5

    def run(self, stage: Stage) -> Found:
        """`cpu_us` a token; opening and closing the calls is in it."""
        tokens = int(self.open_s * stage.scale * 1000 / self.interval_ms)
        stage.mock.set_pace(self.interval_ms, tokens)
        cpu_ns, began_s = stage.cpu_ns(), time.monotonic()
        run_ghz(stage, "GenerateStream", {"prompt": _PROMPT, "model": MODEL}, self.streams, self.streams)
        cpu_ns, took_s = stage.cpu_ns() - cpu_ns, time.monotonic() - began_s
        core, count = cpu_ns / took_s / 1e9, self.streams * tokens
        return {"cpu_us": cpu_ns / count / 1e3, "core": core, "saturated": float(core > 0.9), "count": count}

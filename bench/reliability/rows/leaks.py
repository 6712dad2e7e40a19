"""F: what is left behind, what holds up the loop, what fails once in a while."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.reliability.loads import run_load
from bench.reliability.row import Outcome, Row, Setting, judge
from bench.reliability.tested import ProvenByTests
from tests.support.lab import LabProcess
from tests.support.processes import ROOT, Child, wait_until
from tests.support.proxy import ProxyProcess

_SPEED = 5.0
_CONCURRENT = (
    "tests/unit/app/requests/test_dispatch.py",
    "tests/unit/app/requests/test_waiting.py",
    "tests/unit/app/requests/test_key_limits.py",
    "tests/unit/lifecycle/test_life.py",
    "tests/unit/fleet/test_admission.py",
    "tests/unit/lab/test_fault_proxy.py",
    "tests/unit/net/http1/test_client.py",
    "tests/unit/net/http1/test_client_faults.py",
    "tests/unit/net/http1/test_dialing.py",
    "tests/unit/net/http1/test_server.py",
    "tests/unit/net/http1/test_server_faults.py",
    "tests/unit/net/http1/test_streamed_bodies.py",
)


class _Watched(ProxyProcess):
    """The proxy with the watch on its loop."""

    def __init__(self, lag: Path, work: Path, lab: LabProcess) -> None:
        super().__init__(work, endpoints=lab.endpoints, speed=_SPEED)
        self._lag, self._work = lag, work

    def start(self) -> ProxyProcess:
        flags = [str(self._lag), "--config", str(self.config_path)]
        env = {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "XDG_STATE_HOME": str(self.config_path.parent)}
        command = [sys.executable, "-P", "-m", "bench.reliability.watched", *flags]
        self.child = Child(command, self._work / "watched.txt", env)
        wait_until(self._is_up, "the watched proxy")
        return self


def loop_lag(setting: Setting) -> Outcome:
    """The overload of C1, with an eye on the loop."""
    seconds, lag = setting.of(30, 6), setting.work / "lag.json"
    figures: dict[str, Any] = {}
    with LabProcess(setting.work, speed=_SPEED) as lab, _Watched(lag, setting.work, lab) as proxy:
        for rate in (15, 60, 150):
            found = run_load(proxy.url, rate, seconds, setting.work, "--model", "qwen2.5:0.5b")
            figures[f"{rate}_per_s"] = {name: found[name] for name in ("sent", "answered", "refused", "failed")}
    figures |= json.loads(lag.read_text())
    lag_ms = figures["lag_ms"]
    words = f"lag p99 {lag_ms['p99']:.1f} ms, p99.9 {lag_ms['p99.9']:.1f} ms, most {lag_ms['max']:.0f} ms"
    return judge(f"{words}; {figures['count']:,} looks", figures, lag_ms["p99.9"] <= 20)


def again_and_again(setting: Setting) -> Outcome:
    """Tests of what happens at once, in another order each time, beside somebody who wants the processor."""
    rounds = setting.of(100, 3)
    failed: list[str] = []
    passed = 0
    with _hog():
        for number in range(rounds):
            seed = setting.seed * 1000 + number
            command = [sys.executable, "-m", "pytest", "-q", f"--randomly-seed={seed}", *_CONCURRENT]
            env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
            done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
            passed += done.returncode == 0
            failed += [
                f"seed {seed}: {line}" for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))
            ]
            if (number + 1) % 10 == 0:
                setting.say(f"{number + 1} of {rounds} rounds, {len(failed)} failures")
    words = f"{passed} of {rounds} rounds without a failure; {failed[:3]}"
    return judge(words, {"rounds": rounds, "failed": failed[:50]}, passed == rounds)


@contextmanager
def _hog() -> Iterator[None]:
    """One process that counts, for as long as it may."""
    hog = multiprocessing.get_context("spawn").Process(target=_count, daemon=True)
    hog.start()
    try:
        yield
    finally:
        hog.kill()
        hog.join()


def _count() -> None:
    number = 0
    while True:
        number += 1


ROWS = (
    Row(
        "F2",
        "requests, streams and clients that leave end as they began",
        "same tasks, descriptors, in-flight counters; warnings are errors",
        "Thousands of requests, streams, cuts and leavers; then tasks, connections and objects are counted",
        ProvenByTests(
            (
                "tests/unit/net/http1/test_leaks.py",
                "tests/unit/app/process/test_garbage.py",
                "tests/unit/app/requests/test_dispatch.py",
                "tests/unit/net/http1/test_client_faults.py",
                "tests/unit/net/http1/test_server_faults.py",
                "tests/e2e/test_fallback.py",
            )
        ).run,
        "a look at tasks and descriptors behind every other e2e test",
    ),
    Row(
        "F3",
        "event loop under C1",
        "p99.9 lag <= 20 ms",
        "A timer in the proxy every 5 ms, under 15, 60 and 150 requests a second on devices that answer 17",
        loop_lag,
        "a hunt for blocking calls",
    ),
    Row(
        "F4",
        "concurrent tests 100 times, random order, beside a CPU hog",
        "0 failures",
        "Twelve files of tests about what happens at once, each round with another seed",
        again_and_again,
    ),
)

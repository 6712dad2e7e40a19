"""The shipped load generator as a process, and what it found."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.processes import ROOT


class Load:
    """`ollama-proxy lab load` under way."""

    def __init__(self, url: str, rate: float, duration_s: float, work: Path, *flags: str) -> None:
        self._report = work / f"load-{id(self)}.json"
        self._command = [
            *(sys.executable, "-P", "-m", "ollama_proxy", "lab", "load", "--url", url, "--rate", f"{rate:g}"),
            *("--duration", f"{duration_s:g}", "--json", str(self._report), *flags),
        ]
        env = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"}
        self._child = subprocess.Popen(
            self._command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def finish(self) -> dict[str, Any]:
        """Wait for its end; the report. Raises `RuntimeError` with its words where there is none."""
        _, said = self._child.communicate()
        if not self._report.exists():
            raise RuntimeError(f"lab load ended with code {self._child.returncode}: {said.decode()[-300:]}")
        found: dict[str, Any] = json.loads(self._report.read_text())
        return found

    def stop(self) -> None:
        """End it, if it runs."""
        if self._child.poll() is None:
            self._child.kill()
            self._child.communicate()


@contextmanager
def start_load(url: str, rate: float, duration_s: float, work: Path, *flags: str) -> Iterator[Load]:
    """Load beside something else."""
    load = Load(url, rate, duration_s, work, *flags)
    try:
        yield load
    finally:
        load.stop()


def run_load(url: str, rate: float, duration_s: float, work: Path, *flags: str) -> dict[str, Any]:
    """Load and nothing else; the report."""
    with start_load(url, rate, duration_s, work, *flags) as load:
        return load.finish()

"""The processes that the HTTP/2 tests talk to."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import psutil

from tests.support.processes import ROOT, Child, free_port, wait_until

_numbers = itertools.count(1)


class TestServer:
    """Context manager: `tests.h2.testservice` as a process; `limits` override those of `Http2Limits`."""

    __test__ = False

    def __init__(self, work: Path, **limits: Any) -> None:
        self.port = free_port()
        self._log = work / f"testservice-{next(_numbers)}.txt"
        self._command = [sys.executable, "-m", "tests.h2.testservice", str(self.port)]
        if limits:
            self._command.append(json.dumps(limits))
        self.child: Child

    @property
    def pid(self) -> int:
        return self.child.pid

    def __enter__(self) -> TestServer:
        env = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        self.child = Child(self._command, self._log, env)
        wait_until(self._is_up, "the test service")
        return self

    def _is_up(self) -> bool:
        self.child.check_alive()
        return "listening" in self.child.text()

    def __exit__(self, *error: object) -> None:
        code = self.child.stop()
        self.child.kill_group()
        if error[0] is None:
            assert code == 0, self.child.text()[-4000:]


def read_rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    size: int = psutil.Process(pid).memory_info().rss
    return size

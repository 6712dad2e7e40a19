"""The fault proxy as a process: `ollama-proxy lab fault --listen`."""

from __future__ import annotations

import itertools
import json
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.processes import ROOT, Child, free_port, wait_until

_numbers = itertools.count(1)


class FaultProcess:
    """Context manager over a fault proxy in front of one server."""

    def __init__(self, work: Path, upstream: str) -> None:
        """`upstream` is the server's address, `http://HOST:PORT`."""
        self._port, self._control_port = free_port(), free_port()
        self._log = work / f"faults-{next(_numbers)}.txt"
        self._command = [
            *(sys.executable, "-P", "-m", "ollama_proxy", "lab", "fault"),
            *("--listen", str(self._port), "--upstream", upstream.removeprefix("http://")),
            *("--control-port", str(self._control_port)),
        ]
        self.child: Child

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @contextmanager
    def on(self, **fault: Any) -> Iterator[None]:
        """A fault for the length of a block, on connections that are open, too."""
        self._control("POST", json.dumps(fault).encode())
        try:
            yield
        finally:
            self._control("DELETE")

    def _control(self, method: str, body: bytes | None = None) -> None:
        url = f"http://127.0.0.1:{self._control_port}/fault"
        with urllib.request.urlopen(urllib.request.Request(url, body, method=method), timeout=30) as answer:
            assert answer.status == 200

    def __enter__(self) -> FaultProcess:
        self.child = Child(self._command, self._log, {"PYTHONPATH": str(ROOT / "src")})
        wait_until(self._is_up, "the fault proxy")
        return self

    def _is_up(self) -> bool:
        self.child.check_alive()
        return "Stop with Ctrl-C." in self.child.text()

    def __exit__(self, *error: object) -> None:
        self.child.stop()
        self.child.kill_group()

"""The emulated fleet as a process, with its control port."""

from __future__ import annotations

import itertools
import json
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.processes import ROOT, Child, free_port, http_get, wait_until

NAMES = ("npu", "igpu", "nvidia", "cpu")
_numbers = itertools.count(1)


class LabProcess:
    """Context manager over `ollama-proxy lab up`."""

    def __init__(self, work: Path, speed: float = 20, text: str = "synthetic", seed: int = 1) -> None:
        self.speed = speed
        self.ports = {name: free_port() for name in NAMES}
        self.control_port = free_port()
        self._log = work / f"lab-{next(_numbers)}.txt"
        self._command = [
            *(sys.executable, "-P", "-m", "ollama_proxy", "lab", "up"),
            *("--ports", ",".join(map(str, self.ports.values())), "--control-port", str(self.control_port)),
            *("--speed", str(speed), "--text", text, "--seed", str(seed)),
        ]
        self.child: Child

    @property
    def endpoints(self) -> list[str]:
        return [self.url(name) for name in NAMES]

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def state(self, name: str) -> dict[str, Any]:
        """What the control port says of a device."""
        status, text = http_get(f"http://127.0.0.1:{self.control_port}/lab/devices")
        assert status == 200, text
        found: dict[str, Any] = next(one for one in json.loads(text)["devices"] if one["device"] == name)
        return found

    def set_fault(self, name: str, fault: str, **details: Any) -> None:
        body = json.dumps({"fault": fault, **details}).encode()
        url = f"http://127.0.0.1:{self.control_port}/lab/devices/{name}/faults"
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=30) as answer:
            assert answer.status == 200

    @contextmanager
    def fault(self, name: str, fault: str, **details: Any) -> Iterator[None]:
        """A fault for the length of a block."""
        self.set_fault(name, fault, **details)
        try:
            yield
        finally:
            self.set_fault(name, "none")

    def __enter__(self) -> LabProcess:
        self.child = Child(self._command, self._log, {"PYTHONPATH": str(ROOT / "src")})
        wait_until(self._is_up, "the lab")
        return self

    def _is_up(self) -> bool:
        self.child.check_alive()
        return "Stop with Ctrl-C." in self.child.text()

    def __exit__(self, *error: object) -> None:
        code = self.child.stop()
        self.child.kill_group()
        if error[0] is None:
            assert code == 0, self.child.text()[-2000:]

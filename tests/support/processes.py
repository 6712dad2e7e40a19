"""Real processes for tests: with a log file, waited for by what they answer, ended with all they started."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from random import SystemRandom

ROOT = Path(__file__).resolve().parents[2]
IDS = ("ollama-npu", "ollama-igpu", "ollama-nvidia", "ollama-cpu")


#: Every port this process was given. A port is free until somebody listens, so asking twice must not find it twice.
_handed_out: set[int] = set()
#: Not `random`: its seed is the same for every run of a test, and two runs at once would choose alike.
_dice = SystemRandom()


def _read_client_ports() -> range:
    """Where the kernel takes the ports of outgoing connections from: one of those may be gone before we listen."""
    try:
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except OSError:
        first, last = "32768", "60999"
    return range(int(first), int(last) + 1)


def _choose_lane() -> tuple[int, int]:
    """Which of how many workers this is: none may be given what another was, and does not listen on yet."""
    name, count = os.environ.get("PYTEST_XDIST_WORKER", "gw0"), os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
    return int(name.removeprefix("gw")) % int(count), int(count)


def free_port() -> int:
    """A port that was free a moment ago, that no client gets by itself, and that no other call has returned."""
    clients = _read_client_ports()
    worker, workers = _choose_lane()
    for _ in range(1000):
        port = _dice.randrange(15_000 + worker, 65_000, workers)
        if port in clients or port in _handed_out:
            continue
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("", port))
            _handed_out.add(port)
            return port
    raise AssertionError("no port is free")


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 30.0) -> None:
    """Poll until a condition holds; fail with its name."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:g} s for {what}")
        time.sleep(0.02)


def http_get(url: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and text; (0, reason) when nothing answers."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def find_tool(name: str) -> str | None:
    """An optional tool: what bin/test installed, else whatever is on PATH."""
    tools = Path(os.environ.get("OLLAMA_PROXY_TOOLS", str(Path.home() / ".cache/ollama-proxy/tools")))
    return shutil.which(name, path=f"{tools / 'bin'}{os.pathsep}{os.environ['PATH']}")


class Child:
    """A process in a group of its own, with its output in a file."""

    def __init__(self, command: list[str], log: Path, env: dict[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                command,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def text(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    def check_alive(self) -> None:
        """Fail with the log when it has ended."""
        if self.process.poll() is not None:
            raise AssertionError(f"exit code {self.process.returncode}:\n{self.text()[-4000:]}")

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 60.0) -> int:
        """Signal it, wait, and sweep up its group; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill_group()
                raise AssertionError(f"did not end within {timeout_s:g} s:\n{self.text()[-4000:]}") from None
        return self.process.returncode

    def kill_group(self) -> None:
        """Kill everything in its group and reap it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

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

ROOT = Path(__file__).resolve().parents[2]
IDS = ("ollama-npu", "ollama-igpu", "ollama-nvidia", "ollama-cpu")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


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
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=10) as answer:
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

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 20.0) -> int:
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

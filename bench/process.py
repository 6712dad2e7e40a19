"""A process under the bench's hand: pinned to a core, in a session of its own, waited for, measured, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from bench.usage import Memory, find_session, read_cpu_ns, read_memory

_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = _CORES[0]
LOAD_CORE = _CORES[-1]
_POLL_S = 0.002


class Failed(Exception):
    """A start or a measurement that did not come off; the text says why."""


def pin(command: list[str], core: int) -> list[str]:
    """The command that runs another on one core, its children included."""
    return ["taskset", "-c", str(core), *command]


class Process:
    """Started by the constructor; `stop` ends whatever it has started."""

    def __init__(self, command: list[str], work: Path, core: int, env: dict[str, str] | None = None) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self._log = work / "output.log"
        self._began_s = time.monotonic()
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                pin(command, core),
                cwd=work,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._members = [self._child.pid]

    def wait_ready(self, port: int, path: str, limit_s: float) -> float:
        """Seconds from exec to the first answer. Raises Failed when it ends before, or takes too long."""
        while time.monotonic() - self._began_s < limit_s:
            answers = _answers(port, path)
            took_s = time.monotonic() - self._began_s
            self.check_alive()  # or it was somebody else who answered
            if answers:
                self._members = find_session(self._child.pid)
                return took_s
            time.sleep(_POLL_S)
        raise Failed(f"not ready within {limit_s:.0f} s: {self._last_words()}")

    @property
    def pid(self) -> int:
        """Of the process that was started; taskset has become it."""
        return self._child.pid

    def check_alive(self) -> None:
        """Raises Failed with its last words when it has ended."""
        if self._child.poll() is not None:
            raise Failed(f"ended with code {self._child.returncode}: {self._last_words()}")

    def find_members(self) -> None:
        """Look again for children: some servers start their workers late."""
        self._members = find_session(self._child.pid)

    def cpu_ns(self) -> int:
        """CPU used so far, children included."""
        return read_cpu_ns(self._members)

    def memory(self) -> Memory:
        """Memory held now, children included."""
        self.find_members()
        return read_memory(self._members)

    def send(self, number: signal.Signals) -> None:
        """A signal to the process that was started; taskset has become it."""
        self._child.send_signal(number)

    def stop(self, limit_s: float = 5.0) -> None:
        """Ask it to end; after a while, or for what it leaves behind, do not ask."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(limit_s)
        for pid in find_session(self._child.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._child.wait()

    def _last_words(self) -> str:
        text = self._log.read_text(errors="replace").strip()
        return " | ".join(text.splitlines()[-3:])[-400:] or "it said nothing"


def _answers(port: int, path: str) -> bool:
    """Whether the port takes a connection and, if a path is given, answers below 500."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            if not path:
                return True
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
            status = connection.recv(64).split(b" ", 2)
    except OSError:
        return False
    return len(status) > 1 and status[1].isdigit() and int(status[1]) < 500

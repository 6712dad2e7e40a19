"""A real Valkey or Redis server of this test's own: started, killed, started again."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import find_tool, free_port, wait_until

PROGRAMS = ("valkey-server", "redis-server")


class RedisProcess:
    """`redis-server` or `valkey-server` on a port of the loopback address, with an append-only file in a folder."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._folder = Path(tempfile.mkdtemp(prefix="redis"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For a client."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Begin to serve, with what was written before."""
        flags = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]
        flags += ["--appendfsync", "always", "--dir", str(self._folder), "--logfile", str(self._folder / "log")]
        self._process = subprocess.Popen([self._program, *flags], stdout=subprocess.DEVNULL)
        wait_until(self._answers, "the redis server answers")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as client:
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
        return False

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def hang(self) -> None:
        """Let it be there and say nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it say something again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def flush(self) -> None:
        """Forget everything."""
        with socket.create_connection(("127.0.0.1", self.port), 1) as client:
            client.sendall(b"FLUSHALL\r\n")
            client.recv(16)

    def remove(self) -> None:
        """End it and its files."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def serve_redis(*names: str) -> Iterator[RedisProcess]:
    """A server of the first of some programs that is here, of any by default; skips the test where there is none."""
    names = names or PROGRAMS
    found = [program for name in names if (program := find_tool(name))]
    if not found:
        pytest.skip(f"no {' or '.join(names)} is installed")
    server = RedisProcess(found[0])
    server.start()
    try:
        yield server
    finally:
        server.remove()

"""The bench's own programs, the mock upstream and the load: built once from bench/go, then started."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import IO, Any

from bench.participant import Unavailable
from bench.ports import find_ports
from bench.process import LOAD_CORE, Failed, Process, pin

_SOURCE = Path(__file__).parent / "go"
_ROOT = Path(__file__).resolve().parents[1]
_MOCK_PORTS = 64


def build_programs(tools: Path) -> Path:
    """The folder that holds `mock` and `load`. Raises Unavailable."""
    if not shutil.which("go"):
        raise Unavailable("go is not installed: the mock upstream and the load program are written in it")
    folder = tools / "bench-bin"
    folder.mkdir(parents=True, exist_ok=True)
    run_quietly(["go", "build", "-o", f"{folder}/", "./cmd/..."], cwd=_SOURCE)
    return folder


def find_ghz(tools: Path) -> str:
    """The gRPC load tool, installed by the script of the tests. Raises Unavailable."""
    for folder in (tools / "bin", Path.home() / ".cache/ollama-proxy/tools/bin"):
        if (folder / "ghz").exists():
            return str(folder / "ghz")
    run_quietly(["sh", str(_ROOT / "tests/tools/install_ghz.sh"), str(tools / "bin")], cwd=_ROOT)
    return str(tools / "bin" / "ghz")


def run_quietly(command: list[str], cwd: Path, limit_s: float = 600) -> None:
    """Run a step of an installation. Raises Unavailable with its last words."""
    try:
        subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=limit_s, check=True)
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{' '.join(command[:3])}: {error.stderr.strip()[-400:]}") from error
    except (subprocess.SubprocessError, OSError) as error:
        raise Unavailable(f"{' '.join(command[:3])}: {error}") from error


class Mock:
    """The upstream, on all its ports."""

    def __init__(self, programs: Path, work: Path) -> None:
        self.port = find_ports(_MOCK_PORTS)
        command = [str(programs / "mock"), "-port", str(self.port), "-ports", str(_MOCK_PORTS)]
        self._process = Process(command, work, LOAD_CORE)
        self._process.wait_ready(self.port, "/health", limit_s=10)

    def upstreams(self, count: int) -> tuple[str, ...]:
        """The addresses of the first ports."""
        return tuple(f"http://127.0.0.1:{self.port + number}" for number in range(count))

    def set_pace(self, interval_ms: float, tokens: int) -> None:
        """How streams flow that are opened from now on."""
        url = f"http://127.0.0.1:{self.port}/mock/pace?interval_ms={interval_ms:g}&tokens={tokens}"
        urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=10).close()

    def check_alive(self) -> None:
        """Raises Failed when it has ended: what was measured then says nothing about the participant."""
        try:
            self._process.check_alive()
        except Failed as error:
            raise Failed(f"the mock upstream {error}") from error

    def stop(self) -> None:
        """End it."""
        self._process.stop()


class Load:
    """One run of the load program; see bench/go/cmd/load for what it prints."""

    def __init__(self, programs: Path, port: int, flags: list[str], limit_s: float) -> None:
        command = [str(programs / "load"), "-address", f"127.0.0.1:{port}", "-limit", f"{limit_s:.0f}s", *flags]
        self._limit_s = limit_s
        self._child = subprocess.Popen(
            pin(command, LOAD_CORE), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def mark(self) -> None:
        """Ask it to say how many tokens have come."""
        pipe = self._pipe(self._child.stdin)
        with contextlib.suppress(BrokenPipeError):  # done before we asked
            pipe.write("\n")
            pipe.flush()

    def read_line(self) -> dict[str, Any]:
        """The next thing it says. It ends by itself: each answer has a limit, and so has their number."""
        line = self._pipe(self._child.stdout).readline()
        if not line:
            raise Failed(f"the load program ended with code {self._child.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def finish(self) -> dict[str, Any]:
        """Its report, whatever events come before it."""
        found = self.read_line()
        while "event" in found:
            found = self.read_line()
        self._child.wait(self._limit_s)
        return found

    def stop(self) -> None:
        """End it, done or not."""
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            with contextlib.suppress(BrokenPipeError):
                self._pipe(pipe).close()

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        if pipe is None:
            raise Failed("the load program has no pipe")
        return pipe

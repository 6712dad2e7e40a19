"""Another process in the place of the one that runs: nobody is refused, cut off or forgotten."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from ollama_proxy.api.gen.compute.v1 import compute_pb2
from tests.support.dripping import MODEL, DrippingOllama
from tests.support.processes import ROOT, Child, http_get, wait_until
from tests.support.proxy import ProxyProcess
from tests.support.steady import SteadyLoad

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def upstream() -> Iterator[DrippingOllama]:
    with DrippingOllama(0.05) as server:
        yield server


@contextmanager
def start(upstream: DrippingOllama, work: Path) -> Iterator[ProxyProcess]:
    backend = {"id": "one", "endpoint": upstream.url, "slots": 0}
    with ProxyProcess(work, replace={"backends": [backend], "routing": {}}) as proxy:
        yield proxy


def follow(proxy: ProxyProcess, number: int = 1, *, wait: bool = True) -> Child:
    """A successor with the same configuration."""
    folder = proxy.config_path.parent
    command = [sys.executable, "-P", "-m", "ollama_proxy", "--config", str(proxy.config_path), "--take-over"]
    child = Child(
        command, folder / f"log-{number}.txt", {"PYTHONPATH": str(ROOT / "src"), "XDG_STATE_HOME": str(folder)}
    )
    if wait:
        wait_until(lambda: "Stop with Ctrl-C." in child.text() or child.check_alive(), "the successor")
    return child


def control_socket(proxy: ProxyProcess) -> Path:
    return proxy.config_path.parent / "ollama-proxy" / f"control-{proxy.http_port}.sock"


def test_a_successor_serves_on_and_the_predecessor_ends_what_it_began(upstream: DrippingOllama, work: Path) -> None:
    body = json.dumps({"model": MODEL, "prompt": "hi", "options": {"num_predict": 120}}).encode()
    with start(upstream, work) as proxy:
        urllib.request.urlopen(proxy.url + "/efficiency", b"Quiet", timeout=30).close()
        # Long enough to teach how fast they come; the first may come within the same millisecond.
        short = json.dumps({"model": MODEL, "prompt": "hi", "options": {"num_predict": 12}}).encode()
        with urllib.request.urlopen(proxy.url + "/api/generate", short, timeout=30) as answer:
            answer.read()
        health = grpc.insecure_channel(proxy.grpc)
        check = health.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"") == b"\x08\x01"
        with urllib.request.urlopen(proxy.url + "/api/generate", body, timeout=30) as answer:
            answer.readline()
            successor = follow(proxy)
            try:
                assert json.loads(http_get(proxy.url + "/efficiency")[1])["current_mode"] == "Quiet"
                # The channel moves to the successor by itself.
                assert check(b"") == b"\x08\x01"
                assert proxy.child.process.poll() is None
                lines = [json.loads(line) for line in answer]
                assert (lines[-1]["done"], lines[-1]["eval_count"]) == (True, 120)
                assert proxy.child.process.wait(60) == 0
                assert http_get(proxy.url + "/readyz")[0] == 200
                assert stat.S_IMODE(control_socket(proxy).stat().st_mode) == 0o600
            finally:
                health.close()
                assert successor.stop() == 0
                successor.kill_group()
        assert not control_socket(proxy).exists()
        # The successor began with what its predecessor had learned.
        learned = json.loads((proxy.config_path.parent / "ollama-proxy" / "learned.json").read_text())
        assert "one" in learned["rates"]


class GrpcLoad:
    """Context manager: one channel that asks without end, and never again for what has failed."""

    def __init__(self, address: str) -> None:
        self.good = 0
        self.bad: list[str] = []
        self._stop = threading.Event()
        self._address = address
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> GrpcLoad:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        request = compute_pb2.GenerateRequest(model=MODEL, prompt="hi", options={"max_tokens": 2}).SerializeToString()
        with grpc.insecure_channel(self._address) as channel:
            generate = channel.unary_unary("/compute.v1.ComputeService/Generate")
            while not self._stop.is_set():
                try:
                    generate(request, timeout=20)
                    self.good += 1
                except grpc.RpcError as error:
                    self.bad.append(str(error))


def test_nobody_is_refused_or_reset(upstream: DrippingOllama, work: Path) -> None:
    with start(upstream, work) as proxy:
        running = proxy.child
        with SteadyLoad(proxy.http_port, 60) as load, GrpcLoad(proxy.grpc) as calls:
            for number in range(2):
                successor = follow(proxy, number)
                assert running.process.wait(60) == 0
                running = successor
        assert running.stop() == 0
        running.kill_group()
    assert not load.bad
    assert not calls.bad
    assert load.good > 60
    assert calls.good > 20


@pytest.mark.long
def test_nobody_is_refused_or_reset_at_two_hundred_a_second(upstream: DrippingOllama, work: Path) -> None:
    with start(upstream, work) as proxy:
        running, times = proxy.child, 0
        with SteadyLoad(proxy.http_port, 200) as load, GrpcLoad(proxy.grpc) as calls:
            while load.sent < 200 * 60 or times < 26:
                successor = follow(proxy, times)
                assert running.process.wait(30) == 0
                running, times = successor, times + 1
        assert running.stop() == 0
        running.kill_group()
    print(f"{times} times; {load.good} requests, {load.bad}; {calls.good} calls, {calls.bad}")
    assert not load.bad
    assert not calls.bad
    assert load.good >= 200 * 60


def test_a_successor_that_fails_changes_nothing(
    upstream: DrippingOllama, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start(upstream, work) as proxy:
        with socket.socket(socket.AF_UNIX) as line:
            monkeypatch.chdir(control_socket(proxy).parent)  # an address has 107 bytes at most
            line.connect(control_socket(proxy).name)
            line.sendall(b'{"ask":"sockets"}\n')
            _, fds, _, _ = socket.recv_fds(line, 65536, 8)
            assert len(fds) == 2
            for fd in fds:
                os.close(fd)
        wait_until(lambda: proxy.log_lines("did not begin to serve"), "it to be noticed")
        assert http_get(proxy.url + "/readyz")[0] == 200


def test_without_a_predecessor_it_is_an_ordinary_start(upstream: DrippingOllama, work: Path) -> None:
    with start(upstream, work) as proxy:
        assert proxy.stop() == 0
        alone = follow(proxy)
        assert "ordinary start" in alone.text()
        assert http_get(proxy.url + "/readyz")[0] == 200
        assert alone.stop() == 0
        alone.kill_group()


_ACTIVATE = """
import fcntl, os, sys
fds, names, *command = sys.argv[1:]
numbers = [int(one) for one in fds.split(",")]
# Out of the way first, or one could land on another.
aside = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 100) for one in numbers]
for target, one in enumerate(aside, 3):
    os.dup2(one, target)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(numbers)), "LISTEN_FDNAMES": names}
os.execv(sys.executable, [sys.executable, *command])
"""


class Activated:
    """A proxy that a service manager starts with sockets of its own."""

    def __init__(self, proxy: ProxyProcess, sockets: dict[str, socket.socket]) -> None:
        folder = proxy.config_path.parent
        self._log = folder / "activated.txt"
        fds = [one.fileno() for one in sockets.values()]
        with self._log.open("wb") as out:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-c", _ACTIVATE, ",".join(map(str, fds)), ":".join(sockets)),
                    *("-P", "-m", "ollama_proxy", "--config", str(proxy.config_path)),
                ],
                stdout=out,
                stderr=subprocess.STDOUT,
                pass_fds=fds,
                env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "XDG_STATE_HOME": str(folder)},
            )

    def text(self) -> str:
        return self._log.read_text()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


def test_sockets_of_a_service_manager(upstream: DrippingOllama, work: Path) -> None:
    """As systemd does it: who connects while nobody serves is answered when somebody does."""
    with start(upstream, work) as proxy:
        proxy.stop()
    with socket.create_server(("127.0.0.1", 0)) as http, socket.create_server(("127.0.0.1", 0)) as other:
        early = socket.create_connection(http.getsockname(), timeout=20)
        early.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        child = Activated(proxy, {"http": http, "strange": other})
        try:
            with early, early.makefile("rb") as answer:
                assert answer.read().endswith(b"ok\n")
            wait_until(lambda: "Stop with Ctrl-C." in child.text(), "the proxy")
            assert "none of http, grpc" in child.text()
        finally:
            assert child.stop() == 0


def test_a_service_manager_must_not_open_what_the_file_keeps_closed(upstream: DrippingOllama, work: Path) -> None:
    with start(upstream, work) as proxy:
        proxy.stop()
    with socket.create_server(("0.0.0.0", 0)) as http:
        child = Activated(proxy, {"http": http})
        assert child.process.wait(60) == 2
        assert "is open to others" in child.text()

"""Four real Ollama servers, killed one after the other: requests go on, health shows it, everything comes back."""

from __future__ import annotations

import concurrent.futures
import json
import re
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ollama import RealOllama
from tests.support.processes import IDS, http_get, wait_until
from tests.support.proxy import ProxyProcess

pytestmark = [pytest.mark.e2e, pytest.mark.ollama]


@pytest.fixture
def fleet(ollamas: RealOllama, work: Path) -> Iterator[tuple[RealOllama, ProxyProcess]]:
    """The shared servers behind a proxy of this test's own; whatever it killed is up again afterwards."""
    with ProxyProcess(work, endpoints=ollamas.endpoints, changes={"health": {"interval_seconds": 5}}) as proxy:
        yield ollamas, proxy
    for name in IDS:
        if name not in ollamas.children:
            ollamas.start(name)


def ask(proxy: ProxyProcess, path: str = "/api/generate") -> tuple[str, dict[str, object]]:
    """One small request; the backend that answered and the document."""
    document = {"model": "qwen2.5:0.5b", "prompt": "Say hello.", "stream": False, "options": {"num_predict": 4}}
    with urllib.request.urlopen(proxy.url + path, json.dumps(document).encode(), timeout=60) as answer:
        return answer.headers["X-Backend-Used"], json.load(answer)


def test_servers_killed_in_turn_lose_no_request(fleet: tuple[RealOllama, ProxyProcess]) -> None:
    ollamas, proxy = fleet
    failures: list[str] = []
    served: list[str] = []
    done = threading.Event()

    def keep_asking() -> None:
        while not done.is_set():
            try:
                served.append(ask(proxy)[0])
            except OSError as error:
                failures.append(str(error))

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        askers = [pool.submit(keep_asking) for _ in range(2)]
        for name in ("ollama-igpu", "ollama-nvidia", "ollama-npu"):
            begun = len(served)
            wait_until(lambda begun=begun: len(served) > begun + 2, "requests to flow")
            ollamas.kill(name)
            wait_until(lambda name=name: f"{name}: unhealthy" in proxy.health(), f"health to show {name}", 60)
        begun = len(served)
        wait_until(lambda: len(served) > begun + 2, "requests on the last server")
        done.set()
        concurrent.futures.wait(askers)
    # A kill in the middle of an answer that had begun is the one loss there may be; unary answers begin at their end.
    assert failures == []
    assert served[-1] == "ollama-cpu"
    for name in ("ollama-igpu", "ollama-nvidia", "ollama-npu"):
        ollamas.start(name)
    wait_until(lambda: proxy.health().startswith("Status: healthy"), "recovery", 60)


def test_real_counts_and_durations_pass_through(fleet: tuple[RealOllama, ProxyProcess]) -> None:
    ollamas, proxy = fleet
    backend, answer = ask(proxy)
    assert answer["eval_count"] == 4
    assert answer["done_reason"] == "length"
    assert isinstance(answer["eval_duration"], int)
    direct = urllib.request.urlopen(
        ollamas.url(backend) + "/api/generate",
        json.dumps(
            {"model": "qwen2.5:0.5b", "prompt": "Say hello.", "stream": False, "options": {"num_predict": 4}}
        ).encode(),
        timeout=60,
    )
    with direct:
        assert set(json.load(direct)) == set(answer)


def test_unknown_fields_reach_the_backend(fleet: tuple[RealOllama, ProxyProcess]) -> None:
    _, proxy = fleet
    document = {"model": "qwen2.5:0.5b", "prompt": "hi", "_debug_render_only": True, "stream": False}
    with urllib.request.urlopen(proxy.url + "/api/generate", json.dumps(document).encode(), timeout=60) as answer:
        assert "<|im_start|>user\nhi" in json.load(answer)["_debug_info"]["rendered_template"]


def test_a_client_that_leaves_stops_a_real_generation(fleet: tuple[RealOllama, ProxyProcess]) -> None:
    ollamas, proxy = fleet
    document = {"model": "qwen2.5:0.5b", "prompt": "Tell a very long story.", "options": {"num_predict": 2000}}
    body = json.dumps(document).encode()
    log = ollamas.children["ollama-nvidia"]
    before = log.text().count('"/api/generate"')
    with socket.create_connection(("127.0.0.1", proxy.http_port)) as client:
        head = "POST /api/generate HTTP/1.1\r\nHost: localhost\r\nX-Target-Backend: nvidia\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
    left = time.monotonic()
    # Ollama logs a request when it is over: at the stop, not after 2,000 tokens.
    wait_until(lambda: log.text().count('"/api/generate"') > before, "Ollama to end the request")
    print(f"stopped {(time.monotonic() - left) * 1000:.0f} ms after the client left")
    assert re.search(r"\[GIN\].*\| 200 \|.*\"/api/generate\"", log.text())


def test_version_is_the_servers(fleet: tuple[RealOllama, ProxyProcess]) -> None:
    _, proxy = fleet
    assert json.loads(http_get(proxy.url + "/api/version")[1]) == {"version": "0.24.0"}

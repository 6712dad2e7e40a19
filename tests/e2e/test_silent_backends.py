"""A backend that accepts requests and says nothing costs nobody an answer, nor much time."""

from __future__ import annotations

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.lab import LabProcess
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

REQUESTS = 30
MODEL = "qwen2.5:0.5b"


def stream(proxy: ProxyProcess, number: int) -> str:
    """The backend that answered; an error when that takes half a minute, a quarter of what a request may take."""
    body = {"model": MODEL, "prompt": f"hi {number}", "options": {"num_predict": 8}}
    request = urllib.request.Request(proxy.url + "/api/generate", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        lines = answer.read().splitlines()
        assert json.loads(lines[-1])["done"] is True
        return str(answer.headers["X-Backend-Used"])


def test_all_are_answered_though_one_of_two_accepts_and_hangs(work: Path) -> None:
    with LabProcess(work, speed=20) as lab:
        both = [lab.url("npu"), lab.url("igpu"), "http://127.0.0.1:9", "http://127.0.0.1:9"]
        with ProxyProcess(
            work, endpoints=both, speed=lab.speed, changes={"routing": {"policy": "round-robin"}}
        ) as proxy:
            for number in range(2):
                stream(proxy, number)
            with lab.fault("npu", "stall"), ThreadPoolExecutor(REQUESTS) as clients:
                found = list(clients.map(lambda number: stream(proxy, number), range(REQUESTS)))
            assert set(found) == {"ollama-igpu"}
            assert lab.state("npu")["requests"] > 1

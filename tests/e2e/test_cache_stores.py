"""Kept answers that outlast the proxy, and a server of them that does not last."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.lab import LabProcess
from tests.support.processes import http_get, wait_until
from tests.support.proxy import ProxyProcess
from tests.support.redis import RedisProcess, serve_redis

pytestmark = pytest.mark.e2e
MODEL = "qwen2.5:0.5b"


@pytest.fixture
def redis() -> Iterator[RedisProcess]:
    with serve_redis() as server:
        yield server


def ask(proxy: ProxyProcess, question: str) -> tuple[str | None, str]:
    """What the cache did, and the answer."""
    document = {
        "model": MODEL,
        "messages": [{"role": "user", "content": question}],
        "stream": False,
        "options": {"temperature": 0, "num_predict": 10},
    }
    headers = {"X-Cache-Enabled": "true", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{proxy.url}/api/chat", json.dumps(document).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.headers.get("X-Cache"), json.load(answer)["message"]["content"]


def look(proxy: ProxyProcess) -> dict[str, Any]:
    with urllib.request.urlopen(f"{proxy.url}/proxy/cache") as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def answers(proxy: ProxyProcess) -> bool:
    try:
        return http_get(f"{proxy.url}/readyz")[0] == 200
    except OSError:
        return False


def test_sqlite_outlasts_a_kill(lab: LabProcess, work: Path) -> None:
    path = work / "answers.sqlite"
    changes = {"cache": {"type": "sqlite", "path": str(path)}}
    with ProxyProcess(work, endpoints=lab.endpoints, speed=lab.speed, changes=changes) as proxy:
        state, text = ask(proxy, "What lasts?")
        assert state == "miss"
        wait_until(lambda: look(proxy)["entries"] == 1, "the answer to be kept")
        assert ask(proxy, "What lasts?") == ("hit", text)
        proxy.child.stop(signal.SIGKILL)
        proxy.start()
        wait_until(lambda: answers(proxy), "the proxy to serve again")
        assert ask(proxy, "What lasts?") == ("hit", text)
        assert path.stat().st_mode & 0o077 == 0


def test_a_server_is_shared_dies_and_comes_back(lab: LabProcess, work: Path, redis: RedisProcess) -> None:
    changes = {"cache": {"type": "valkey", "url": redis.url, "timeout_ms": 2000}}
    with (
        ProxyProcess(work, endpoints=lab.endpoints, speed=lab.speed, changes=changes) as one,
        ProxyProcess(work, endpoints=lab.endpoints, speed=lab.speed, changes=changes) as other,
    ):
        state, text = ask(one, "What is shared?")
        assert state == "miss"
        wait_until(lambda: look(other)["entries"] == 1, "the answer to be kept")
        assert ask(other, "What is shared?") == ("hit", text)
        assert ask(one, "What is purged?")[0] == "miss"
        wait_until(lambda: ask(other, "What is purged?")[0] == "hit", "the other one to find it")
        request = urllib.request.Request(f"{one.url}/proxy/cache?model={MODEL}", method="DELETE")
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200
        wait_until(lambda: ask(other, "What is purged?")[0] == "miss", "the purge to be heard of", 20)
        wait_until(lambda: ask(one, "What is shared?")[0] == "hit", "it to be kept again")
        redis.kill()
        # What it has just read there it may give for two seconds more.
        wait_until(lambda: ask(one, "What is shared?") == ("miss", text), "the loss of the server to be noticed")
        assert [ask(one, "What is shared?") for _ in range(3)] == [("miss", text)] * 3
        assert look(one)["problem"]
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)
        assert refused.value.code == 503
        assert "not purged" in json.load(refused.value)["error"]
        command = [sys.executable, "-P", "-m", "ollama_proxy", "cache", "purge", "--url", one.url]
        told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert (told.returncode, told.stdout) == (2, "")
        assert "not purged" in told.stderr
        redis.start()
        wait_until(lambda: ask(one, "What is shared?")[0] == "hit", "the server to be used again")
        assert "problem" not in look(one)

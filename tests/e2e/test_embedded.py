"""No model server at all: the embedded model answers, says so, is kept alive, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.test_quick_start import METHOD, grpcurl
from tests.support.lab import LabProcess
from tests.support.processes import http_get, wait_until
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

GUIDE_REQUESTS: list[dict[str, Any]] = [
    {"prompt": "What is 2+2?", "model": "qwen2.5:0.5b"},
    {"prompt": "Explain photosynthesis", "model": "qwen2.5:0.5b", "annotations": {"target": "ollama-npu"}},
    {"prompt": "Write a poem about AI", "model": "llama3:7b", "annotations": {"target": "ollama-nvidia"}},
    {"prompt": "Quick response needed", "model": "qwen2.5:0.5b", "annotations": {"latency_critical": True}},
    {"prompt": "Battery mode query", "model": "qwen2.5:0.5b", "annotations": {"prefer_power_efficiency": True}},
    {"prompt": "On battery, limit power", "model": "qwen2.5:0.5b", "annotations": {"max_power_watts": 15}},
]


def children_of(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


@pytest.mark.parametrize("request_document", GUIDE_REQUESTS)
def test_guide_commands_get_real_text_with_an_honest_reason(
    embedded_proxy: ProxyProcess, request_document: dict[str, Any]
) -> None:
    request = {**request_document, "options": {"max_tokens": 8}}
    done = grpcurl(embedded_proxy, "-d", json.dumps(request), METHOD + "Generate")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["backendUsed"] == "embedded"
    assert answer["response"]
    assert f"smollm2:135m stands in for {request['model']}" in answer["routing"]["reason"]
    if target := request.get("annotations", {}).get("target"):
        assert f"target {target} is unhealthy (connection refused)" in answer["routing"]["reason"]


def test_stream_on_the_embedded_model(embedded_proxy: ProxyProcess) -> None:
    request = {"prompt": "Count from 1 to 10", "model": "qwen2.5:0.5b", "options": {"max_tokens": 6}}
    done = grpcurl(embedded_proxy, "-d", json.dumps(request), METHOD + "GenerateStream")
    assert done.stdout.count('"token"') >= 5
    assert done.stdout.count('"done": true') == 1


def test_nothing_pretends_to_be_another_model(embedded_proxy: ProxyProcess) -> None:
    body = json.dumps({"model": "llama3:70b", "prompt": "hi", "stream": False, "options": {"num_predict": 4}}).encode()
    with urllib.request.urlopen(embedded_proxy.url + "/api/generate", body) as answer:
        assert answer.headers["X-Model-Used"] == "smollm2:135m"
        assert "stands in for llama3:70b" in answer.headers["X-Routing-Reason"]
        assert json.load(answer)["model"] == "smollm2:135m"
    wait_until(lambda: embedded_proxy.log_lines("stands in for llama3:70b"), "the log line")


def test_embedded_backend_is_listed_while_it_runs(embedded_proxy: ProxyProcess) -> None:
    assert embedded_proxy.health().endswith("  embedded: healthy\n")
    assert "Stand-In: answers any model name with smollm2:135m" in http_get(embedded_proxy.url + "/backends")[1]


def test_killed_child_is_started_again(embedded_proxy: ProxyProcess) -> None:
    (before,) = children_of(embedded_proxy.child.pid)
    before.kill()
    wait_until(lambda: "embedded" not in embedded_proxy.health(), "the backend to leave")
    wait_until(lambda: "embedded: healthy" in embedded_proxy.health(), "the backend to come back")
    (after,) = children_of(embedded_proxy.child.pid)
    assert after.pid != before.pid


def test_requests_go_to_a_backend_that_comes_up(work: Path) -> None:
    lab = LabProcess(work)
    with ProxyProcess(work, endpoints=lab.endpoints, embedded="auto", speed=lab.speed) as proxy:
        assert "embedded: healthy" in proxy.health()
        with lab:
            wait_until(lambda: proxy.health().count(": healthy") == 6, "all backends")
            body = json.dumps({"model": "qwen2.5:0.5b", "prompt": "hi", "stream": False}).encode()
            with urllib.request.urlopen(proxy.url + "/api/generate", body) as answer:
                assert answer.headers["X-Backend-Used"].startswith("ollama-")
                assert answer.headers["X-Model-Used"] is None


def test_kill_9_of_the_proxy_leaves_no_process(work: Path) -> None:
    proxy = ProxyProcess(work, embedded="always").start()
    started = children_of(proxy.child.pid)
    assert started
    os.kill(proxy.child.pid, signal.SIGKILL)
    proxy.child.process.wait()
    wait_until(lambda: not any(one.is_running() for one in started), "the children to be gone")


def test_start_and_stop_again_and_again_leaves_nothing(work: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        proxy = ProxyProcess(work, embedded="always").start()
        started = children_of(proxy.child.pid)
        assert proxy.child.stop(number) == 0, proxy.child.text()
        assert not any(one.is_running() for one in started)


def test_stop_during_the_start_is_clean(work: Path) -> None:
    proxy = ProxyProcess(work, embedded="always", wait_ready=False).start()
    time.sleep(0.6)  # somewhere in the middle of it, wherever that is on this machine
    assert proxy.child.stop() in (0, -signal.SIGTERM)
    with pytest.raises(ProcessLookupError):
        os.killpg(proxy.child.pid, 0)


def test_port_in_use_is_one_sentence_and_exit_code_2(embedded_proxy: ProxyProcess) -> None:
    import sys

    command = [sys.executable, "-m", "ollama_proxy", "--config", str(embedded_proxy.config_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .startswith(f"ollama-proxy: port {embedded_proxy.http_port} (http) is in use")
    )
    assert "Traceback" not in done.stderr

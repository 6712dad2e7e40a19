"""A device that refuses long prompts: others take them, it goes on with short ones, and alone it speaks for itself."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.lab import LabProcess
from tests.support.processes import http_get
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e
SHORT, LONG = "Why?", "why is the sky blue " * 200


def generate(proxy: ProxyProcess, ident: str, prompt: str, **headers: str) -> tuple[str, str]:
    """The backend that answered, and why."""
    options = {"num_predict": 4}
    body = json.dumps({"model": "qwen2.5:0.5b", "prompt": prompt, "stream": False, "options": options}).encode()
    lines = {"X-Request-ID": ident, "X-Power-Efficient": "true", **headers}
    request = urllib.request.Request(proxy.url + "/api/generate", body, lines)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.headers["X-Backend-Used"], answer.headers["X-Routing-Reason"]


def test_long_prompts_go_elsewhere_from_the_second_on(work: Path) -> None:
    with LabProcess(work, speed=200) as lab, ProxyProcess(work, endpoints=lab.endpoints, speed=lab.speed) as proxy:
        lab.set_fault("npu", "too_long", tokens=512)
        assert generate(proxy, "short-before", SHORT)[0] == "ollama-npu"
        asked = lab.state("npu")["requests"]
        assert generate(proxy, "long-1", LONG)[0] != "ollama-npu"
        assert lab.state("npu")["requests"] == asked + 1
        for number in range(2, 6):
            assert generate(proxy, f"long-{number}", LONG)[0] != "ollama-npu"
        assert lab.state("npu")["requests"] == asked + 1
        told = http_get(f"{proxy.url}/proxy/decisions/d-long-5-1")[1]
        assert re.search(r'"prompt too long".{1,20}"refused prompts of \d+ tokens', told)
        # Nor did its health suffer.
        meant = {"X-Target-Backend": "ollama-npu"}
        assert generate(proxy, "short-after", SHORT, **meant) == ("ollama-npu", "target ollama-npu")
        with pytest.raises(urllib.error.HTTPError) as caught:
            generate(proxy, "meant", LONG, **meant)
        with caught.value as refused:
            assert refused.code == 400
            assert json.loads(refused.read()) == {"error": "the input length exceeds the context length"}
        lab.set_fault("npu", "none")
        backend, reason = generate(proxy, "set-up-anew", LONG, **meant)
        assert (backend, "seems too long" in reason) == ("ollama-npu", True)
        # A prompt of this length was answered: there is no such limit any more.
        assert generate(proxy, "again", LONG, **meant) == ("ollama-npu", "target ollama-npu")

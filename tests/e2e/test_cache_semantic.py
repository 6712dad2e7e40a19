"""The semantic cache with a real model for vectors, in front of the lab."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lab import LabProcess
from tests.support.processes import ROOT
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e
MODEL = "qwen2.5:0.5b"


@pytest.fixture(scope="module")
def proxy(lab: LabProcess, work: Path) -> Iterator[ProxyProcess]:
    # A busy machine starts the model slowly; ordinarily two seconds are enough.
    changes = {"cache": {"semantic": {"enabled": True, "timeout_ms": 60_000}}}
    with ProxyProcess(work, endpoints=lab.endpoints, speed=lab.speed, changes=changes) as process:
        yield process


def ask(proxy: ProxyProcess, question: str, **headers: str) -> tuple[dict[str, str], str]:
    document = {
        "model": MODEL,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": 5,
    }
    fields = {"X-Cache-Enabled": "true", "Content-Type": "application/json", **headers}
    request = urllib.request.Request(f"{proxy.url}/v1/chat/completions", json.dumps(document).encode(), fields)
    with urllib.request.urlopen(request, timeout=90) as answer:
        head = {name.lower(): value for name, value in answer.headers.items()}
        return head, json.load(answer)["choices"][0]["message"]["content"]


def test_other_words_get_the_answer_and_another_question_does_not(proxy: ProxyProcess) -> None:
    head, text = ask(proxy, "Why is the sky blue?")
    assert head["x-cache"] == "miss"
    head, again = ask(proxy, "Can you explain why the sky is blue?")
    assert (head["x-cache"], again) == ("hit", text)
    assert 0.9 <= float(head["x-cache-similarity"]) <= 1
    assert int(head["x-cache-age"]) >= 0
    assert "likeness" in head["x-routing-reason"]
    for other in ("Why is the sky green?", "Why is the sky not blue?", "Why are 2 skies blue?"):
        head, _ = ask(proxy, other)
        assert head["x-cache"] == "miss", other
    head, _ = ask(proxy, "Please tell me why the sky is blue.", **{"X-Cache-Semantic": "false"})
    assert head["x-cache"] == "miss"
    head, _ = ask(proxy, "Why is the sky blue?")
    assert head["x-cache"] == "hit"
    assert "x-cache-similarity" not in head


def test_the_page_tells_how_many_prompts_are_remembered(proxy: ProxyProcess) -> None:
    ask(proxy, "What makes bees buzz?")
    with urllib.request.urlopen(f"{proxy.url}/proxy/cache") as answer:
        assert json.load(answer)["prompts_remembered"] >= 1


@pytest.mark.long
@pytest.mark.parametrize("name", ["pairs.jsonl", "forms.jsonl", "held-out.jsonl"])
def test_the_shipped_threshold_keeps_wrong_hits_to_one_in_a_hundred(proxy: ProxyProcess, name: str) -> None:
    pairs = ROOT / "examples" / "caching" / name
    command = [sys.executable, "-P", "-m", "ollama_proxy", "cache", "calibrate", str(pairs), "--url", proxy.url]
    found = subprocess.run([*command, "--json"], check=True, capture_output=True, text=True, timeout=600)
    report = json.loads(found.stdout)
    [shipped] = [guarded for guarded, _ in report["thresholds"] if guarded["threshold"] == 0.9]
    assert shipped["wrong_share"] <= 0.01
    assert shipped["precision"] >= 0.99
    assert shipped["recall"] >= 0.5
    assert report["suggested"]["threshold"] <= 0.9

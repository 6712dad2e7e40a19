"""The commands about decisions, against a proxy that runs: explain one, explain one that is not sent, replay all."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.lab import LabProcess
from tests.support.processes import ROOT, wait_until
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e
MODEL = "qwen2.5:0.5b"


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-P", "-m", "ollama_proxy", *arguments]
    env = {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=env)


def generate(proxy: ProxyProcess, ident: str, **headers: str) -> None:
    body = json.dumps({"model": MODEL, "prompt": "Why is the sky blue?", "stream": False}).encode()
    request = urllib.request.Request(proxy.url + "/api/generate", body, {"X-Request-ID": ident, **headers})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def test_an_answer_can_be_explained_by_its_decision_id(lab_proxy: ProxyProcess) -> None:
    generate(lab_proxy, "explained", **{"X-Power-Efficient": "true"})
    done = command("explain", "d-explained-1", "--url", lab_proxy.url)
    assert done.returncode == 0, done.stderr
    assert "prefer_power_efficiency" in done.stdout
    assert "Chosen: ollama-npu" in done.stdout
    assert "What happened: ollama-npu answered.\n" in done.stdout
    assert "d-explained-1" in command("explain", "--url", lab_proxy.url).stdout


WAYS_IN = ("/api/generate", "/v1/completions", "/compute/v1/generate", "/compute.v1.ComputeService/Generate")


def test_a_refusal_can_be_explained_by_its_decision_id(lab_proxy: ProxyProcess) -> None:
    for number, path in enumerate(WAYS_IN):
        for model, status in ((MODEL, 400), ("nobody-has-it", 404)):
            ident = f"refused-{number}-{status}"
            headers = {"Content-Type": "application/json", "X-Request-ID": ident, "X-Max-Power-Watts": "1"}
            body = json.dumps({"model": model, "prompt": "x"}).encode()
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(urllib.request.Request(lab_proxy.url + path, body, headers), timeout=30)
            with caught.value as refused:
                assert refused.code == status
                assert refused.headers.get_all("X-Decision-ID") == [f"d-{ident}-1"]
    done = command("explain", "d-refused-0-400-1", "--url", lab_proxy.url)
    assert done.returncode == 0, done.stderr
    assert "Refused (limits exclude all): " in done.stdout
    assert "  ollama-npu: over the power limit: " in done.stdout


def test_what_if_without_the_card_and_under_a_cap(lab_proxy: ProxyProcess) -> None:
    question = ("--model", MODEL, "--prompt", "Why?", "--without", "ollama-nvidia", "--cap", "20", "--json")
    done = command("explain", *question, "--url", lab_proxy.url)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["verdict"]["backend"] in ("ollama-npu", "ollama-igpu")
    assert "ollama-nvidia" not in [one["spec"]["id"] for one in record["fleet"]["backends"]]


def test_what_cannot_be_explained_ends_in_a_sentence(lab_proxy: ProxyProcess) -> None:
    for arguments, code in (
        (("d-none-1", "--url", lab_proxy.url), 2),
        (("--prompt", "x"), 2),
        (("d-1-1", "--model", MODEL), 2),
        (("--url", "no address"), 2),
        (("--url", "http://127.0.0.1:1"), 1),
        (("--model", MODEL, "--wish", "critical", "--url", lab_proxy.url), 2),
    ):
        done = command("explain", *arguments)
        assert done.returncode == code, (arguments, done.stderr)
        assert done.stderr.startswith("ollama-proxy explain: ")
        assert "Traceback" not in done.stderr


def test_recorded_decisions_replay_to_the_byte(lab: LabProcess, work: Path, tmp_path: Path) -> None:
    file = tmp_path / "decisions.jsonl"
    changes = {"routing": {"record_file": str(file)}}
    with ProxyProcess(work, endpoints=lab.endpoints, speed=lab.speed, changes=changes) as proxy:
        for number, headers in enumerate(({}, {"X-Latency-Critical": "true"}, {"X-Max-Power-Watts": "15"})):
            generate(proxy, f"r{number}", **headers)
        live = command("replay", "--url", proxy.url)
        assert live.stdout.startswith("3 decision(s) replayed under their own policies: each is the same"), live.stderr
        # Written while it runs, at the latest a second after.
        wait_until(lambda: file.exists() and len(file.read_bytes().splitlines()) == 3, "the recorded decisions")
    done = command("replay", str(file))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3 decision(s) replayed under their own policies: each is the same to the byte.\n"
    assert "replayed under rule greenest" in command("replay", str(file), "--policy", "greenest").stdout

"""Aliases, names of single backends, the default model, substitutes, near names: as each dialect sees them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.lab import LabProcess
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

MODELS = {
    "default": "qwen2.5:0.5b",
    "aliases": {"fast": "qwen2.5:0.5b", "gpt-4o": "llama3:7b"},
    "substitutes": {"llama3:70b": ["nowhere:1b", "llama3:7b"]},
}


@pytest.fixture(scope="module")
def proxy(lab: LabProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    work: Path = tmp_path_factory.mktemp("names")
    with ProxyProcess(work, endpoints=lab.endpoints, speed=lab.speed, changes={"models": MODELS}) as process:
        yield process


def ask(proxy: ProxyProcess, path: str, document: dict[str, Any]) -> tuple[int, dict[str, str], str]:
    request = urllib.request.Request(proxy.url + path, json.dumps(document).encode())
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, dict(answer.headers), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read().decode()


def chat(model: str | None, **more: Any) -> dict[str, Any]:
    named = {} if model is None else {"model": model}
    return {**named, "messages": [{"role": "user", "content": "hi"}], **more}


@pytest.mark.parametrize("stream", [False, True])
def test_an_alias_is_answered_under_its_own_name(proxy: ProxyProcess, stream: bool) -> None:
    status, _, body = ask(proxy, "/api/chat", chat("fast", stream=stream))
    assert status == 200
    assert {json.loads(line)["model"] for line in body.splitlines()} == {"fast"}
    status, _, body = ask(proxy, "/v1/chat/completions", chat("gpt-4o", stream=stream))
    events = [line.removeprefix("data: ") for line in body.splitlines() if line.strip()]
    assert {json.loads(event)["model"] for event in events if event != "[DONE]"} == {"gpt-4o"}


def test_aliases_are_listed(proxy: ProxyProcess) -> None:
    with urllib.request.urlopen(proxy.url + "/api/tags", timeout=30) as answer:
        names = [model["name"] for model in json.load(answer)["models"]]
    assert "fast:latest" in names
    assert len(names) == len(set(names))
    with urllib.request.urlopen(proxy.url + "/v1/models", timeout=30) as answer:
        assert any(model["id"].removesuffix(":latest") == "gpt-4o" for model in json.load(answer)["data"])


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_without_a_name_the_default_answers(proxy: ProxyProcess, path: str) -> None:
    status, _, body = ask(proxy, path, chat(None, stream=False))
    assert status == 200
    assert json.loads(body)["model"] == MODELS["default"]


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_a_substitute_shows_itself(proxy: ProxyProcess, path: str) -> None:
    status, headers, body = ask(proxy, path, chat("llama3:70b", stream=False))
    assert status == 200
    assert json.loads(body)["model"] == "llama3:7b"
    assert headers["X-Model-Used"] == "llama3:7b"
    assert "llama3:7b substitutes for llama3:70b" in headers["X-Routing-Reason"]


def test_vectors_are_never_substituted(proxy: ProxyProcess) -> None:
    assert ask(proxy, "/api/embed", {"model": "llama3:70b", "input": "x"})[0] == 404


def test_near_names_are_told(proxy: ProxyProcess) -> None:
    status, headers, _ = ask(proxy, "/api/chat", chat("qwen2.5:0.5", stream=False))
    assert status == 404
    assert "qwen2.5:0.5b" in headers["X-Nearest-Models"].split(", ")


def test_a_backend_may_have_its_own_name_for_a_model(lab: LabProcess, work: Path) -> None:
    backend = {
        "id": "one",
        "endpoint": lab.endpoints[2],
        "model_names": {"mine:7b": "llama3:7b"},
        "characteristics": {"power_watts": 50},
    }
    document = {"backends": [backend], "routing": {"default_backend": ""}}
    with ProxyProcess(work, endpoints=lab.endpoints, replace=document) as proxy:
        status, headers, body = ask(proxy, "/api/chat", chat("mine:7b", stream=False))
        assert (status, headers["X-Backend-Used"]) == (200, "one")
        assert json.loads(body)["model"] == "mine:7b"

"""The fast lane changes nothing: random requests with unknown fields, through the proxy and direct, byte for byte.

What differs between two runs of one server is masked: times, ids, and what a prompt cache had.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.pairs.cells import SERVERS
from tests.pairs.servers import backend, llama_cpp
from tests.support.lab import LabProcess
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

_MASKS = [
    re.compile(
        rb'"(?:created_at|created|completed_at|[a-z_]*_duration|cached_tokens|cached_input_tokens)":("[^"]*"|[0-9]+)'
    ),
    re.compile(rb'"(?:id|item_id|call_id|request_id|encrypted_content)":"[^"]*"'),
    re.compile(rb'"timings":\{[^}]*\}'),
]
#: The dialects that each server speaks itself, as paths.
PATHS = {
    "Ollama": (
        "/api/generate",
        "/api/chat",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/messages",
        "/v1/responses",
    ),
    "llama.cpp": ("/v1/chat/completions", "/v1/completions"),
    "lab ollama": ("/api/generate", "/api/chat", "/v1/chat/completions", "/v1/completions", "/v1/messages"),
    "lab anthropic": ("/v1/messages",),
}
SHARES = {"Ollama": 25, "llama.cpp": 25, "lab ollama": 90, "lab anthropic": 60}
_WORDS = ["the", "a", "cat", "dog", "small", "river", "sings", "under", "über", "北京", "🙂", "\\", '"', "\n", "blue"]


def make_request(dice: random.Random, path: str, model: str) -> bytes:
    """A body that the server understands, with members it does not, in any order and spacing."""
    text = " ".join(dice.choice(_WORDS) for _ in range(dice.randint(1, 6)))
    stream, most = dice.random() < 0.5, dice.randint(1, 4)
    messages = [{"role": "user", "content": text, **_unknown(dice)}]
    document: dict[str, Any] = {"model": model, "stream": stream, **_unknown(dice)}
    if path.startswith("/api/"):
        document["options"] = {"num_predict": most, "temperature": 0, "seed": 1}
    elif path != "/v1/responses":
        document |= {"max_tokens": most, "temperature": 0}
    if path == "/v1/responses":
        document |= {"input": text, "max_output_tokens": most, "temperature": 0, "store": False}
    elif path.endswith(("/generate", "/completions")) and "chat" not in path:
        document["prompt"] = text
    else:
        document["messages"] = messages
    members = list(document.items())
    dice.shuffle(members)
    indent = dice.choice([None, None, 1])
    return json.dumps(dict(members), ensure_ascii=dice.random() < 0.5, indent=indent).encode()


def _unknown(dice: random.Random) -> dict[str, Any]:
    values: list[Any] = [None, True, 1.50, 12345678901234567890, "x", [], {"deep": [{"er": {}}]}]
    return {f"x_{dice.randint(0, 99)}": dice.choice(values) for _ in range(dice.randint(0, 3))}


def send(url: str, body: bytes) -> tuple[int, str, bytes]:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", "anthropic-version": "2023-06-01"})
    try:
        with urllib.request.urlopen(request, timeout=110) as answer:
            return answer.status, answer.headers["Content-Type"], mask(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], mask(error.read())


def mask(body: bytes) -> bytes:
    for pattern in _MASKS:
        body = pattern.sub(lambda found: found[0].split(b":", 1)[0] + b":~", body)
    return body


@pytest.fixture(scope="module")
def llama() -> Iterator[str]:
    with llama_cpp() as url:
        yield url


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.ollama) if name == "Ollama" else name for name in PATHS]
)
def test_the_proxy_changes_nothing(name: str, request: pytest.FixtureRequest, tmp_path_factory: Any) -> None:
    if name == "Ollama":
        direct = request.getfixturevalue("ollamas").endpoints[0]
    elif name == "llama.cpp":
        direct = request.getfixturevalue("llama")
    else:
        lab: LabProcess = request.getfixturevalue("lab")
        direct = lab.endpoints[2]
    about = SERVERS[name]
    only = {"backends": [backend(about.kind, direct)], "routing": {"default_backend": ""}}
    dice = random.Random(f"identity of {name}")
    with contextlib.ExitStack() as opened:
        proxy = opened.enter_context(ProxyProcess(tmp_path_factory.mktemp("identity"), replace=only))
        for _ in range(SHARES[name]):
            path = dice.choice(PATHS[name])
            body = make_request(dice, path, about.model)
            assert send(proxy.url + path, body) == send(direct + path, body), (path, body)

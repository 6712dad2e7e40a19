"""Which lane a request of the Responses API takes, by the kind of the backend and what it asks for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from ollama_proxy.backends.anthropic.backend import AnthropicBackend
from ollama_proxy.backends.ollama.backend import OllamaBackend
from ollama_proxy.backends.openai.backend import OpenAiBackend
from ollama_proxy.domain.call import Call, Dialect, Generation, Message, Need, Operation, RawHead, RawRequest
from ollama_proxy.domain.device import BackendSpec
from ollama_proxy.net.http1.client import Origin

HEAD = RawHead(b"POST", b"/v1/responses", ((b"content-type", b"application/json"),))
BODY = b'{"model":"m", "input":"hi", "unknown":1}'
SPEC = BackendSpec("one", "ollama", "one", "cpu")


class FakePool:
    """Takes requests and sends them nowhere."""

    origin = Origin("localhost", 1)

    def __init__(self, version: str = "") -> None:
        self.sent: list[bytes] = []
        self._version = version

    def start(self, upload: Any) -> None:
        self.sent.append(upload.request)

    def send(self, request: bytes, sink: Any) -> Any:
        documents: dict[bytes, Any] = {b"/api/version": {"version": self._version}}
        found = documents.get(request.split(b" ")[1], {"models": []})
        asyncio.get_running_loop().call_soon(self._answer, sink, json.dumps(found).encode())
        return self

    @staticmethod
    def _answer(sink: Any, body: bytes) -> None:
        sink.on_response(200, [(b"content-type", b"application/json")])
        sink.on_body(body)
        sink.on_complete()


def make_call(body: bytes = BODY, wanted: Any = None, **more: Any) -> Call:
    typed = Generation(messages=(Message("user", "hi"),), format=wanted)
    raw = RawRequest(HEAD, body)
    return Call("r1", Dialect.RESPONSES, Operation.CHAT, "m", False, 0.0, lambda: typed, raw=raw, **more)


def asked(backend: Any, pool: FakePool, call: Call) -> tuple[bytes, bytes]:
    """Path and body of what went out."""
    backend.open(call, "m", None)
    head, _, body = pool.sent[-1].partition(b"\r\n\r\n")
    return head.split(b" ")[1], body


def test_ollama_gets_the_bytes() -> None:
    pool: Any = FakePool()
    assert asked(OllamaBackend(SPEC, pool), pool, make_call()) == (b"/v1/responses", BODY)


def test_ollama_is_asked_natively_for_what_its_layer_drops() -> None:
    pool: Any = FakePool()
    assert asked(OllamaBackend(SPEC, pool), pool, make_call(raw_needs_native=True))[0] == b"/api/chat"


@pytest.mark.parametrize(
    ("version", "path"),
    [
        ("0.13.2", b"/api/chat"),
        ("0.9.0-rc1", b"/api/chat"),
        ("0.13.3", b"/v1/responses"),
        ("1.0.0", b"/v1/responses"),
        ("0.0.0", b"/v1/responses"),
        ("unheard-of", b"/v1/responses"),
    ],
)
def test_an_old_ollama_is_asked_natively(version: str, path: bytes) -> None:
    pool: Any = FakePool(version)
    backend = OllamaBackend(SPEC, pool)
    assert asyncio.run(backend.probe(1.0)).version == version
    assert asked(backend, pool, make_call())[0] == path


def test_only_who_speaks_it_has_its_tools() -> None:
    pool: Any = FakePool()
    assert Need.BUILT_IN_TOOLS in OpenAiBackend(SPEC, pool, speaks_responses=True).capabilities
    for other in (OpenAiBackend(SPEC, pool), OllamaBackend(SPEC, pool), AnthropicBackend(SPEC, pool)):
        assert Need.BUILT_IN_TOOLS not in other.capabilities


@pytest.mark.parametrize("needs_native", [False, True])
def test_servers_of_type_openai_get_the_bytes_when_they_are_said_to_speak_it(needs_native: bool) -> None:
    pool: Any = FakePool()
    call = make_call(raw_needs_native=needs_native)
    assert asked(OpenAiBackend(SPEC, pool, speaks_responses=True), pool, call) == (b"/v1/responses", BODY)
    assert asked(OpenAiBackend(SPEC, pool), pool, call)[0] == b"/v1/chat/completions"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"name": "city", "strict": True, "description": "D"}, {"name": "city", "strict": True, "description": "D"}),
        ({"name": "city", "strict": False}, {"name": "city", "strict": False}),
        ({"name": "", "strict": None}, {"name": "answer"}),
        ({}, {"name": "answer"}),
    ],
)
def test_what_is_said_of_a_schema_is_said_to_chat_completions(told: dict[str, Any], expected: dict[str, Any]) -> None:
    pool: Any = FakePool()
    schema = {"type": "object"}
    body = json.dumps({"model": "m", "input": "hi", "text": {"format": {"schema": schema, **told}}}).encode()
    path, sent = asked(OpenAiBackend(SPEC, pool), pool, make_call(body, schema))
    assert path == b"/v1/chat/completions"
    form = {"type": "json_schema", "json_schema": {**expected, "schema": schema}}
    assert json.loads(sent)["response_format"] == form

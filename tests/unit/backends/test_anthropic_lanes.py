"""Which way a request goes to a server of Anthropic's API, and what of its head goes along."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from ollama_proxy.backends.anthropic.backend import CAPABILITIES, AnthropicBackend
from ollama_proxy.domain.call import Call, Dialect, Embedding, Generation, Message, Need, Operation, RawHead, RawRequest
from ollama_proxy.domain.device import BackendSpec
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.ports import AttemptSink
from ollama_proxy.net.http1.client import Origin, OriginPool
from ollama_proxy.net.lanes.fast_lane import RawAttempt
from ollama_proxy.net.lanes.translate_lane import DecodedAttempt

BODY = b'{"unknown": [1,  2], "model":"m"}'


class Pool:
    """Takes requests and sends none."""

    origin = Origin("api.example", 443, True)

    def __init__(self) -> None:
        self.request = b""

    def start(self, attempt: Any) -> None:
        self.request = attempt.request


def backend(prefix: str = "/v1") -> tuple[AnthropicBackend, Pool]:
    pool = Pool()
    spec = BackendSpec("claude", "anthropic", "claude", "cloud")
    return AnthropicBackend(spec, cast(OriginPool, pool), prefix, api_key="secret", max_tokens=99), pool


def typed() -> Generation:
    return Generation(messages=(Message("user", "hi"),))


def call_of(
    dialect: Dialect, path: bytes = b"/v1/messages", headers: Any = (), read: Callable[[], Any] = typed
) -> Call:
    raw = RawRequest(RawHead(b"POST", path, headers), BODY)
    return Call("r", dialect, Operation.CHAT, "m", False, 0.0, read, raw=raw)


def lines(request: bytes) -> list[bytes]:
    return request.partition(b"\r\n\r\n")[0].split(b"\r\n")


def test_anthropics_clients_pass_as_they_come() -> None:
    server, pool = backend()
    headers = (
        (b"user-agent", b"sdk"),
        (b"content-type", b"x"),
        (b"anthropic-version", b"2030"),
        (b"anthropic-beta", b"b"),
    )
    attempt = server.open(call_of(Dialect.ANTHROPIC, b"/v1/messages?beta=true", headers), "m", cast(AttemptSink, None))
    assert isinstance(attempt, RawAttempt)
    assert pool.request.endswith(b"\r\n\r\n" + BODY)
    head = lines(pool.request)
    assert head[0] == b"POST /v1/messages?beta=true HTTP/1.1"
    assert head[1] == b"Host: api.example"
    assert set(head[2:-1]) == {
        b"Content-Type: application/json",
        b"anthropic-version: 2030",
        b"anthropic-beta: b",
        b"user-agent: sdk",
        b"x-api-key: secret",
    }


def test_a_client_that_names_no_version_gets_ours() -> None:
    server, pool = backend("/proxy/v1")
    server.open(call_of(Dialect.ANTHROPIC, b"/v1/messages/count_tokens"), "other", cast(AttemptSink, None))
    assert lines(pool.request)[0] == b"POST /proxy/v1/messages/count_tokens HTTP/1.1"
    assert b"anthropic-version: 2023-06-01" in lines(pool.request)
    assert pool.request.endswith(b'{"unknown": [1,  2], "model":"other"}')


@pytest.mark.parametrize("dialect", [Dialect.OLLAMA, Dialect.OPENAI, Dialect.RESPONSES, Dialect.COMPUTE])
def test_others_are_translated(dialect: Dialect) -> None:
    server, pool = backend()
    attempt = server.open(call_of(dialect, b"/api/chat", ((b"accept", b"x"),)), "m", cast(AttemptSink, None))
    assert isinstance(attempt, DecodedAttempt)
    head = lines(pool.request)
    assert head[0] == b"POST /v1/messages HTTP/1.1"
    assert {b"x-api-key: secret", b"anthropic-version: 2023-06-01"} <= set(head)
    assert b'"max_tokens":99' in pool.request


def test_there_are_no_vectors() -> None:
    server, _ = backend()
    with pytest.raises(ProxyError) as refused:
        server.open(call_of(Dialect.OPENAI, read=lambda: Embedding(("a",))), "m", cast(AttemptSink, None))
    assert refused.value.kind is ErrorKind.UNIMPLEMENTED
    assert Need.EMBED not in CAPABILITIES
    assert {Need.COUNT, Need.TOOL_CHOICE, Need.DOCUMENTS} <= CAPABILITIES

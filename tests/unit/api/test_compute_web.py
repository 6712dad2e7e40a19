"""Calls over HTTP leave nothing behind, however they end."""

from __future__ import annotations

import asyncio
import gc
import json
from base64 import b64decode
from collections.abc import Awaitable, Callable
from struct import pack

import msgspec
import pytest
import uvloop

from ollama_proxy.api.compute.rest import accepts_events
from ollama_proxy.app.proxy import Proxy
from ollama_proxy.app.requests.dispatch import Dispatcher
from ollama_proxy.config.schema import Config
from ollama_proxy.domain.call import Call
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.ports import AnswerSink

SERVICE = "/compute.v1.ComputeService/"
BAD = {"prompt": "hi", "model": "nobody-has-it"}


def request(path: str, content_type: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def in_json(document: object) -> bytes:
    return json.dumps(document).encode()


def frame(message: bytes) -> bytes:
    return pack(">BI", 0, len(message)) + message


CALLS = {
    "rest": request("/compute/v1/generate", "application/json", in_json(BAD)),
    "rest stream": request("/compute/v1/generate/stream", "application/json", in_json(BAD)),
    "rest nonsense": request("/compute/v1/embed", "application/json", b"{"),
    "connect": request(SERVICE + "HealthCheck", "application/json", b"{}"),
    "connect error": request(SERVICE + "Generate", "application/json", in_json(BAD)),
    "connect stream": request(SERVICE + "GenerateStream", "application/connect+json", frame(in_json(BAD))),
    "grpc-web": request(SERVICE + "ListBackends", "application/grpc-web", frame(b"")),
    "grpc-web text": request(SERVICE + "HealthCheck", "application/grpc-web-text", b"AAAAAAA="),
}


async def read_answer(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if b"Content-Length: " in head:
        await reader.readexactly(int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]))
    else:
        await reader.readuntil(b"0\r\n\r\n")


def run(play: Callable[[int], Awaitable[None]]) -> None:
    async def scene() -> None:
        config = msgspec.convert(
            {
                "server": {"http_port": 0, "grpc_port": 0},
                "monitoring": {"prometheus_port": 0, "trace_requests": False},
                "embedded": {"enabled": "never"},
            },
            Config,
        )
        proxy = Proxy(config)
        await proxy.start()
        try:
            async with asyncio.timeout(20):
                await play(proxy.http_port)
        finally:
            await proxy.stop()

    uvloop.run(scene())


def with_fields(path: str, content_type: str, body: bytes, *fields: str) -> bytes:
    head, _, rest = request(path, content_type, body).partition(b"\r\n")
    return head + b"\r\n" + "".join(f"{field}\r\n" for field in fields).encode() + rest


ANSWERS = {
    "connect, no gzip": (
        with_fields(SERVICE + "Generate", "application/json", b"no gzip", "Content-Encoding: gzip"),
        (b"HTTP/1.1 400", b'"invalid_argument"'),
    ),
    "rest, no gzip": (
        with_fields("/compute/v1/generate", "application/json", b"no gzip", "Content-Encoding: gzip"),
        (b"HTTP/1.1 400", b'"INVALID_ARGUMENT"'),
    ),
    "connect, no time left": (
        with_fields(SERVICE + "HealthCheck", "application/json", b"{}", "Connect-Timeout-Ms: 0"),
        (b'"deadline_exceeded"',),
    ),
    "connect, too deep": (
        request(SERVICE + "HealthCheck", "application/json", b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}"),
        (b"HTTP/1.1 400", b"invalid JSON: it is nested too deeply"),
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_bad_calls_are_told_what_is_wrong(name: str) -> None:
    call, words = ANSWERS[name]

    async def play(port: int) -> None:
        answer = await ask(port, call)
        assert all(word in answer for word in words), answer

    run(play)


@pytest.mark.parametrize("body", [b"!!!!", b"AAAAA", b"AAAAAAA=\xff"])
def test_what_is_no_base64_is_the_callers_fault(body: bytes) -> None:
    async def play(port: int) -> None:
        answer = await ask(port, request(SERVICE + "HealthCheck", "application/grpc-web-text", body))
        trailers = b64decode(answer.partition(b"\r\n\r\n")[2])
        assert b"grpc-status: 3" in trailers or b"grpc-status:3" in trailers, trailers

    run(play)


async def ask(port: int, call: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(call.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize(
    ("accept", "events"),
    [
        (b"text/event-stream", True),
        (b"application/json, Text/Event-Stream ; q=0.5", True),
        (b"text/event-stream;q=0, application/x-ndjson", False),
        (b"text/event-stream; q=0.000", False),
        (b"text/event-stream-of-mine", False),
        (b";,", False),
        (None, False),
    ],
)
def test_events_are_for_those_who_take_them(accept: bytes | None, *, events: bool) -> None:
    assert accepts_events(accept) is events


@pytest.mark.parametrize("name", CALLS)
def test_a_call_leaves_the_collector_nothing(name: str) -> None:
    async def play(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def call(times: int) -> None:
            for _ in range(times):
                writer.write(CALLS[name])
                await read_answer(reader)

        await call(5)
        gc.collect()
        gc.disable()
        try:
            await call(50)
            left = gc.collect()
        finally:
            gc.enable()
        assert left < 50, f"{left} objects of 50 calls"
        writer.close()
        await writer.wait_closed()

    run(play)


@pytest.mark.parametrize("name", ["rest", "connect error"])
@pytest.mark.parametrize(("kind", "status"), [(ErrorKind.RATE_LIMITED, b"429"), (ErrorKind.OVERLOADED, b"503")])
def test_who_comes_too_soon_is_told_whole_seconds_that_are_enough(name: str, kind: ErrorKind, status: bytes) -> None:
    def refuse(dispatcher: Dispatcher, call: Call, sink: AnswerSink) -> None:
        sink.fail(ProxyError(kind, "full", retry_after_s=2.2))

    async def play(port: int) -> None:
        answer = await ask(port, CALLS[name])
        assert answer.startswith(b"HTTP/1.1 %b " % status)
        assert b"\r\nRetry-After: 3\r\n" in answer
        assert b"\r\nRetry-After-Ms: 2200\r\n" in answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dispatcher, "submit", refuse)
        run(play)

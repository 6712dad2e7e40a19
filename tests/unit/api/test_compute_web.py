"""Calls over HTTP leave nothing behind, however they end."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable
from struct import pack

import msgspec
import pytest
import uvloop

from ollama_proxy.app.proxy import Proxy
from ollama_proxy.config.schema import Config

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

"""The HTTP/1.1 server where a limit or a refusal meets what is sound."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from ollama_proxy.net.http1.server import HttpServer
from tests.unit.net.test_http1 import read_answers, serve

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter

POST = b"POST /p HTTP/1.1\r\nHost: x\r\n"


def test_a_pipeline_longer_than_a_read_is_not_one_long_head() -> None:
    requests = b"GET /good HTTP/1.1\r\nHost: x\r\nUser-Agent: pipeline/1.0\r\n\r\n" * 20_000

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(requests)
        received = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while received.count(b"GET /good ", -200) == 0 or received.count(b"GET /good ") < 20_000:
                if not (data := await reader.read(1_000_000)):
                    break
                received += data
        assert received.count(b"GET /good ") == 20_000

    serve(client)


@pytest.mark.parametrize("start", [b"X: ", b"X"])
def test_a_trailer_without_end_is_refused(start: bytes) -> None:
    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + start + b"a" * 200_000)
        async with asyncio.timeout(0.5):
            assert (await reader.read()).startswith(b"HTTP/1.1 431 ")

    serve(client)


@pytest.mark.parametrize(
    "framed", [b"Content-Length: 2\r\n\r\nhi", b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"]
)
def test_an_upgrade_is_ignored_and_the_body_read(framed: bytes) -> None:
    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        settings = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
        writer.write(POST + settings + framed)
        assert await read_answers(reader, 1) == [(200, b"POST /p hi")]

    serve(client)

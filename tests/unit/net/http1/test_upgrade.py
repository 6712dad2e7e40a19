"""Handing a connection over to another protocol: asked for, granted, and with the first bytes of it already there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ollama_proxy.net.draining import drain
from ollama_proxy.net.http1.exchange import Exchange, UpgradeNotAsked
from ollama_proxy.net.http1.server import HttpServer
from tests.support.http1 import echo, read_answers, serve, until

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter

ASK = b"GET /shout HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: shout/1\r\n\r\n"
GET = b"GET /good HTTP/1.1\r\nHost: x\r\n\r\n"


class Shout(asyncio.Protocol):
    """A toy protocol: says everything back in capitals; ends on a full stop."""

    transport: asyncio.Transport
    lost = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())
        if data.endswith(b"."):
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        Shout.lost += 1


def grant(exchange: Exchange) -> None:
    if exchange.path != b"/shout":
        echo(exchange)
        return
    exchange.fixed_lines = b"X-Request-ID: r\r\n"
    transport, rest = exchange.take_over([(b"X-Shout", b"loud")])
    protocol = Shout()
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if rest:
        protocol.data_received(rest)


@contextmanager
def one_lost() -> Iterator[None]:
    Shout.lost = 0
    yield
    assert Shout.lost == 1


@pytest.mark.parametrize("first", [b"", b"hello\r\n\r\n"])
@pytest.mark.parametrize("size", [1, 10_000])
def test_a_granted_connection_speaks_the_other_protocol(first: bytes, size: int) -> None:
    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        data = GET + ASK + first
        for start in range(0, len(data), size):
            writer.write(data[start : start + size])
            await asyncio.sleep(0)
        assert (await reader.readuntil(b"GET /good ")).startswith(b"HTTP/1.1 200 ")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head == (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: shout/1\r\nConnection: Upgrade\r\n"
            b"X-Shout: loud\r\nX-Request-ID: r\r\n\r\n"
        )
        assert not server.connections  # the listener's limits and its drain are the other protocol's no more
        writer.write(b"GET / HTTP/1.1.")
        assert await reader.read() == first.upper() + b"GET / HTTP/1.1."
        await until(lambda: Shout.lost)

    with one_lost():
        serve(client, grant)


def test_a_granted_connection_is_read_on_although_it_was_paused() -> None:
    held: list[Exchange] = []

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(ASK + b"a" * 200_000)
        await until(lambda: held and next(iter(server.connections))._read_paused)
        grant(held.pop())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b".")
        assert await reader.read() == b"A" * 200_000 + b"."
        await until(lambda: Shout.lost)

    with one_lost():
        serve(client, held.append)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: shout/1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: shout/1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: s\r\nContent-Length: 2\r\n\r\nhi",
        b"PUT / HTTP/1.1\r\nHost:x\r\nConnection: upgrade\r\nUpgrade: s\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_was_not_asked_for_cannot_be_granted(request_bytes: bytes) -> None:
    def handle(exchange: Exchange) -> None:
        with pytest.raises(UpgradeNotAsked):
            exchange.take_over()
        echo(exchange)

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(request_bytes)
        assert (await read_answers(reader, 1))[0][0] == 200

    serve(client, handle)


def test_what_is_begun_or_gone_cannot_be_granted() -> None:
    held: list[Exchange] = []

    def handle(exchange: Exchange) -> None:
        if exchange.header(b"x-begin") is not None:
            exchange.start(200, b"text/plain")
            with pytest.raises(UpgradeNotAsked):
                exchange.take_over()
            exchange.end()
        else:
            held.append(exchange)

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(ASK.replace(b"Host: x\r\n", b"Host: x\r\nX-Begin: y\r\n") + ASK)
        assert await read_answers(reader, 1) == [(200, b"")]
        await until(lambda: held)
        writer.transport.abort()
        await until(lambda: held[0].gone)
        with pytest.raises(UpgradeNotAsked):
            held[0].take_over()

    serve(client, handle)


def test_draining_does_not_wait_for_what_was_granted() -> None:
    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(ASK)
        await reader.readuntil(b"\r\n\r\n")
        await drain(server, 60)
        writer.write(b"still here.")
        assert await reader.read() == b"STILL HERE."
        await until(lambda: Shout.lost)

    with one_lost():
        serve(client, grant)

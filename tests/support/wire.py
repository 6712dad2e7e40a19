"""HTTP/1.1 without sockets: bytes handed to a server or a client connection in any pieces, and what became of them."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import h11

from ollama_proxy.domain.errors import Failure
from ollama_proxy.net.http1.client import Origin, OriginPool, Upload
from ollama_proxy.net.http1.exchange import Exchange, Headers
from ollama_proxy.net.http1.limits import HttpLimits
from ollama_proxy.net.http1.server import HttpServer
from ollama_proxy.net.http1.upstream_connection import UpstreamConnection

Read = tuple[bytes, bytes, bytes]


class Wire(asyncio.Transport):
    """A transport whose far end is this test."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.closed = False
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing waits here."""


async def deliver(protocol: asyncio.Protocol, wire: Wire, data: bytes, sizes: list[int]) -> None:
    """Hand the bytes over in pieces of these sizes, the rest in one, as a loop would."""
    protocol.connection_made(wire)
    for size in [*sizes, len(data)]:
        while not wire.reading and not wire.closed:  # noqa: ASYNC110  # the code under test resumes by itself
            await asyncio.sleep(0)
        if wire.closed:
            break
        piece, data = data[:size], data[size:]
        if piece:
            protocol.data_received(piece)
    for _ in range(20):
        await asyncio.sleep(0)


def serve_bytes(
    data: bytes, sizes: list[int], *, late: bool = False, limits: HttpLimits | None = None
) -> tuple[list[Read], list[int], bool]:
    """What a server made of the bytes: the requests it read, the statuses it sent, whether it closed.

    Late answers take the longer the earlier their request came: served side by side they would come in reverse.
    """
    seen: list[Read] = []

    def answer(exchange: Exchange, number: int, turns: int) -> None:
        if turns > 0:
            asyncio.get_running_loop().call_soon(answer, exchange, number, turns - 1)
        else:
            exchange.respond(200, b"text/plain", b"ok", [(b"Number", b"<%d>" % number)])

    def handle(exchange: Exchange) -> None:
        seen.append((exchange.method, exchange.target, exchange.body))
        answer(exchange, len(seen) - 1, max(1, 10 - len(seen)) if late else 0)

    async def run() -> tuple[list[Read], list[int], bool]:
        server = HttpServer(handle, lambda exchange, status, message: exchange.respond(status, b"", b"no"), limits)
        wire = Wire()
        connection = server.protocol_factory()
        await deliver(connection, wire, data, sizes)
        for _ in range(200):
            await asyncio.sleep(0)
        assert [int(number) for number in re.findall(rb"<(\d+)>", wire.sent)] == list(range(len(seen)))
        statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", wire.sent)]
        connection.connection_lost(None)
        return seen, statuses, wire.closed

    return asyncio.run(run())


def read_with_h11(data: bytes) -> list[Read]:
    """The requests that h11 reads before it stops."""
    found: list[Read] = []
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    current: list[Any] = []
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                current = [event.method, event.target, b""]
            elif isinstance(event, h11.Data):
                current[2] += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                found.append((current[0], current[1], current[2]))
                connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                connection.send(h11.EndOfMessage())
                connection.start_next_cycle()
            else:
                return found
    except h11.ProtocolError:
        return found


class Heard:
    """All a sink hears, body pieces joined."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self.body = b""
        self.ends: list[str] = []
        #: Whether the connection went back to its pool.
        self.kept = False

    def on_response(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = list(headers)

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_complete(self) -> None:
        self.ends.append("complete")

    def on_error(self, failure: Failure) -> None:
        self.ends.append(failure.kind.name)


def hear(data: bytes, sizes: list[int], *, close: bool) -> Heard:
    """What a sink hears of these bytes, and of the end of the connection if it comes."""

    async def run() -> Heard:
        pool = OriginPool(Origin("x", 80))
        connection = UpstreamConnection(pool)
        wire = Wire()
        sink = Heard()
        connection.connection_made(wire)
        connection.carry(Upload(b"request", sink), reused=False)
        rest = data
        for size in [*sizes, len(data)]:
            piece, rest = rest[:size], rest[size:]
            if piece and not wire.closed:
                connection.data_received(piece)
        sink.kept = pool.idle == 1
        if close or wire.closed:
            connection.connection_lost(None)
        return sink

    return asyncio.run(run())

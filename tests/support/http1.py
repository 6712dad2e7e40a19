"""HTTP/1.1 over real sockets: a server with a client of the test, and our client with a server of the test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import h11
import uvloop

from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.net.draining import drain
from ollama_proxy.net.http1.client import Origin, OriginPool
from ollama_proxy.net.http1.exchange import Exchange, Headers
from ollama_proxy.net.http1.limits import HttpLimits
from ollama_proxy.net.http1.request_reader import Streams, stream_nothing
from ollama_proxy.net.http1.server import HttpServer

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter, HttpServer], Awaitable[None]]


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]


#: How long any scene may take: however slow the machine is, what holds comes before.
_LIMIT_S = 30.0
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"


def echo(exchange: Exchange) -> None:
    """Answer with what was understood of the request."""
    exchange.respond(200, b"text/plain", b"%b %b %b" % (exchange.method, exchange.target, exchange.body))


def refuse(exchange: Exchange, status: int, message: str) -> None:
    exchange.respond(status, b"text/plain", message.encode())


def serve(
    client: Client,
    handle: Callable[[Exchange], None] = echo,
    limits: HttpLimits | None = None,
    streams: Streams = stream_nothing,
) -> None:
    """Run a client against a server of its own; afterwards nothing may be left."""

    async def scene() -> None:
        server = HttpServer(handle, refuse, limits, streams)
        listener = await asyncio.get_running_loop().create_server(server.protocol_factory, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        try:
            async with asyncio.timeout(_LIMIT_S):
                await client(reader, writer, server)
        finally:
            writer.close()
            listener.close()
            await drain(server, 1.0)
            assert not server.connections

    uvloop.run(scene())


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something holds; the scene's time limit is the limit."""
    while not condition():  # noqa: ASYNC110  # what is waited for happens inside the code under test
        await asyncio.sleep(0)


async def quiet() -> None:
    """Let the loop turn until all that could move has moved: both ends are on it, so no clock is needed."""
    for _ in range(500):
        await asyncio.sleep(0)


async def read_answers(reader: asyncio.StreamReader, count: int, method: bytes = b"GET") -> list[tuple[int, bytes]]:
    """Status and body of so many answers, read by h11."""
    found = []
    rest = b""
    for _ in range(count):
        connection = h11.Connection(h11.CLIENT)
        connection.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        connection.send(h11.EndOfMessage())
        if rest:  # no bytes at all would mean the end of the connection
            connection.receive_data(rest)
        status, body = 0, b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
        rest = connection.trailing_data[0]
        found.append((status, body))
    return found


class Gathered:
    """Everything a sink hears."""

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.ends: list[str | FailureKind] = []
        self.over = asyncio.Event()

    def on_response(self, status: int, headers: Headers) -> None:
        self.status = status

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_complete(self) -> None:
        self.ends.append("complete")
        self.over.set()

    def on_error(self, failure: Failure) -> None:
        self.ends.append(failure.kind)
        self.over.set()


def ask(
    answers: list[bytes], scene: Callable[[OriginPool], Awaitable[None]], size: int = 10_000, close: bool = True
) -> None:
    """Run a scene against a server that sends these bytes, one answer a request, in pieces, then closes."""

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while answers:
            if not await reader.read(65536):
                break
            answer = answers.pop(0)
            for start in range(0, len(answer), size):
                writer.write(answer[start : start + size])
                await writer.drain()
                if size < 100:
                    await asyncio.sleep(0)
            if close:
                break
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        pool = OriginPool(Origin(host, port))
        try:
            async with asyncio.timeout(_LIMIT_S):
                await scene(pool)
        finally:
            pool.close()
            server.close()
            await asyncio.sleep(0.01)
            assert pool.open == 0

    uvloop.run(run())


def talk_to(talk: Talk, scene: Callable[[OriginPool], Awaitable[None]], connect_timeout_s: float = 5.0) -> None:
    """Run a scene against a server whose n-th connection (from 1) talks as told, then closes."""

    async def run() -> None:
        count = 0

        async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            count += 1
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await talk(reader, writer, count)
            writer.close()

        server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
        pool = OriginPool(Origin(*server.sockets[0].getsockname()), connect_timeout_s=connect_timeout_s)
        try:
            async with asyncio.timeout(_LIMIT_S):
                await scene(pool)
        finally:
            pool.close()
            server.close()
            async with asyncio.timeout(_LIMIT_S):
                await until(lambda: pool.open == 0)

    uvloop.run(run())


async def outcome(sink: Gathered, limit_s: float = _LIMIT_S) -> tuple[int, bytes, list[str | FailureKind]]:
    """What a sink heard, once it is over."""
    async with asyncio.timeout(limit_s):
        await sink.over.wait()
    return sink.status, sink.body, sink.ends


async def ask_once(pool: OriginPool) -> tuple[int, bytes, list[str | FailureKind]]:
    sink = Gathered()
    pool.send(REQUEST, sink)
    return await outcome(sink)

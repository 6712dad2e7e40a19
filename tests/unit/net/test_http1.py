"""The HTTP/1.1 server and client over real sockets: messages whole, byte by byte and in one piece with the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import h11
import pytest
import uvloop

from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.net.http1.client import Origin, OriginPool
from ollama_proxy.net.http1.exchange import Exchange, Headers
from ollama_proxy.net.http1.fetch import FetchError, fetch
from ollama_proxy.net.http1.limits import HttpLimits
from ollama_proxy.net.http1.server import HttpServer

Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter, HttpServer], Awaitable[None]]


def echo(exchange: Exchange) -> None:
    """Answer with what was understood of the request."""
    exchange.respond(200, b"text/plain", b"%b %b %b" % (exchange.method, exchange.target, exchange.body))


def refuse(exchange: Exchange, status: int, message: str) -> None:
    exchange.respond(status, b"text/plain", message.encode())


def serve(client: Client, handle: Callable[[Exchange], None] = echo, limits: HttpLimits | None = None) -> None:
    """Run a client against a server of its own; afterwards nothing may be left."""

    async def scene() -> None:
        server = HttpServer(handle, refuse, limits)
        listener = await asyncio.get_running_loop().create_server(server.protocol_factory, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        try:
            async with asyncio.timeout(10):
                await client(reader, writer, server)
        finally:
            writer.close()
            listener.close()
            await server.drain(1.0)
            assert not server.connections

    uvloop.run(scene())


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something holds; the scene's time limit is the limit."""
    while not condition():  # noqa: ASYNC110  # what is waited for happens inside the code under test
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


REQUESTS = [
    (b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /a "),
    (b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", b"POST /b hello"),
    (
        b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
        b"POST /c abcde",
    ),
    (b"POST /d HTTP/1.1\r\nhost: x\r\nTRANSFER-ENCODING: Chunked\r\n\r\n0\r\nTrailer: t\r\n\r\n", b"POST /d "),
    (b"GET /e?f=%20 HTTP/1.1\r\nHost: x\r\nX-Empty:\r\nX-Pad:   y  \r\n\r\n", b"GET /e?f=%20 "),
]


@pytest.mark.parametrize(("request_bytes", "answer"), REQUESTS)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_request_means_the_same_however_it_comes(request_bytes: bytes, answer: bytes, size: int) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        for start in range(0, len(request_bytes), size):
            writer.write(request_bytes[start : start + size])
            await asyncio.sleep(0)
        assert await read_answers(reader, 1) == [(200, answer)]

    serve(client)


def test_a_thousand_pipelined_requests_are_answered_in_order() -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        writer.write(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(1000)))
        answers = await read_answers(reader, 1000)
        assert answers == [(200, b"GET /%d " % number) for number in range(1000)]

    serve(client)


def test_late_answers_keep_the_order_of_the_pipeline() -> None:
    waiting: list[Exchange] = []

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        writer.write(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(5)))
        for number in range(5):
            await until(lambda: waiting)
            assert len(waiting) == 1
            echo(waiting.pop())
            assert await read_answers(reader, 1) == [(200, b"GET /%d " % number)]

    serve(client, waiting.append)


def test_head_has_the_head_of_get_and_no_body() -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        writer.write(b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Content-Length: 8" in head
        assert await read_answers(reader, 1) == [(200, b"GET /b ")]

    serve(client)


def test_expect_continue_is_answered_before_the_body() -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        writer.write(b"POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hi")
        assert await read_answers(reader, 1) == [(200, b"POST /a hi")]

    serve(client)


def test_http_1_0_gets_a_body_that_ends_with_the_connection() -> None:
    def stream(exchange: Exchange) -> None:
        exchange.start(200, b"text/plain")
        exchange.write(b"ab")
        exchange.write(b"cd")
        exchange.end()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        answer = await reader.read()
        assert answer.endswith(b"\r\n\r\nabcd")
        assert b"chunked" not in answer.lower()

    serve(client, stream)


def test_a_client_that_leaves_is_told_once_and_never_after_the_end() -> None:
    told: list[str] = []

    def wait(exchange: Exchange) -> None:
        exchange.on_disconnect = lambda: told.append(exchange.path.decode())
        if exchange.path == b"/done":
            echo(exchange)

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        writer.write(b"GET /done HTTP/1.1\r\nHost: x\r\n\r\n")
        await read_answers(reader, 1)
        writer.write(b"GET /open HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.05)
        writer.transport.abort()
        await until(lambda: not server.connections)
        assert told == ["/open"]

    serve(client, wait)


def test_a_slow_reader_pauses_the_producer_and_a_reading_one_resumes_it() -> None:
    seen: list[str] = []
    piece = b"x" * 65536

    def flood(exchange: Exchange) -> None:
        exchange.start(200, b"text/plain")
        exchange.on_pause = lambda: seen.append("pause")
        exchange.on_resume = lambda: (seen.append("resume"), exchange.end())  # type: ignore[assignment,func-returns-value]
        while "pause" not in seen:
            exchange.write(piece)

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: "pause" in seen)
        ((status, body),) = await read_answers(reader, 1)
        assert status == 200
        assert set(body) == {ord("x")}
        assert seen == ["pause", "resume"]

    serve(client, flood)


def test_silence_is_ended_by_the_sweep_with_the_clock_it_is_given() -> None:
    limits = HttpLimits(head_s=10, body_idle_s=30, idle_s=100)

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
        await until(lambda: any(connection._reader.pending for connection in server.connections))
        now_s = asyncio.get_running_loop().time()
        server.sweep(now_s + 29)
        assert server.connections
        server.sweep(now_s + 31)
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")

    serve(client, limits=limits)


def test_a_handler_that_raises_is_a_500_and_the_connection_lives_on() -> None:
    def sometimes(exchange: Exchange) -> None:
        if exchange.path == b"/bad":
            raise RuntimeError("secret")
        echo(exchange)

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        writer.write(b"GET /bad HTTP/1.1\r\nHost: x\r\n\r\nGET /good HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await read_answers(reader, 2) == [(500, b"internal error"), (200, b"GET /good ")]

    serve(client, sometimes)


# -- the client --------------------------------------------------------------------


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


REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"


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
            async with asyncio.timeout(10):
                await scene(pool)
        finally:
            pool.close()
            server.close()
            await asyncio.sleep(0.01)
            assert pool.open == 0

    uvloop.run(run())


@pytest.mark.parametrize("size", [1, 10_000])
@pytest.mark.parametrize(
    ("answer", "status", "body", "end"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", "complete"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n", 200, b"hi", "complete"),
        (b"HTTP/1.1 200 OK\r\n\r\nhi", 200, b"hi", "complete"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", "complete"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b"", "complete"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", 200, b"hi", FailureKind.CUT),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhi", 200, b"hi", FailureKind.CUT),
        (b"HTTP/1.1 200", 0, b"", FailureKind.RESET),
        (b"RUBBISH\r\n\r\n", 0, b"", FailureKind.GARBAGE),
        (b"", 0, b"", FailureKind.RESET),
    ],
)
def test_an_answer_means_the_same_however_it_comes(
    answer: bytes, status: int, body: bytes, end: str | FailureKind, size: int
) -> None:
    async def scene(pool: OriginPool) -> None:
        sink = Gathered()
        pool.send(REQUEST, sink)
        await sink.over.wait()
        assert (sink.status, sink.body, sink.ends) == (status, body, [end])

    ask([answer], scene, size)


def test_connections_are_used_again() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"

    async def scene(pool: OriginPool) -> None:
        for _ in range(50):
            assert bytes((await fetch(pool, REQUEST, 5)).body) == b"x"
        assert (pool.open, pool.idle) == (1, 1)

    ask([answer] * 50, scene, close=False)


def test_a_connection_closed_while_idle_is_replaced_without_a_word() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"

    async def scene(pool: OriginPool) -> None:
        for _ in range(5):
            assert (await fetch(pool, REQUEST, 5)).status == 200

    ask([answer] * 5, scene)


def test_bytes_after_the_answer_are_never_the_next_one() -> None:
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\ny"

    async def scene(pool: OriginPool) -> None:
        assert bytes((await fetch(pool, REQUEST, 5)).body) == b"x"
        await asyncio.sleep(0.05)
        assert bytes((await fetch(pool, REQUEST, 5)).body) == b"y"

    ask([evil, good], scene, close=False)


@pytest.mark.parametrize("after", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi"])
def test_an_aborted_request_hears_nothing_and_leaves_no_connection(after: bytes) -> None:
    async def run() -> None:
        gone = asyncio.Event()

        async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(65536)
            writer.write(after)
            while await _read_quietly(reader):
                pass
            gone.set()
            writer.close()

        server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
        pool = OriginPool(Origin(*server.sockets[0].getsockname()))
        sink = Gathered()
        upload = pool.send(REQUEST, sink)
        await asyncio.sleep(0.05)
        upload.abort()
        async with asyncio.timeout(5):
            await gone.wait()
        assert sink.ends == []
        assert (pool.open, pool.idle) == (0, 0)
        server.close()

    uvloop.run(run())


async def _read_quietly(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(65536)
    except ConnectionResetError:
        return b""


def test_nothing_listens_is_refused_whatever_the_addresses() -> None:
    async def run(host: str) -> None:
        with pytest.raises(FetchError) as caught:
            await fetch(OriginPool(Origin(host, 1)), REQUEST, 5)
        assert caught.value.failure.kind is FailureKind.REFUSED

    for host in ("127.0.0.1", "localhost"):
        uvloop.run(run(host))


def test_a_name_that_does_not_exist_is_unreachable() -> None:
    async def run() -> Any:
        with pytest.raises(FetchError) as caught:
            await fetch(OriginPool(Origin("no-such-host.invalid", 80)), REQUEST, 5)
        assert caught.value.failure.kind is FailureKind.UNREACHABLE

    uvloop.run(run())

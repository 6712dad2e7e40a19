"""The HTTP/1.1 server over real sockets: requests, order, limits, time, draining."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from ollama_proxy.net.draining import drain
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http1.limits import HttpLimits
from ollama_proxy.net.http1.server import HttpServer
from tests.support.http1 import (
    Reader,
    Writer,
    echo,
    quiet,
    read_answers,
    serve,
    until,
)

GOOD = b"GET /good HTTP/1.1\r\nHost: x\r\n\r\n"


POST = b"POST / HTTP/1.1\r\nHost: x\r\n"


CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


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
    asked: list[bytes] = []

    def wait(exchange: Exchange) -> None:
        asked.append(exchange.path)
        exchange.on_disconnect = lambda: told.append(exchange.path.decode())
        if exchange.path == b"/done":
            echo(exchange)

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: HttpServer) -> None:
        writer.write(b"GET /done HTTP/1.1\r\nHost: x\r\n\r\n")
        await read_answers(reader, 1)
        writer.write(b"GET /open HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: b"/open" in asked)
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


def test_a_connection_lives_on_after_a_handler_says_no() -> None:
    def deny(exchange: Exchange) -> None:
        exchange.respond(404, b"text/plain", b"no")

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        for _ in range(3):
            writer.write(GOOD)
            assert await read_answers(reader, 1) == [(404, b"no")]

    serve(client, deny)


@pytest.mark.parametrize("body", [b"", b"hi"])
def test_an_upgrade_that_nobody_grants_is_ignored_and_the_connection_lives_on(body: bytes) -> None:
    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        writer.write(POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + length + body + GOOD)
        assert await read_answers(reader, 2) == [(200, b"POST / " + body), (200, b"GET /good ")]

    serve(client)


def test_an_upgrade_header_alone_changes_nothing() -> None:
    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(b"GET /u HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\n\r\n" + GOOD)
        assert await read_answers(reader, 2) == [(200, b"GET /u "), (200, b"GET /good ")]

    serve(client)


def test_what_follows_connection_close_is_not_served() -> None:
    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + GOOD)
        answer = await reader.read()
        assert answer.endswith(b"GET /last ")
        assert answer.count(b"HTTP/1.1 200 ") == 1

    serve(client)


def test_http_1_0_may_keep_its_connection() -> None:
    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        for _ in range(2):
            writer.write(b"GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            answer = await reader.readuntil(b"GET /old ")
            assert b"\r\nConnection: keep-alive\r\n" in answer

    serve(client)


def test_an_answer_larger_than_every_buffer_arrives_whole() -> None:
    body = bytes(range(256)) * 40_000

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(GOOD)
        assert await read_answers(reader, 1) == [(200, body)]

    serve(client, lambda exchange: exchange.respond(200, b"application/octet-stream", body))


def test_a_handler_that_raises_in_mid_answer_breaks_the_connection() -> None:
    def break_off(exchange: Exchange) -> None:
        exchange.start(200, b"text/plain")
        exchange.write(b"half")
        raise RuntimeError("secret")

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(GOOD)
        with contextlib.suppress(ConnectionResetError):
            assert not (await reader.read()).endswith(b"0\r\n\r\n")
        await until(lambda: not server.connections)

    serve(client, break_off)


@pytest.mark.parametrize(
    ("sent", "early_s", "late_s"),
    [(b"", 99, 101), (b"GET / HT", 9, 11), (b"GET / HTTP/1.1\r\nHost: x\r\n", 9, 11), (GOOD, 99, 101)],
)
def test_the_sweep_ends_whoever_is_late_and_nobody_else(sent: bytes, early_s: float, late_s: float) -> None:
    limits = HttpLimits(head_s=10, body_idle_s=30, idle_s=100)

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(sent)
        if sent == GOOD:
            await read_answers(reader, 1)
        elif sent:
            await until(lambda: any(connection._in_head for connection in server.connections))
        else:
            await until(lambda: server.connections)
        now_s = asyncio.get_running_loop().time()
        server.sweep(now_s + early_s)
        assert server.connections
        server.sweep(now_s + late_s)
        await until(lambda: not server.connections)

    serve(client, limits=limits)


def test_the_sweep_leaves_a_request_that_is_being_answered() -> None:
    held: list[Exchange] = []

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(GOOD)
        await until(lambda: held)
        server.sweep(asyncio.get_running_loop().time() + 1e6)
        echo(held.pop())
        assert await read_answers(reader, 1) == [(200, b"GET /good ")]

    serve(client, held.append)


def test_draining_lets_the_running_answer_end_and_closes_the_idle() -> None:
    held: list[Exchange] = []

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        idle_reader, idle_writer = await asyncio.open_connection(*writer.get_extra_info("peername"))
        writer.write(GOOD)
        await until(lambda: held and len(server.connections) == 2)
        draining = asyncio.get_running_loop().create_task(drain(server, 5))
        assert await idle_reader.read() == b""
        idle_writer.close()
        assert not draining.done()
        echo(held.pop())
        answer = await reader.read()
        assert answer.endswith(b"GET /good ")
        assert b"\r\nConnection: close\r\n" in answer
        await draining

    serve(client, held.append)


def test_whoever_was_not_told_with_its_answer_may_send_one_more_request_while_we_leave() -> None:
    """The head of the first answer said that the connection stays: a request may be on its way before ours could be."""
    held: list[Exchange] = []

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(GOOD)
        await until(lambda: held)
        begun = held.pop()
        begun.start(200, b"text/plain", 1)
        server.announce()
        begun.write(b"x")
        begun.end()
        assert (await reader.readuntil(b"\r\n\r\nx")).count(b"Connection: close") == 0
        writer.write(GOOD)
        await until(lambda: held)
        server.announce()
        echo(held.pop())
        last = await reader.read()
        assert b"\r\nConnection: close\r\n" in last
        assert last.endswith(b"GET /good ")

    serve(client, held.append)


def test_an_answer_that_has_not_begun_when_we_leave_says_that_it_is_the_last() -> None:
    held: list[Exchange] = []

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(GOOD)
        await until(lambda: held)
        server.announce()
        echo(held.pop())
        assert b"\r\nConnection: close\r\n" in await reader.read()
        # A request that was on its way is dropped: a reset could overtake the answer.
        writer.write(GOOD)
        await quiet()
        assert server.connections

    serve(client, held.append)


def test_draining_breaks_off_what_outlives_the_grace() -> None:
    told: list[bytes] = []

    def wait(exchange: Exchange) -> None:
        exchange.on_disconnect = lambda: told.append(exchange.path)
        exchange.start(200, b"text/plain")
        exchange.write(b"x")

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(GOOD)
        await reader.readuntil(b"\r\n\r\n")
        await drain(server, 0.01)
        await until(lambda: not server.connections)
        assert told == [b"/good"]

    serve(client, wait)


def test_a_callback_set_by_one_request_is_never_called_for_another() -> None:
    told: list[bytes] = []

    def handle(exchange: Exchange) -> None:
        exchange.on_disconnect = lambda: told.append(exchange.path)
        if exchange.path != b"/20":
            echo(exchange)

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        for number in range(21):
            writer.write(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number)
            if number < 20:
                await read_answers(reader, 1)
        await until(lambda: any(connection._active for connection in server.connections))
        writer.transport.abort()
        await until(lambda: not server.connections)
        assert told == [b"/20"]

    serve(client, handle)

"""The HTTP/1.1 server against hostile, slow, leaving and impatient clients, and faulty handlers, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import uvloop

from ollama_proxy.net.draining import drain
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http1.limits import HttpLimits
from ollama_proxy.net.http1.server import HttpServer
from tests.support.http1 import Reader, Writer, echo, quiet, read_answers, refuse, serve, until

GOOD = b"GET /good HTTP/1.1\r\nHost: x\r\n\r\n"


POST = b"POST / HTTP/1.1\r\nHost: x\r\n"


CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"GET / HTTP/1.1\r\nHost: x\r\nX"])
def test_a_field_without_end_is_refused(start: bytes) -> None:
    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(start + b"a" * 200_000)
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")

    serve(client)


def test_trailers_are_not_headers() -> None:
    seen: list[Exchange] = []

    def keep(exchange: Exchange) -> None:
        seen.append(exchange)
        echo(exchange)

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(CHUNKED + b"0\r\nAuthorization: Bearer other\r\nHost: other\r\n\r\n")
        await read_answers(reader, 1)
        assert [name for name, _ in seen[0].headers] == [b"host", b"transfer-encoding"]

    serve(client, keep)


def test_100_continue_waits_for_the_answers_before_it() -> None:
    held: list[Exchange] = []

    def handle(exchange: Exchange) -> None:
        if exchange.method == b"POST":
            echo(exchange)
            return
        exchange.start(200, b"text/plain")
        exchange.write(b"abc")
        held.append(exchange)

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(GOOD)
        await until(lambda: held)
        writer.write(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        await until(lambda: any(connection._reader.held_bytes for connection in server.connections))
        held[0].write(b"def")
        held[0].end()
        writer.write(b"hi")
        assert await read_answers(reader, 1) == [(200, b"abcdef")]

    serve(client, handle)


def test_a_client_that_never_reads_cannot_pile_up_answers() -> None:
    served: list[None] = []

    def large(exchange: Exchange) -> None:
        served.append(None)
        exchange.respond(200, b"text/plain", b"x" * 100_000)

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GOOD * 300)
        await quiet()
        (connection,) = server.connections
        waiting = connection.transport.get_write_buffer_size()
        writer.transport.abort()
        assert waiting < 4 * HttpLimits().write_high_bytes

    serve(client, large)


@pytest.mark.parametrize("behind", [GOOD, b"GET / HTTP/1.1\r\nHost: x\r\n\r\nRUBBISH\r\n\r\n"])
def test_a_client_that_leaves_with_requests_waiting_is_noticed(behind: bytes) -> None:
    told: list[bytes] = []

    def wait(exchange: Exchange) -> None:
        exchange.on_disconnect = lambda: told.append(exchange.path)

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n" + behind)
        await until(lambda: any(connection._reader.held_bytes for connection in server.connections))
        writer.transport.abort()
        await until(lambda: told)

    serve(client, wait)


def respond_twice(exchange: Exchange) -> None:
    exchange.respond(200, b"text/plain", b"one")
    exchange.respond(500, b"text/plain", b"two")


def write_after_the_end(exchange: Exchange) -> None:
    exchange.respond(200, b"text/plain", b"one")
    exchange.write(b"late")


def write_a_body_that_may_not_be(exchange: Exchange) -> None:
    exchange.respond(204, b"", b"body")


def write_more_than_promised(exchange: Exchange) -> None:
    exchange.start(200, b"text/plain", 3)
    exchange.write(b"one and more")
    exchange.end()


@pytest.mark.parametrize(
    "handler", [respond_twice, write_after_the_end, write_a_body_that_may_not_be, write_more_than_promised]
)
def test_a_faulty_handler_cannot_write_outside_its_answer(handler: object) -> None:
    def handle(exchange: Exchange) -> None:
        if exchange.path == b"/good":
            echo(exchange)
        else:
            handler(exchange)  # type: ignore[operator]

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(b"GET /odd HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n" + GOOD)
        writer.write_eof()
        answers = await reader.read()
        assert not any(foreign in answers for foreign in (b"two", b"late", b"\r\n\r\nbody", b"more"))

    serve(client, handle)


def test_an_answer_shorter_than_promised_breaks_the_connection() -> None:
    def shorten(exchange: Exchange) -> None:
        exchange.start(200, b"text/plain", 10)
        exchange.write(b"abc")
        exchange.end()

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(GOOD)
        with contextlib.suppress(ConnectionResetError):
            await reader.read()

    serve(client, shorten)


def test_all_sound_requests_before_a_bad_one_are_answered() -> None:
    held: list[Exchange] = []

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(GOOD * 2 + b"GET / HTTP/1.1\r\n\r\n")
        for _ in range(2):
            await until(lambda: held)
            echo(held.pop())
        answers = await reader.read()
        assert answers.count(b"HTTP/1.1 200 ") == 2
        assert answers.count(b"HTTP/1.1 400 ") == 1

    serve(client, held.append)


def test_a_refused_head_gets_no_body() -> None:
    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(b"HEAD / HTTP/1.1\r\n\r\n")
        assert (await reader.read()).endswith(b"\r\n\r\n")

    serve(client)


@pytest.mark.parametrize("bad", [b"X: a\x00\r\n\r\n", b"A: b\nC: d\r\n\r\n", b"X: " + b"y" * 40_000])
def test_a_refusal_knows_of_the_request_what_came_before_the_fault(bad: bytes) -> None:
    refused: list[tuple[bytes, bytes, int]] = []

    def tell(exchange: Exchange, status: int, message: str) -> None:
        refused.append((exchange.method, exchange.path, status))
        refuse(exchange, status, message)

    async def scene() -> None:
        server = HttpServer(echo, tell)
        listener = await asyncio.get_running_loop().create_server(server.protocol_factory, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        writer.write(b"HEAD /a/b HTTP/1.1\r\nHost: x\r\n" + bad)
        assert (await reader.read()).endswith(b"\r\n\r\n")
        writer.close()
        listener.close()
        await drain(server, 1)

    uvloop.run(asyncio.wait_for(scene(), 30))
    assert refused == [(b"HEAD", b"/a/b", 431 if len(bad) > 40_000 else 400)]


def test_an_upgrade_that_is_ignored_does_not_hide_a_wish_to_close() -> None:
    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n" + GOOD)
        answer = await reader.read()
        assert b"\r\nConnection: close\r\n" in answer
        assert answer.endswith(b"GET /last ")

    serve(client)


def test_no_descriptor_is_left_after_many_clients() -> None:
    async def scene() -> None:
        server = HttpServer(echo, refuse)
        listener = await asyncio.get_running_loop().create_server(server.protocol_factory, "127.0.0.1", 0)
        for number in range(200):
            reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
            writer.write((GOOD, b"RUBBISH\r\n\r\n", b"GET / HT", b"")[number % 4])
            if number % 4 == 0:
                await read_answers(reader, 1)
            writer.transport.abort() if number % 2 else writer.close()
        await until(lambda: not server.connections)
        listener.close()

    uvloop.run(asyncio.wait_for(scene(), 60))

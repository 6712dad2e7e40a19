"""The HTTP/1.1 server against hostile, slow, leaving and impatient clients, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import uvloop

from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http1.limits import HttpLimits
from ollama_proxy.net.http1.server import HttpServer
from tests.unit.net.test_http1 import echo, read_answers, refuse, serve, until

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter

GOOD = b"GET /good HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

#: Status, then the request; each must be refused with just this, and the connection closed.
REFUSED = [
    (400, POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    (400, POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (400, POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
    (400, POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    (400, POST + b"Content-Length: 5, 5\r\n\r\nhello"),
    (400, POST + b"Content-Length: +5\r\n\r\nhello"),
    (400, POST + b"Content-Length: -5\r\n\r\nhello"),
    (400, POST + b"Content-Length: 0x5\r\n\r\nhello"),
    (400, POST + b"Content-Length: 1_0\r\n\r\nhellohello"),
    (400, POST + b"Content-Length: \r\n\r\n"),
    (413, POST + b"Content-Length: 99999999999999999999999\r\n\r\n"),
    (400, POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n"),
    (400, POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (400, POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    (400, POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    (400, POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    (400, POST + b"Transfer-Encoding: gzip\r\n\r\n"),
    (501, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    (400, POST + b"Transfer-Encoding: identity\r\n\r\n"),
    (400, POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (400, CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n"),
    (400, CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n"),
    (400, CHUNKED + b"-1\r\nhello\r\n0\r\n\r\n"),
    (400, CHUNKED + b"ffffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
    (400, CHUNKED + b"5\nhello\r\n0\r\n\r\n"),
    (400, CHUNKED + b"5\r\nhelloX0\r\n\r\n"),
    (400, CHUNKED + b"5\r\nhello\n0\r\n\r\n"),
    (400, CHUNKED + b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    (400, CHUNKED + b"0\r\nContent-Length: 7\r\n\r\n"),
    (400, CHUNKED + b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"),
    (400, b"GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\n X: a\r\nHost: x\r\n\r\n"),
    (400, b"GET / HTTP/1.1\nHost: x\n\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nX: a\x01b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost : x\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost\t: x\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nJunk\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\n: v\r\n\r\n"),
    (400, b"GET ftp://x/y HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET /a\x01b HTTP/1.1\r\nHost: x\r\n\r\n"),
    (501, b"get / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (501, b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"DESCRIBE rtsp://x/ RTSP/1.0\r\nHost: x\r\n\r\n"),
    (400, b"GET / http/1.1\r\nHost: x\r\n\r\n"),
    (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    (405, b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n" + GOOD),
    (400, b"GET /\r\n\r\n"),
    (505, b"GET / HTTP/2.0\r\nHost: x\r\n\r\n"),
]


@pytest.mark.parametrize(("status", "request_bytes"), REFUSED)
def test_what_is_in_doubt_is_refused_alone_and_closes(status: int, request_bytes: bytes) -> None:
    handled: list[Exchange] = []

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(request_bytes)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nConnection: close\r\n" in answer
        assert answer.count(b"HTTP/1.1 ") == 1
        assert handled == []

    serve(client, handled.append)


@pytest.mark.parametrize(("status", "request_bytes"), REFUSED[:12])
def test_a_doubtful_request_does_not_harm_the_one_before_it(status: int, request_bytes: bytes) -> None:
    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(GOOD + request_bytes)
        answers = await read_answers(reader, 2)
        assert answers[0] == (200, b"GET /good ")
        assert answers[1][0] == status
        assert await reader.read() == b""

    serve(client)


SMALL = HttpLimits(head_bytes=400, head_fields=5, target_bytes=50, body_bytes=100)
TOO_MUCH = [
    (414, b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 50)),
    (431, b"GET / HTTP/1.1\r\nHost: x\r\n%b\r\n" % (b"A: b\r\n" * 5)),
    (431, b"GET / HTTP/1.1\r\nHost: x\r\nA: %b\r\n\r\n" % (b"b" * 400)),
    (431, CHUNKED + b"0\r\n" + b"A: b\r\n" * 5 + b"\r\n"),
    (413, POST + b"Content-Length: 101\r\n\r\n"),
    (413, CHUNKED + b"33\r\n%b\r\n" % (b"x" * 51) * 2),
]
JUST_ENOUGH = [
    b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 49),
    b"GET / HTTP/1.1\r\nHost: x\r\n%b\r\n" % (b"A: b\r\n" * 4),
    POST + b"Content-Length: 100\r\n\r\n" + b"x" * 100,
    CHUNKED + b"32\r\n%b\r\n" % (b"x" * 50) * 2 + b"0\r\n\r\n",
]


@pytest.mark.parametrize(("status", "request_bytes"), TOO_MUCH)
def test_beyond_a_limit_is_refused_and_closes(status: int, request_bytes: bytes) -> None:
    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(request_bytes)
        assert (await reader.read()).startswith(b"HTTP/1.1 %d " % status)

    serve(client, limits=SMALL)


@pytest.mark.parametrize("request_bytes", JUST_ENOUGH)
def test_at_a_limit_is_served_and_the_connection_lives_on(request_bytes: bytes) -> None:
    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(request_bytes + GOOD)
        answers = await read_answers(reader, 2)
        assert answers[0][0] == 200
        assert answers[1] == (200, b"GET /good ")

    serve(client, limits=SMALL)


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
        draining = asyncio.get_running_loop().create_task(server.drain(5))
        assert await idle_reader.read() == b""
        idle_writer.close()
        assert not draining.done()
        echo(held.pop())
        answer = await reader.read()
        assert answer.endswith(b"GET /good ")
        assert b"\r\nConnection: close\r\n" in answer
        await draining

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
        await server.drain(0.01)
        await until(lambda: not server.connections)
        assert told == [b"/good"]

    serve(client, wait)


def test_no_more_connections_than_the_limit() -> None:
    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        await until(lambda: server.connections)
        other_reader, other_writer = await asyncio.open_connection(*writer.get_extra_info("peername"))
        with contextlib.suppress(ConnectionResetError):
            assert await other_reader.read() == b""
        other_writer.close()
        writer.write(GOOD)
        assert await read_answers(reader, 1) == [(200, b"GET /good ")]

    serve(client, limits=HttpLimits(connections=1))


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


# -- what it once got wrong ----------------------------------------------------------


async def read_until_closed(reader: Reader, limit_s: float = 0.5) -> bytes:
    """Everything up to the end of the connection; TimeoutError when it stays open."""
    async with asyncio.timeout(limit_s):
        return await reader.read()


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"GET / HTTP/1.1\r\nHost: x\r\nX"])
def test_a_field_without_end_is_refused(start: bytes) -> None:
    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(start + b"a" * 200_000)
        assert (await read_until_closed(reader)).startswith(b"HTTP/1.1 431 ")

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
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await until(lambda: len(served) == 300)
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
        async with asyncio.timeout(0.5):
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
            await read_until_closed(reader)

    serve(client, shorten)


def test_all_sound_requests_before_a_bad_one_are_answered() -> None:
    held: list[Exchange] = []

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(GOOD * 2 + b"GET / HTTP/1.1\r\n\r\n")
        for _ in range(2):
            async with asyncio.timeout(0.5):
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
        await server.drain(1)

    uvloop.run(asyncio.wait_for(scene(), 5))
    assert refused == [(b"HEAD", b"/a/b", 431 if len(bad) > 40_000 else 400)]


def test_an_upgrade_that_is_ignored_does_not_hide_a_wish_to_close() -> None:
    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n" + GOOD)
        answer = await reader.read()
        assert b"\r\nConnection: close\r\n" in answer
        assert answer.endswith(b"GET /last ")

    serve(client)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: user@x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n",
    ],
)
def test_any_doubt_is_a_refusal(request_bytes: bytes) -> None:
    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(request_bytes)
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 400 ")

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

    uvloop.run(asyncio.wait_for(scene(), 20))

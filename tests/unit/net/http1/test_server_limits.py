"""The HTTP/1.1 server where a limit or a refusal meets what is sound, and a client drips, stalls or never stops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys

import pytest

from ollama_proxy.net.http1.connection import HttpConnection
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http1.limits import HttpLimits
from ollama_proxy.net.http1.server import HttpServer
from ollama_proxy.net.uptake import Pace
from tests.support.http1 import echo, read_answers, serve, until
from tests.support.wire import serve_bytes

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter

#: As `tcp_info` has it, where an orderly end would be 8 (CLOSE_WAIT).
_CLOSED = 7
GET = b"GET /good HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def only(server: HttpServer) -> HttpConnection:
    (connection,) = server.connections
    return connection


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


def test_any_number_of_empty_lines_before_a_request_is_nothing() -> None:
    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(b"\r\n" * 100_000 + GET + b"\r\n" * 3 + GET)
        assert await read_answers(reader, 2) == [(200, b"GET /good ")] * 2

    serve(client)


@pytest.mark.parametrize(
    ("status", "start"),
    [
        (431, b"0\r\nX: "),
        (431, b"0\r\nX"),
        (413, b"1;x="),
        (413, b"1;" + b"a;" * 9000),
        (413, b"1;aaaaaaaaaa\r\nx\r\n" * 2000),
        (400, b"0000000000000000000000"),
    ],
)
def test_what_is_not_body_has_an_end(status: int, start: bytes) -> None:
    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(CHUNKED + start + b"a" * 200_000)
        assert (await reader.read()).startswith(b"HTTP/1.1 %d " % status)

    serve(client)


@pytest.mark.parametrize("trailers", [b"A: b\r\n" * 100, b"A: %b\r\n" % (b"b" * 1000) * 40])
def test_trailers_count_as_fields_and_bytes_of_the_head(trailers: bytes) -> None:
    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(CHUNKED + b"0\r\n" + trailers + b"\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")

    serve(client)


@pytest.mark.parametrize(
    "framed", [b"Content-Length: 2\r\n\r\nhi", b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"]
)
def test_an_upgrade_is_ignored_and_the_body_read(framed: bytes) -> None:
    """The JDK's HTTP client asks every server of plain HTTP so."""

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        settings = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
        writer.write(POST + settings + framed + GET)
        assert await read_answers(reader, 2) == [(200, b"POST /p hi"), (200, b"GET /good ")]

    serve(client)


# -- a client that is still sending when it is refused ---------------------------------


def test_a_client_in_mid_body_reads_its_refusal_and_no_reset() -> None:
    limits = HttpLimits(body_bytes=1000, linger_bytes=50_000_000)

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(POST + b"Content-Length: 5000000\r\n\r\n")
        for _ in range(50):  # far more than the kernel holds for a peer that does not read
            writer.write(b"x" * 100_000)
            await writer.drain()
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert answer.endswith(b"the body is larger than 1000 bytes")

    serve(client, limits=limits)


def test_a_client_that_never_stops_is_cut_off_in_the_end() -> None:
    limits = HttpLimits(body_bytes=1000, linger_bytes=200_000)

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(POST + b"Content-Length: 5000000\r\n\r\n")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):  # noqa: PT012  # whichever write meets it
            for _ in range(10_000):
                writer.write(b"x" * 100_000)
                await writer.drain()
        await until(lambda: not server.connections)

    serve(client, limits=limits)


def test_a_refused_client_that_stays_is_cut_off_by_the_clock() -> None:
    limits = HttpLimits(linger_s=5)

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(b"RUBBISH\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        now_s = asyncio.get_running_loop().time()
        server.sweep(now_s + 4)
        assert server.connections
        server.sweep(now_s + 6)
        await until(lambda: not server.connections)

    serve(client, limits=limits)


# -- a client that drips ----------------------------------------------------------------


def test_a_body_that_drips_is_refused_and_one_that_flows_is_not() -> None:
    limits = HttpLimits(body_min_bytes_per_s=100, body_rate_window_s=10, body_idle_s=30)

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(POST + b"Content-Length: 100000\r\n\r\n")
        await until(lambda: server.connections and only(server)._reader.pending)
        now_s = asyncio.get_running_loop().time()
        sent = 0

        async def send(size: int) -> None:
            nonlocal sent
            sent += size
            writer.write(b"x" * size)
            await until(lambda: only(server)._reader.body_bytes == sent)

        server.sweep(now_s)
        await send(1000)
        server.sweep(now_s + 10)
        await send(1000)
        server.sweep(now_s + 15)
        server.sweep(now_s + 20)
        assert only(server)._reader.pending
        await send(999)
        server.sweep(now_s + 30)
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")

    serve(client, limits=limits)


def test_one_body_is_not_measured_by_what_another_brought() -> None:
    limits = HttpLimits(body_min_bytes_per_s=100, body_rate_window_s=10, body_idle_s=1e9, idle_s=1e9)

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        now_s = asyncio.get_running_loop().time()
        for number, size in enumerate((1000, 1100)):
            writer.write(POST + b"Content-Length: %d\r\n\r\n" % (size + 1) + b"x" * size)
            await until(lambda: server.connections and only(server)._reader.pending)
            server.sweep(now_s + 100 * number)
            writer.write(b"y")
            assert (await read_answers(reader, 1))[0][0] == 200

    serve(client, limits=limits)


def test_the_time_that_an_earlier_answer_takes_is_not_held_against_a_body() -> None:
    held: list[Exchange] = []
    limits = HttpLimits(body_min_bytes_per_s=100, body_rate_window_s=10, body_idle_s=1e9)

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(GET + POST + b"Content-Length: 2\r\n\r\nh")
        await until(lambda: held)
        now_s = asyncio.get_running_loop().time()
        for later_s in range(0, 100, 5):
            server.sweep(now_s + later_s)
        echo(held.pop())
        await until(lambda: only(server)._reader.pending)
        server.sweep(now_s + 100)
        writer.write(b"i")
        await until(lambda: held)
        echo(held.pop())
        assert await read_answers(reader, 2) == [(200, b"GET /good "), (200, b"POST /p hi")]

    serve(client, held.append, limits)


# -- a client that does not read --------------------------------------------------------


def flood(exchange: Exchange) -> None:
    """Write until the client is behind, and on whenever it has caught up."""
    paused: list[bool] = []

    def go_on() -> None:
        paused.clear()
        while not paused and not exchange.gone:
            exchange.write(b"x" * 65536)

    exchange.on_pause = lambda: paused.append(True)
    exchange.on_resume = go_on
    exchange.start(200, b"text/plain")
    go_on()


def test_a_client_that_reads_nothing_is_cut_off() -> None:
    gone: list[bool] = []

    def handle(exchange: Exchange) -> None:
        exchange.on_disconnect = lambda: gone.append(True)
        flood(exchange)

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET)
        await until(lambda: server.connections and only(server)._write_paused)
        now_s = asyncio.get_running_loop().time()
        server.sweep(now_s)
        server.sweep(now_s + 29)
        assert server.connections
        raw = writer.get_extra_info("socket")
        server.sweep(now_s + 31)
        await until(lambda: not server.connections)
        assert gone == [True]
        # By a reset: else the system would go on with what it holds, for as long as the client drips.
        await until(lambda: raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _CLOSED)

    serve(client, handle, HttpLimits(pace=Pace(window_s=30)))


@pytest.mark.parametrize(("min_bytes_per_s", "lives"), [(0, True), (240, True), (1e7, False)])
def test_a_client_that_reads_slowly_is_cut_off_below_a_rate(min_bytes_per_s: float, lives: bool) -> None:
    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        raw = socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno()))
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET)
        await until(lambda: server.connections and only(server)._write_paused)
        connection = only(server)
        now_s = asyncio.get_running_loop().time()
        for later_s in range(0, 300, 20):
            server.sweep(now_s + later_s)
            if connection.transport.is_closing():
                break
            before = connection.transport.get_write_buffer_size()
            while connection.transport.get_write_buffer_size() == before:
                with contextlib.suppress(BlockingIOError):
                    raw.recv(65536)
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert bool(server.connections) is lives
        assert lives or later_s == 40  # the first sweep behind a whole window
        raw.close()
        writer.transport.abort()
        await until(lambda: not server.connections)

    serve(client, flood, HttpLimits(pace=Pace(min_bytes_per_s, window_s=30)))


def test_a_client_without_back_pressure_that_takes_nothing_is_cut_off_too() -> None:
    """What waits for it is less than what makes its producer pause, and stays so."""

    def begin(exchange: Exchange) -> None:
        exchange.start(200, b"text/plain")
        filled: list[bool] = []
        exchange.on_pause = lambda: filled.append(True)
        while not filled:
            exchange.write(b"x" * 1024)

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET)
        await until(lambda: server.connections and only(server)._write_paused)
        connection = only(server)
        connection._write_paused = False
        now_s = asyncio.get_running_loop().time()
        for later_s in (0, 29):
            server.sweep(now_s + later_s)
        assert server.connections
        server.sweep(now_s + 31)
        await until(lambda: not server.connections)

    serve(client, begin, HttpLimits(pace=Pace(window_s=30)))


# -- at a limit, and beyond it ------------------------------------------------------------

SMALL = HttpLimits(head_bytes=400, head_fields=5, target_bytes=50, body_bytes=100, extension_bytes=30)
HEAD_BYTES = len(b"GET / HTTP/1.1\r\nHost: x\r\nA: ")


def sized(more: int) -> list[tuple[int, bytes]]:
    """Requests that use up a limit, or go beyond it by so much; each with the status of the refusal then."""
    return [
        (414, b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * (49 + more))),
        (431, b"GET / HTTP/1.1\r\nHost: x\r\n%b\r\n" % (b"A: b\r\n" * (4 + more))),
        (431, b"GET / HTTP/1.1\r\nHost: x\r\nA: %b\r\n\r\n" % (b"b" * (400 - HEAD_BYTES + more))),
        (431, CHUNKED + b"0\r\n" + b"A: b\r\n" * (3 + more) + b"\r\n"),
        (
            431,
            CHUNKED
            + b"0\r\nA: %b\r\n\r\n" % (b"b" * (SMALL.head_bytes - len(b"hostxtransfer-encodingchunkedA: ") - 2 + more)),
        ),
        (413, POST + b"Content-Length: %d\r\n\r\n" % (100 + more) + b"x" * (100 + more)),
        (413, CHUNKED + b"32\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (b"x" * 50, 50 + more, b"x" * (50 + more))),
        (413, CHUNKED + b"1;%b\r\nx\r\n0\r\n\r\n" % (b"a" * (46 + more))),
    ]


def ways(data: bytes) -> list[list[int]]:
    return [[], [1] * len(data), [7] * len(data)]


@pytest.mark.parametrize(("status", "data"), sized(1))
def test_beyond_a_limit_is_refused_and_closes(status: int, data: bytes) -> None:
    for sizes in ways(data):
        assert serve_bytes(data + GET, sizes, limits=SMALL) == ([], [status], True)


@pytest.mark.parametrize("data", [data for _, data in sized(0)])
def test_at_a_limit_is_served_and_the_connection_lives_on(data: bytes) -> None:
    for sizes in ways(data):
        assert serve_bytes(data + GET, sizes, limits=SMALL)[1:] == ([200, 200], False)


def test_no_more_connections_than_the_limit() -> None:
    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        await until(lambda: server.connections)
        other_reader, other_writer = await asyncio.open_connection(*writer.get_extra_info("peername"))
        with contextlib.suppress(ConnectionResetError):
            assert await other_reader.read() == b""
        other_writer.close()
        writer.write(GET)
        assert await read_answers(reader, 1) == [(200, b"GET /good ")]

    serve(client, limits=HttpLimits(connections=1))


def test_a_large_page_for_many_who_do_not_read_is_there_once() -> None:
    page = b"x" * 20_000_000
    held: list[Exchange] = []

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET)
        await until(lambda: held)
        before = sys.getrefcount(page)
        held.pop().respond(200, b"text/plain", page)
        await asyncio.sleep(0)
        assert only(server).transport.get_write_buffer_size() > 1_000_000
        assert sys.getrefcount(page) > before  # what waits is the page itself, and no copy of it
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        [(status, body)] = await read_answers(reader, 1)
        assert (status, body == page) == (200, True)

    serve(client, held.append)

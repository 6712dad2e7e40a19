"""One port, two protocols: foreign clients speak each to the same handler."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ollama_proxy.net.draining import drain
from ollama_proxy.net.http1.server import HttpServer
from ollama_proxy.net.http2.connection import Connection
from ollama_proxy.net.http2.exchange import Http2Exchange, HttpService
from ollama_proxy.net.http2.head import RequestHead
from ollama_proxy.net.http2.server import Http2Server
from ollama_proxy.net.listening import Listener, close_all, open_sockets
from ollama_proxy.net.port import HttpPort
from ollama_proxy.net.uptake import Pace

CURL = shutil.which("curl")
needs_curl = pytest.mark.skipif(CURL is None, reason="no curl")


def echo(exchange: Http2Exchange) -> None:
    if exchange.path == b"/fail":
        raise RuntimeError("secret")
    if exchange.path == b"/stream":
        exchange.start(200, b"text/plain")
        for _ in range(50):
            exchange.write(b"x" * 10_000)
        exchange.end()
        return
    if exchange.path == b"/short":
        exchange.start(200, b"text/plain", 10)
        exchange.write(b"only")
        exchange.end()
        return
    text = b" ".join((exchange.method, exchange.path, exchange.query, exchange.header(b"host") or b"-"))
    exchange.respond(200, b"text/plain", text + b" " + exchange.body, [(b"X-Extra", b"1")])


def refuse(exchange: Http2Exchange, status: int, message: str) -> None:
    exchange.respond(status, b"text/plain", message.encode())


@asynccontextmanager
async def serve() -> AsyncIterator[tuple[HttpPort, int]]:
    service = HttpService(echo, refuse, body_bytes=1000)

    def open_stream(connection: Connection, stream_id: int, head: RequestHead) -> Http2Exchange:
        return Http2Exchange(connection, stream_id, head, service)

    port = HttpPort(HttpServer(echo, refuse), Http2Server(open_stream))  # type: ignore[arg-type]
    listener = await asyncio.get_running_loop().create_server(port.protocol_factory, "127.0.0.1", 0)
    try:
        yield port, listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await drain(port, 0)


def curl(*arguments: str) -> tuple[int, str]:
    """Exit code and output of curl; `{}` is the port."""

    async def run() -> tuple[int, str]:
        async with serve() as (_, port):
            filled = [argument.replace("{}", str(port)) for argument in arguments]
            process = await asyncio.create_subprocess_exec(
                str(CURL), "-sS", *filled, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            out, _ = await asyncio.wait_for(process.communicate(), 20)
            return process.returncode or 0, out.decode()

    return asyncio.run(run())


@needs_curl
@pytest.mark.parametrize("protocol", ["--http1.1", "--http2-prior-knowledge"])
class TestBothProtocols:
    def test_a_request_reaches_the_handler_whole(self, protocol: str) -> None:
        code, text = curl(protocol, "-H", "Host: here", "-d", "body", "http://127.0.0.1:{}/a?b=c")
        assert (code, text) == (0, "POST /a b=c here body")

    def test_a_stream_arrives_whole(self, protocol: str) -> None:
        assert curl(protocol, "http://127.0.0.1:{}/stream") == (0, "x" * 500_000)

    def test_head_has_no_body(self, protocol: str) -> None:
        code, text = curl(protocol, "-I", "http://127.0.0.1:{}/a")
        assert code == 0
        assert "x-extra: 1" in text.lower()
        assert text.endswith("\r\n\r\n")

    def test_a_handlers_failure_is_a_500_without_its_text(self, protocol: str) -> None:
        code, text = curl(protocol, "-w", " %{http_code}", "http://127.0.0.1:{}/fail")
        assert (code, text) == (0, "internal error 500")

    def test_an_answer_shorter_than_promised_is_an_error(self, protocol: str) -> None:
        code, _ = curl(protocol, "http://127.0.0.1:{}/short")
        assert code != 0


@needs_curl
def test_a_body_above_the_limit_is_refused_by_its_length_and_by_its_bytes() -> None:
    for extra in ((), ("-H", "Transfer-Encoding: chunked")):
        arguments = ("--http2-prior-knowledge", "-w", " %{http_code}", *extra, "-d", "y" * 2000)
        _, text = curl(*arguments, "http://127.0.0.1:{}/a")
        assert "1000 bytes 413" in text


@needs_curl
def test_a_head_above_the_limit_is_refused() -> None:
    arguments = ("--http2-prior-knowledge", "-w", " %{http_code}", "-H", "X-Big: " + "z" * 20_000)
    _, text = curl(*arguments, "http://127.0.0.1:{}/a")
    assert text.endswith("431")


def test_the_preface_may_come_in_pieces_and_a_silent_client_is_dropped() -> None:
    async def run() -> None:
        async with serve() as (port, number):
            reader, writer = await asyncio.open_connection("127.0.0.1", number)
            for byte in b"PRI":
                writer.write(bytes((byte,)))
                await asyncio.sleep(0)
            while not port.undecided:  # noqa: ASYNC110  # the kernel hands the connection over when it likes
                await asyncio.sleep(0)
            writer.write(b" * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
            assert (await reader.readexactly(9))[3] == 4
            _, silent = await asyncio.open_connection("127.0.0.1", number)
            while not port.undecided:  # noqa: ASYNC110  # the kernel hands the connection over when it likes
                await asyncio.sleep(0)
            port.sweep(asyncio.get_running_loop().time() + 11)
            await asyncio.sleep(0)
            assert not port.undecided
            writer.close()
            silent.close()

    asyncio.run(run())


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="the system has no such bound")
def test_the_system_takes_little_for_a_client_that_does_not_read() -> None:
    async def play() -> None:
        sockets = open_sockets("127.0.0.1", 0)
        accepted = asyncio.get_running_loop().create_future()

        class Server(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                accepted.set_result(transport)

        listener = Listener(Server, sockets)
        await listener.accept(None)
        _, writer = await asyncio.open_connection(*sockets[0].getsockname())
        transport = await accepted
        raw = transport.get_extra_info("socket")
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 65_536
        writer.transport.abort()
        transport.abort()
        listener.stop()
        close_all(sockets)

    asyncio.run(play())


def test_what_clients_must_take_is_set_for_both_protocols() -> None:
    async def play() -> None:
        async with serve() as (port, _):
            port.expect(Pace(1000, 5))
            assert port.http1.limits.pace == port.http2.limits.pace == Pace(1000, 5)

    asyncio.run(play())

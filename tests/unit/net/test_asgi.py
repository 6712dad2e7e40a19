"""The ASGI bridge: what an application says is what the client gets, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from ollama_proxy.net.asgi import AsgiBridge, AsgiMessage, Scope
from ollama_proxy.net.http1.server import HttpServer
from tests.support.http1 import read_answers, refuse, serve, until

Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]
Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter

GET = b"GET /a%20b?q=1 HTTP/1.1\r\nHost: x\r\n\r\n"


def begin(status: int = 200, headers: list[tuple[bytes, bytes]] | None = None) -> AsgiMessage:
    return {"type": "http.response.start", "status": status, "headers": headers or []}


def piece(body: bytes, *, more: bool = False) -> AsgiMessage:
    return {"type": "http.response.body", "body": body, "more_body": more}


def running_apps() -> int:
    return sum(task.get_name().startswith("asgi ") for task in asyncio.all_tasks())


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


def test_the_application_sees_the_request() -> None:
    seen: list[Scope | AsgiMessage] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([scope, await receive()])
        await send(begin(201, [(b"content-type", b"text/plain"), (b"x-a", b"b")]))
        await send(piece(b"done"))

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(b"POST /a%20b?q=1 HTTP/1.1\r\nHost: x\r\nX-Y: z\r\nContent-Length: 2\r\n\r\nhi")
        assert await read_answers(reader, 1) == [(201, b"done")]
        scope, message = seen
        # The front has read escapes before, once; what is read twice is another path than the one that was let in.
        assert (scope["method"], scope["path"], scope["raw_path"]) == ("POST", "/a%20b", b"/a%20b")
        assert scope["query_string"] == b"q=1"
        assert (b"x-y", b"z") in scope["headers"]
        assert scope["client"] == writer.get_extra_info("sockname")
        assert message == {"type": "http.request", "body": b"hi", "more_body": False}

    serve(client, AsgiBridge(app, refuse).handle)


def test_pieces_are_streamed_and_the_connection_lives_on() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(begin())
        for number in range(5):
            await send(piece(b"%d" % number, more=True))
        await send(piece(b""))

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        for _ in range(3):
            writer.write(GET)
            assert await read_answers(reader, 1) == [(200, b"01234")]
        await settle()
        assert running_apps() == 0

    serve(client, AsgiBridge(app, refuse).handle)


def test_an_answer_to_head_keeps_its_length_and_loses_its_body() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(begin())
        await send(piece(b"four"))

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
        assert b"\r\nContent-Length: 4\r\n" in await reader.readuntil(b"\r\n\r\n")
        assert await read_answers(reader, 1) == [(200, b"four")]

    serve(client, AsgiBridge(app, refuse).handle)


def test_an_application_that_fails_before_its_answer_is_a_500() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(begin())
        raise RuntimeError("secret")

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(GET * 2)
        assert await read_answers(reader, 2) == [(500, b"internal error")] * 2

    serve(client, AsgiBridge(app, refuse).handle)


def test_an_application_that_fails_in_mid_answer_breaks_the_connection() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(begin())
        await send(piece(b"half", more=True))
        raise RuntimeError("secret")

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(GET)
        with contextlib.suppress(ConnectionResetError):
            assert not (await reader.read()).endswith(b"0\r\n\r\n")
        await until(lambda: not server.connections)

    serve(client, AsgiBridge(app, refuse).handle)


def test_an_application_is_told_when_its_client_leaves() -> None:
    heard: list[AsgiMessage] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        heard.append(await receive())

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(GET)
        await until(running_apps)
        writer.transport.abort()
        await until(lambda: heard)
        assert heard == [{"type": "http.disconnect"}]
        await settle()
        assert running_apps() == 0

    serve(client, AsgiBridge(app, refuse).handle)


def test_a_slow_reader_holds_the_application_back() -> None:
    sent: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(begin())
        for number in range(200):
            sent.append(number)
            await send(piece(b"x" * 100_000, more=True))
        await send(piece(b""))

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET)
        await until(lambda: sent)
        for _ in range(2000):
            await asyncio.sleep(0)
        assert len(sent) < 200
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        received = 0
        while not (last := await reader.read(1_000_000)).endswith(b"\r\n0\r\n\r\n"):
            received += len(last)
        assert received + len(last) > 20_000_000
        assert len(sent) == 200

    serve(client, AsgiBridge(app, refuse).handle)


# -- what it gets wrong ------------------------------------------------------------


def test_a_large_whole_answer_leaves_no_task() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(begin())
        await send(piece(b"x" * 8_000_000))

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(GET)
        assert len((await read_answers(reader, 1))[0][1]) == 8_000_000
        await settle()
        assert running_apps() == 0

    serve(client, AsgiBridge(app, refuse).handle)


def test_a_client_that_leaves_while_the_application_waits_leaves_no_task() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(begin())
        for _ in range(400):
            await send(piece(b"x" * 100_000, more=True))

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET)
        await until(running_apps)
        for _ in range(2000):
            await asyncio.sleep(0)
        writer.transport.abort()
        await until(lambda: not server.connections)
        await settle()
        assert running_apps() == 0

    serve(client, AsgiBridge(app, refuse).handle)


@pytest.mark.parametrize("messages", [[], [begin()]])
def test_an_application_that_never_answers_is_a_500(messages: list[AsgiMessage]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(GET)
        assert (await read_answers(reader, 1))[0][0] == 500

    serve(client, AsgiBridge(app, refuse).handle)


def test_an_application_that_leaves_its_body_open_breaks_the_connection() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(begin())
        await send(piece(b"half", more=True))

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(GET)
        with contextlib.suppress(ConnectionResetError):
            assert not (await reader.readuntil(b"half\r\n") + await reader.read()).endswith(b"0\r\n\r\n")

    serve(client, AsgiBridge(app, refuse).handle)

"""WebSocket by RFC 6455, frame by frame: what is taken, what ends it and with which code, and who is given up."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import Awaitable, Callable

import pytest

from ollama_proxy.net.draining import drain
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http1.server import HttpServer
from ollama_proxy.net.websocket import WebSocket, WebSocketLimits, accept_upgrade
from tests.support.http1 import quiet, read_answers, serve, until

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter

#: The key and its answer are those of RFC 6455, 1.3.
ASK = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
MASK = b"\x11\x22\x33\x44"
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
LIMITS = WebSocketLimits(message_bytes=1000, unread_bytes=200_000, write_high_bytes=50_000)


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    """A frame as a client sends it, or as one gets it wrong."""
    head = bytes([(0x80 if fin else 0) | reserved | opcode])
    bit = 0x80 if masked else 0
    size = len(data)
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", size)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", size)
    if not masked:
        return head + data
    return head + MASK + bytes(byte ^ MASK[index % 4] for index, byte in enumerate(data))


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack(">H", code) + reason)


async def read_frame(reader: Reader) -> tuple[int, bytes]:
    """Opcode and payload of a server's frame, which is whole and unmasked."""
    first, size = await reader.readexactly(2)
    assert first & 0xF0 == 0x80
    if size == 126:
        (size,) = struct.unpack(">H", await reader.readexactly(2))
    elif size == 127:
        (size,) = struct.unpack(">Q", await reader.readexactly(8))
    assert size < 1 << 40
    return first & 15, await reader.readexactly(size)


async def read_close(reader: Reader) -> int:
    """The code of a close, behind whatever else is said before; 0 when it has none. Nothing may follow."""
    opcode, data = await read_frame(reader)
    while opcode != CLOSE:
        opcode, data = await read_frame(reader)
    assert await reader.read() == b""
    return int.from_bytes(data[:2], "big")


class Echo:
    """Says back what it hears, and does what some words ask for."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self.events: list[str] = []

    def heard(self, text: str) -> None:
        if text == "trip":
            raise RuntimeError("tripped")
        if text.startswith("times "):
            for _ in range(int(text[6:])):
                self.socket.send(b"x" * 10_000)
        self.socket.send(text.encode())

    def pause(self) -> None:
        self.events.append("pause")

    def resume(self) -> None:
        self.events.append("resume")

    def finish_soon(self) -> None:
        self.events.append("finish")
        self.socket.close(1001, "stopping")

    def ended(self) -> None:
        self.events.append("ended")


Scene = Callable[[Reader, Writer, Echo, HttpServer], Awaitable[None]]


def talk(scene: Scene, limits: WebSocketLimits = LIMITS) -> None:
    """Run a scene behind a good handshake; afterwards the talk must have ended, once."""
    talks: list[Echo] = []

    def start(socket: WebSocket) -> Echo:
        talks.append(Echo(socket))
        return talks[0]

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(ASK)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"Sec-WebSocket-Accept: %b\r\n" % ACCEPT in head
        assert len(server.guests) == 1
        await scene(reader, writer, talks[0], server)
        writer.transport.abort()
        await until(lambda: not server.guests)

    serve(client, lambda exchange: accept_upgrade(exchange, start, limits))
    assert talks[0].events.count("ended") == 1


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_messages_pings_and_a_close_however_they_are_cut(size: int) -> None:
    data = b"".join(
        (
            frame(TEXT, b"one"),
            frame(TEXT, "zw\u00f6lf".encode()[:3], fin=False),
            frame(PING, b"in between"),
            frame(CONT, fin=False),
            frame(CONT, "zw\u00f6lf".encode()[3:]),
            frame(PONG, b"unasked"),
            frame(TEXT),
            frame(TEXT, b"x" * 1000),
        )
    )

    async def scene(reader: Reader, writer: Writer, echo: Echo, server: HttpServer) -> None:
        for start in range(0, len(data), size):
            writer.write(data[start : start + size])
            await asyncio.sleep(0)
        found = [await read_frame(reader) for _ in range(5)]
        texts = [(TEXT, b"one"), (TEXT, "zw\u00f6lf".encode()), (TEXT, b""), (TEXT, b"x" * 1000)]
        assert [one for one in found if one[0] == TEXT] == texts
        assert (PONG, b"in between") in found
        writer.write(frame(TEXT, b"not begun") + close_frame(1000, b"done") + frame(TEXT, b"never heard"))
        assert await read_frame(reader) == (CLOSE, struct.pack(">H", 1000) + b"done")
        assert await reader.read() == b""

    talk(scene)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(frame(CLOSE), 0, id="close without a code"),
        pytest.param(close_frame(3456, b"mine"), 3456, id="a code of an application"),
        pytest.param(frame(TEXT, b"x", masked=False), 1002, id="not masked"),
        pytest.param(frame(TEXT, b"x", reserved=0x40), 1002, id="a reserved bit"),
        pytest.param(frame(3, b"x"), 1002, id="an unknown opcode"),
        pytest.param(frame(11, b"x"), 1002, id="an unknown control opcode"),
        pytest.param(frame(PING, b"x", fin=False), 1002, id="a ping in fragments"),
        pytest.param(frame(PING, b"x" * 126), 1002, id="a ping too long"),
        pytest.param(frame(CONT, b"x"), 1002, id="a continuation of nothing"),
        pytest.param(frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002, id="a message inside a message"),
        pytest.param(frame(CLOSE, b"x"), 1002, id="half a close code"),
        pytest.param(close_frame(1005), 1002, id="a code that is never sent"),
        pytest.param(close_frame(999), 1002, id="a code below all"),
        pytest.param(close_frame(1000, b"\xff"), 1007, id="a close reason that is no text"),
        pytest.param(frame(BINARY, b"{}"), 1003, id="binary"),
        pytest.param(frame(TEXT, b"\xc3\x28"), 1007, id="no UTF-8"),
        pytest.param(frame(TEXT, b"\xc3", fin=False) + frame(CONT, b"\x28"), 1007, id="no UTF-8 across fragments"),
        pytest.param(frame(TEXT, b"\xed\xa0\x80"), 1007, id="a surrogate"),
        pytest.param(frame(TEXT, b"x" * 1001), 1009, id="too big"),
        pytest.param(frame(TEXT, b"x" * 600, fin=False) + frame(CONT, b"x" * 600), 1009, id="too big in fragments"),
        pytest.param(b"\x81\xff" + struct.pack(">Q", 1 << 62), 1009, id="a size beyond all"),
        pytest.param(frame(TEXT, b"trip"), 1011, id="a fault of ours"),
    ],
)
def test_what_ends_a_conversation_is_told_by_its_code(data: bytes, code: int) -> None:
    async def scene(reader: Reader, writer: Writer, echo: Echo, server: HttpServer) -> None:
        writer.write(frame(TEXT, b"good"))
        assert await read_frame(reader) == (TEXT, b"good")
        writer.write(data + frame(TEXT, b"never heard"))
        assert await read_close(reader) == code
        assert echo.events == ["ended"]

    talk(scene)


def test_a_close_reaches_a_client_that_sends_on() -> None:
    async def scene(reader: Reader, writer: Writer, echo: Echo, server: HttpServer) -> None:
        writer.write(frame(TEXT, b"x" * 5_000_000))
        writer.write(frame(TEXT, b"y" * 5_000_000))
        await writer.drain()
        assert await read_close(reader) == 1009

    talk(scene)


def test_empty_fragments_without_end_hold_nothing() -> None:
    async def scene(reader: Reader, writer: Writer, echo: Echo, server: HttpServer) -> None:
        writer.write(frame(TEXT, b"x", fin=False) + frame(CONT, fin=False) * 20_000 + frame(PING))
        assert await read_frame(reader) == (PONG, b"")
        assert len(echo.socket._message) == 1

    talk(scene)


@pytest.mark.parametrize(
    "crumb", [frame(CONT, fin=False), frame(PING), frame(PONG)], ids=["fragments", "pings", "pongs"]
)
def test_a_flood_of_empty_frames_leaves_others_their_turn(crumb: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = 100_000
    heard: list[int] = []
    hear = WebSocket._hear

    def count(socket: WebSocket, data: bytes) -> None:
        heard.append(len(data))
        turns.append(loop_turns[0])
        hear(socket, data)

    turns: list[int] = []
    loop_turns = [0]
    monkeypatch.setattr(WebSocket, "_hear", count)

    async def tick() -> None:
        while True:
            loop_turns[0] += 1
            await asyncio.sleep(0)

    async def scene(reader: Reader, writer: Writer, echo: Echo, server: HttpServer) -> None:
        others = asyncio.create_task(tick())
        # All of it in one read, as it may come with the handshake.
        echo.socket.data_received(frame(TEXT, b"x", fin=False) + crumb * frames + frame(CONT, b"y"))
        opcode, data = await read_frame(reader)
        while opcode == PONG:
            opcode, data = await read_frame(reader)
        assert (opcode, data) == (TEXT, b"xy")
        others.cancel()
        assert max(heard) <= 8 * 1024
        assert len(set(turns)) == len(turns) > frames * len(crumb) // (8 * 1024)
        writer.write(frame(TEXT, b"still there"))
        assert await read_frame(reader) == (TEXT, b"still there")

    talk(scene)


def test_who_does_not_read_is_paused_for_and_then_not_heard() -> None:
    async def scene(reader: Reader, writer: Writer, echo: Echo, server: HttpServer) -> None:
        writer.write(frame(TEXT, b"times 1000"))
        await until(lambda: echo.events)
        assert echo.events == ["pause"]
        assert echo.socket.paused
        writer.write(frame(PING, b"late") * 1000)
        await until(lambda: echo.socket._read_paused)
        for _ in range(1000):
            assert len((await read_frame(reader))[1]) == 10_000
        assert await read_frame(reader) == (TEXT, b"times 1000")
        for _ in range(1000):
            assert await read_frame(reader) == (PONG, b"late")
        assert echo.events == ["pause", "resume"]

    talk(scene)


def test_a_silent_client_is_asked_and_then_given_up() -> None:
    async def scene(reader: Reader, writer: Writer, echo: Echo, server: HttpServer) -> None:
        loop = asyncio.get_running_loop()
        server.sweep(loop.time() + 19)
        server.sweep(loop.time() + 21)
        server.sweep(loop.time() + 22)
        assert await read_frame(reader) == (PING, b"")
        writer.write(frame(PONG))
        await until(lambda: not echo.socket._pinged)
        server.sweep(loop.time() + 21)
        assert await read_frame(reader) == (PING, b"")
        server.sweep(loop.time() + 39)
        assert server.guests
        server.sweep(loop.time() + 41)
        await until(lambda: not server.guests)

    talk(scene)


def test_a_client_that_reads_nothing_is_given_up() -> None:
    async def scene(reader: Reader, writer: Writer, echo: Echo, server: HttpServer) -> None:
        loop = asyncio.get_running_loop()
        writer.write(frame(TEXT, b"times 1000"))
        await until(lambda: echo.events)
        await quiet()  # until the kernel's buffers are full
        server.sweep(loop.time())
        server.sweep(loop.time() + 29)
        assert server.guests
        server.sweep(loop.time() + 31)
        await until(lambda: not server.guests)

    talk(scene)


def test_a_client_that_does_not_close_is_cut_off() -> None:
    async def scene(reader: Reader, writer: Writer, echo: Echo, server: HttpServer) -> None:
        loop = asyncio.get_running_loop()
        echo.socket.close(1001)
        assert await read_frame(reader) == (CLOSE, struct.pack(">H", 1001))
        writer.write(frame(TEXT, b"never heard"))
        server.sweep(loop.time() + 4)
        assert server.guests
        server.sweep(loop.time() + 6)
        await until(lambda: not server.guests)
        assert echo.events == ["ended"]

    talk(scene)


def test_a_drain_closes_and_waits_for_the_client() -> None:
    async def scene(reader: Reader, writer: Writer, echo: Echo, server: HttpServer) -> None:
        leaving = asyncio.create_task(drain(server, 60))
        assert await read_frame(reader) == (CLOSE, struct.pack(">H", 1001) + b"stopping")
        assert not leaving.done()
        writer.write(close_frame(1001))
        assert await reader.read() == b""
        writer.write_eof()
        await leaving
        assert echo.events == ["finish", "ended"]

    talk(scene)


def test_a_drain_does_not_wait_longer_than_its_grace() -> None:
    async def scene(reader: Reader, writer: Writer, echo: Echo, server: HttpServer) -> None:
        echo.finish_soon = lambda: None  # type: ignore[method-assign]
        await drain(server, 0.01)
        assert await read_close(reader) == 1001

    talk(scene)


def test_nothing_is_sent_behind_the_end() -> None:
    async def scene(reader: Reader, writer: Writer, echo: Echo, server: HttpServer) -> None:
        echo.socket.close(1000, at_once=True)
        echo.socket.close(1011)
        echo.socket.send(b"late")
        echo.socket.leave()
        echo.socket.finish_soon()
        assert await read_close(reader) == 1000

    talk(scene)


def test_a_client_that_breaks_off_is_noticed_at_once() -> None:
    async def scene(reader: Reader, writer: Writer, echo: Echo, server: HttpServer) -> None:
        writer.write(frame(TEXT, b"half a mess")[:-3])
        writer.transport.abort()
        await until(lambda: echo.events)
        assert echo.events == ["ended"]

    talk(scene)


def answer_to(request: bytes) -> tuple[int, bytes]:
    """Status and head of the answer to a handshake that is none."""
    found: list[tuple[int, bytes]] = []

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        found.append((int(head[9:12]), head))
        await reader.readline()
        if b"Connection: close" not in head and b"HTTP/1.0" not in request:
            writer.write(b"GET /again HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await read_answers(reader, 1))[0][0] == 426

    serve(client, lambda exchange: accept_upgrade(exchange, Echo, LIMITS))
    return found[0]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b"Upgrade: WebSocket\r\n", b""), 426),
        ((b"WebSocket\r\n", b"h2c\r\n"), 426),
        ((b"keep-alive, Upgrade", b"keep-alive"), 426),
        ((b"HTTP/1.1", b"HTTP/1.0"), 426),
        ((b"Version: 13", b"Version: 8"), 426),
        ((b"Sec-WebSocket-Version: 13\r\n", b""), 426),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", base64.b64encode(b"short")), 400),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"?"), 400),
        ((b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""), 400),
    ],
)
def test_a_bad_handshake_is_answered_in_http(change: tuple[bytes, bytes], status: int) -> None:
    assert change[0] in ASK
    found, head = answer_to(ASK.replace(*change))
    assert found == status
    if status == 426:
        assert b"\r\nUpgrade: websocket\r\n" in head
        assert b"\r\nSec-WebSocket-Version: 13\r\n" in head


def test_frames_right_behind_the_handshake_are_heard() -> None:
    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(ASK + frame(TEXT, b"early"))
        await reader.readuntil(b"\r\n\r\n")
        assert await read_frame(reader) == (TEXT, b"early")
        writer.write(close_frame(1000))
        assert await read_close(reader) == 1000

    def handle(exchange: Exchange) -> None:
        accept_upgrade(exchange, Echo, LIMITS)

    serve(client, handle)

"""Requests whose body follows its head: asked for first, written as the server takes it, ended by an early answer."""

from __future__ import annotations

import asyncio

import pytest

from ollama_proxy.domain.errors import FailureKind
from ollama_proxy.net.http1 import body_upload
from ollama_proxy.net.http1.body_upload import BodyUpload, framing_lines
from ollama_proxy.net.http1.client import OriginPool
from tests.support.http1 import Gathered, Reader, Writer, ask_once, outcome, talk_to, until

_OK = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Heard(Gathered):
    """Everything an upload hears."""

    def __init__(self) -> None:
        super().__init__()
        self.ready = asyncio.Event()
        self.drained = asyncio.Event()
        self.full = 0

    def on_ready(self) -> None:
        self.ready.set()

    def on_full(self) -> None:
        self.full += 1
        self.drained.clear()

    def on_drained(self) -> None:
        self.drained.set()


def send(pool: OriginPool, length: int | None, stall_s: float = 30.0) -> tuple[BodyUpload, Heard]:
    sink = Heard()
    request = b"POST /blob HTTP/1.1\r\nHost: x\r\n" + framing_lines(length)
    return BodyUpload.send(pool, request, length, sink, stall_s), sink


@pytest.mark.parametrize("length", [6, None])
def test_the_body_follows_when_the_server_says_100_and_the_connection_is_used_again(length: int | None) -> None:
    seen: list[bytes] = []

    async def talk(reader: Reader, writer: Writer, number: int) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Expect: 100-continue" in head
        writer.write(_CONTINUE)
        seen.append(await reader.readexactly(6 if length else 21))
        writer.write(_OK)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.read()

    async def scene(pool: OriginPool) -> None:
        upload, sink = send(pool, length)
        await sink.ready.wait()
        upload.write(b"abc")
        upload.write(b"def")
        upload.end()
        assert await outcome(sink) == (201, b"", ["complete"])
        assert await ask_once(pool) == (200, b"ok", ["complete"])
        assert pool.open == 1

    talk_to(talk, scene)
    assert seen == [b"abcdef" if length else b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"]


def test_a_server_that_says_nothing_gets_the_body_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_upload, "_WAIT_S", 0.2)

    async def talk(reader: Reader, writer: Writer, number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(3) == b"abc"
        writer.write(_OK)

    async def scene(pool: OriginPool) -> None:
        begun = asyncio.get_running_loop().time()
        upload, sink = send(pool, 3)
        await sink.ready.wait()
        assert asyncio.get_running_loop().time() - begun > 0.19
        upload.write(b"abc")
        upload.end()
        assert await outcome(sink) == (201, b"", ["complete"])

    talk_to(talk, scene)


def test_nothing_is_asked_and_nothing_waited_for_where_there_is_no_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_upload, "_WAIT_S", 3600.0)

    async def talk(reader: Reader, writer: Writer, number: int) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Expect" not in head
        assert b"Content-Length: 0" in head
        writer.write(_OK)
        await reader.read()

    async def scene(pool: OriginPool) -> None:
        upload, sink = send(pool, 0)
        await sink.ready.wait()
        upload.end()
        assert await outcome(sink) == (201, b"", ["complete"])

    talk_to(talk, scene)


def test_an_answer_before_the_body_ends_the_upload_and_its_connection() -> None:
    async def talk(reader: Reader, writer: Writer, number: int) -> None:
        if number == 1:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            assert await reader.read() == b""
        else:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def scene(pool: OriginPool) -> None:
        upload, sink = send(pool, 1_000_000)
        assert await outcome(sink) == (200, b"", ["complete"])
        assert not sink.ready.is_set()
        upload.write(b"nobody wants this")
        upload.end()
        await until(lambda: pool.open == 0)
        assert await ask_once(pool) == (200, b"ok", ["complete"])

    talk_to(talk, scene)


def test_an_answer_in_the_middle_of_the_body_is_heard() -> None:
    async def talk(reader: Reader, writer: Writer, number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_CONTINUE)
        await reader.readexactly(3)
        writer.write(b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfull")
        await reader.read()

    async def scene(pool: OriginPool) -> None:
        upload, sink = send(pool, 1_000_000)
        await sink.ready.wait()
        upload.write(b"abc")
        assert await outcome(sink) == (507, b"full", ["complete"])
        await until(lambda: pool.open == 0)

    talk_to(talk, scene)


def test_a_server_that_does_not_read_holds_the_sender_back() -> None:
    go_on = asyncio.Event()

    async def talk(reader: Reader, writer: Writer, number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_CONTINUE)
        await go_on.wait()
        left = 20_000_000
        while left:
            left -= len(await reader.read(1_000_000))
        writer.write(_OK)

    async def scene(pool: OriginPool) -> None:
        upload, sink = send(pool, 20_000_000)
        await sink.ready.wait()
        sent = 0
        while not sink.full:
            upload.write(bytes(100_000))
            sent += 100_000
            await asyncio.sleep(0)
        assert sent < 20_000_000
        assert not sink.drained.is_set()
        go_on.set()
        while sent < 20_000_000:
            await sink.drained.wait()
            upload.write(bytes(100_000))
            sent += 100_000
            await asyncio.sleep(0)
        upload.end()
        assert await outcome(sink) == (201, b"", ["complete"])

    talk_to(talk, scene)


def test_a_server_that_breaks_off_is_a_failure_and_not_asked_again() -> None:
    connections: list[int] = []

    async def talk(reader: Reader, writer: Writer, number: int) -> None:
        connections.append(number)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_CONTINUE)
        await reader.readexactly(3)
        writer.transport.abort()

    async def scene(pool: OriginPool) -> None:
        upload, sink = send(pool, 1_000_000)
        await sink.ready.wait()
        upload.write(b"abc")
        assert (await outcome(sink))[2] == [FailureKind.RESET]
        upload.write(b"def")
        upload.end()

    talk_to(talk, scene)
    assert connections == [1]


def test_a_client_that_gives_up_closes_the_connection_in_the_same_turn() -> None:
    async def talk(reader: Reader, writer: Writer, number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_CONTINUE)
        assert len(await reader.read()) <= 3

    async def scene(pool: OriginPool) -> None:
        upload, sink = send(pool, 1_000_000)
        await sink.ready.wait()
        upload.write(b"abc")
        upload.abort()
        await until(lambda: pool.open == 0)
        assert sink.ends == []

    talk_to(talk, scene)


@pytest.mark.parametrize("whole", [True, False])
def test_a_server_that_stops_reading_is_given_up(whole: bool) -> None:
    async def talk(reader: Reader, writer: Writer, number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_CONTINUE)
        await stop.wait()

    async def scene(pool: OriginPool) -> None:
        upload, sink = send(pool, 20_000_000, stall_s=0.1)
        await sink.ready.wait()
        upload.write(bytes(20_000_000 if whole else 19_000_000))
        if whole:
            upload.end()
        assert await outcome(sink) == (0, b"", [FailureKind.TIMEOUT])
        assert pool.open == 0
        stop.set()

    stop = asyncio.Event()
    talk_to(talk, scene)


def test_a_server_that_reads_slowly_is_waited_for() -> None:
    """It takes twice as long as a server may that takes nothing."""

    async def talk(reader: Reader, writer: Writer, number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_CONTINUE)
        for _ in range(40):
            await reader.readexactly(500_000)
            await asyncio.sleep(0.025)
        writer.write(_OK)

    async def scene(pool: OriginPool) -> None:
        upload, sink = send(pool, 20_000_000, stall_s=0.5)
        await sink.ready.wait()
        upload.write(bytes(20_000_000))
        upload.end()
        assert await outcome(sink) == (201, b"", ["complete"])

    talk_to(talk, scene)

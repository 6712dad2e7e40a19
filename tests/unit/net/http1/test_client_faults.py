"""The HTTP/1.1 client against servers that lie, stall, leave and say too much, and faults of our own."""

from __future__ import annotations

import asyncio
import socket

import pytest
import uvloop

from ollama_proxy.domain.errors import FailureKind
from ollama_proxy.net.http1 import upstream_connection
from ollama_proxy.net.http1.client import Origin, OriginPool, Upload
from ollama_proxy.net.http1.fetch import fetch
from tests.support.http1 import (
    REQUEST,
    Gathered,
    ask,
    ask_once,
    outcome,
    talk_to,
    until,
)

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"


def full_backlog() -> tuple[socket.socket, list[socket.socket]]:
    """A listener that takes no more connections: those who come now wait."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting = []
    for _ in range(4):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(listener.getsockname())
        waiting.append(one)
    return listener, waiting


EXTRA = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nevil", b"MORE"),
    (b"HTTP/1.1 200 OK\r\nX-Ev", b"il: yes\r\nContent-Length: 1\r\n\r\nz"),
]


@pytest.mark.parametrize(("extra", "rest"), EXTRA)
def test_part_of_an_extra_answer_never_reaches_the_next_request(extra: bytes, rest: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await reader.read(65536)
        if number > 1:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\ny")
            return
        writer.write(ANSWER + extra)
        await reader.read(65536)
        writer.write(rest)

    async def scene(pool: OriginPool) -> None:
        assert await ask_once(pool) == (200, b"x", ["complete"])
        assert await ask_once(pool) == (200, b"y", ["complete"])

    talk_to(talk, scene)


class Follower(Gathered):
    """Sends the next request as soon as its own answer is complete."""

    def __init__(self, pool: OriginPool, following: Gathered) -> None:
        super().__init__()
        self.pool = pool
        self.following = following

    def on_complete(self) -> None:
        super().on_complete()
        self.pool.send(REQUEST, self.following)


def test_an_extra_answer_is_not_that_of_a_request_sent_at_once() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await reader.read(65536)
        writer.write(ANSWER + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil" if number == 1 else ANSWER)
        await reader.read(65536)

    async def scene(pool: OriginPool) -> None:
        second = Gathered()
        pool.send(REQUEST, Follower(pool, second))
        assert await outcome(second) == (200, b"x", ["complete"])

    talk_to(talk, scene)


def test_the_retry_of_a_stale_connection_is_on_a_fresh_one() -> None:
    stale = 3
    gathered = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await reader.read(65536)
        if number <= stale:
            await gathered.wait()
        writer.write(ANSWER)
        await reader.read(65536)

    async def scene(pool: OriginPool) -> None:
        sinks = [Gathered() for _ in range(stale)]
        for sink in sinks:
            pool.send(REQUEST, sink)
        await until(lambda: pool.open == stale)
        gathered.set()
        for sink in sinks:
            await outcome(sink)
        assert pool.idle == stale
        assert await ask_once(pool) == (200, b"x", ["complete"])

    talk_to(talk, scene)


def test_a_head_without_end_is_garbage() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await reader.read(65536)
        writer.write(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 500_000)
        await reader.read(65536)

    async def scene(pool: OriginPool) -> None:
        sink = Gathered()
        upload = pool.send(REQUEST, sink)
        try:
            assert await outcome(sink) == (0, b"", [FailureKind.GARBAGE])
        finally:
            upload.abort()

    talk_to(talk, scene)


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".invalid"])
def test_a_name_that_cannot_be_one_is_unreachable(host: str) -> None:
    async def run() -> None:
        sink = Gathered()
        OriginPool(Origin(host, 80)).send(REQUEST, sink)
        assert (await outcome(sink))[2] == [FailureKind.UNREACHABLE]

    uvloop.run(run())


def test_an_abort_while_connecting_ends_the_attempt_at_once() -> None:
    listener, waiting = full_backlog()

    async def run() -> None:
        pool = OriginPool(Origin(*listener.getsockname()), connect_timeout_s=5)
        others = asyncio.all_tasks()
        upload = pool.send(REQUEST, Gathered())
        for _ in range(10):
            await asyncio.sleep(0)
        upload.abort()
        for _ in range(10):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == others

    try:
        uvloop.run(run())
    finally:
        for one in (listener, *waiting):
            one.close()


def test_a_fault_in_the_sink_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(Gathered):
        def on_complete(self) -> None:
            super().on_complete()
            raise KeyError("bug of ours")

    async def scene(pool: OriginPool) -> None:
        sink = Faulty()
        pool.send(REQUEST, sink)
        await outcome(sink)
        await until(lambda: pool.open == 0)

    ask([ANSWER], scene)
    assert "bug of ours" in caplog.text


@pytest.mark.parametrize("where", ["on_response", "on_body"])
def test_a_fault_of_ours_is_not_taken_for_one_of_the_backend(where: str, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> None:
        raise KeyError("bug of ours")

    async def scene(pool: OriginPool) -> None:
        sink = Gathered()
        setattr(sink, where, fail)
        pool.send(REQUEST, sink)
        assert (await outcome(sink))[2] == [FailureKind.OUR_FAULT]
        await until(lambda: pool.open == 0)

    ask([ANSWER], scene, close=False)
    assert "bug of ours" in caplog.text
    assert not FailureKind.OUR_FAULT.blames_backend
    assert not FailureKind.OUR_FAULT.retryable


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
        b"HTTP/1.1 200 " + b"y" * 100_000,
        b"HTTP/1.1 103 Early\r\nX: y\r\n\r\n" * 10_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"y" * 100_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 1000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"y" * 100_000,
        b"y" * 10,
    ],
)
def test_what_is_not_body_has_an_end(start: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await reader.read(65536)
        writer.write(start)
        await reader.read(65536)

    async def scene(pool: OriginPool) -> None:
        sink = Gathered()
        pool.send(REQUEST, sink)
        assert (await outcome(sink))[2] == [FailureKind.GARBAGE]
        await until(lambda: pool.open == 0)

    talk_to(talk, scene)


def test_the_answer_to_head_has_no_body_whatever_its_length() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        answers = [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"X: y"]
        while (await reader.read(65536)).startswith(b"HEAD ") and answers:
            writer.write(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % answers.pop(0))

    async def scene(pool: OriginPool) -> None:
        for _ in range(3):
            got = await fetch(pool, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", 5)
            assert (got.status, bytes(got.body)) == (200, b"")
        assert (pool.open, pool.idle) == (1, 1)

    talk_to(talk, scene)


def test_a_connection_whose_last_answer_was_paused_is_not_left_so() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while await reader.read(65536):
            writer.write(ANSWER)

    async def scene(pool: OriginPool) -> None:
        class Pausing(Gathered):
            upload: Upload | None = None

            def on_body(self, data: bytes) -> None:
                assert self.upload is not None
                self.upload.pause()
                super().on_body(data)

        sink = Pausing()
        sink.upload = pool.send(REQUEST, sink)
        assert await outcome(sink) == (200, b"x", ["complete"])
        assert await ask_once(pool) == (200, b"x", ["complete"])
        assert pool.open == 1

    talk_to(talk, scene)


def test_a_server_that_may_have_worked_on_the_request_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what ends at once was ended before; anything later is a failure that somebody must hear of."""
    monkeypatch.setattr(upstream_connection, "_STALE_S", -1.0)
    asked: list[int] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while await reader.read(65536):
            asked.append(number)
            if len(asked) == 2:
                writer.transport.abort()
                return
            writer.write(ANSWER)

    async def scene(pool: OriginPool) -> None:
        assert await ask_once(pool) == (200, b"x", ["complete"])
        assert (await ask_once(pool))[2] == [FailureKind.RESET]
        assert asked == [1, 1]

    talk_to(talk, scene)

"""The HTTP/1.1 client against servers that lie, stall, leave and say too much, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from ollama_proxy.domain.errors import FailureKind
from ollama_proxy.net.http1.client import Origin, OriginPool, Upload
from ollama_proxy.net.http1.exchange import Headers
from ollama_proxy.net.http1.fetch import FetchError, fetch
from tests.unit.net.test_http1 import REQUEST, Gathered, ask, until

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"


def talk_to(talk: Talk, scene: Callable[[OriginPool], Awaitable[None]], connect_timeout_s: float = 5.0) -> None:
    """Run a scene against a server whose n-th connection (from 1) talks as told, then closes."""

    async def run() -> None:
        count = 0

        async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            count += 1
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await talk(reader, writer, count)
            writer.close()

        server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
        pool = OriginPool(Origin(*server.sockets[0].getsockname()), connect_timeout_s=connect_timeout_s)
        try:
            async with asyncio.timeout(10):
                await scene(pool)
        finally:
            pool.close()
            server.close()
            async with asyncio.timeout(5):
                await until(lambda: pool.open == 0)

    uvloop.run(run())


async def outcome(sink: Gathered, limit_s: float = 5.0) -> tuple[int, bytes, list[str | FailureKind]]:
    """What a sink heard, once it is over."""
    async with asyncio.timeout(limit_s):
        await sink.over.wait()
    return sink.status, sink.body, sink.ends


async def ask_once(pool: OriginPool) -> tuple[int, bytes, list[str | FailureKind]]:
    sink = Gathered()
    pool.send(REQUEST, sink)
    return await outcome(sink)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\nxyz",
        b"HTTP/1.1 200 OK\r\n" + b"X: %b\r\n" % (b"y" * 1000) * 80 + b"\r\n",
        b"<html>not HTTP at all</html>",
    ],
)
def test_an_answer_in_doubt_is_garbage_and_the_connection_gone(answer: bytes) -> None:
    async def scene(pool: OriginPool) -> None:
        assert await ask_once(pool) == (0, b"", [FailureKind.GARBAGE])
        await until(lambda: pool.open == 0)

    ask([answer], scene, close=False)


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (ANSWER, 1),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx", 1),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", 0),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", 0),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + ANSWER, 1),
    ],
)
def test_only_what_may_be_used_again_is_kept(answer: bytes, kept: int) -> None:
    async def scene(pool: OriginPool) -> None:
        assert await ask_once(pool) == (200, b"x", ["complete"])
        assert pool.idle == kept
        await until(lambda: pool.open == kept)

    ask([answer], scene, close=False)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_an_answer_without_body_is_complete_whatever_length_it_names(status: bytes) -> None:
    async def scene(pool: OriginPool) -> None:
        code = int(status[:3])
        assert await ask_once(pool) == (code, b"", ["complete"])

    ask([b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\n"], scene, close=False)


def test_the_youngest_connection_is_used_first_and_the_pool_grows_only_by_need() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while await reader.read(65536):
            writer.write(ANSWER)

    async def scene(pool: OriginPool) -> None:
        await asyncio.gather(*(fetch(pool, REQUEST, 5) for _ in range(20)))
        assert (pool.open, pool.idle) == (20, 20)
        for _ in range(20):
            await asyncio.gather(*(fetch(pool, REQUEST, 5) for _ in range(20)))
        assert (pool.open, pool.idle) == (20, 20)

    talk_to(talk, scene)


def test_a_fresh_connection_that_closes_is_not_asked_again() -> None:
    connections: list[int] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        connections.append(number)
        await reader.read(65536)

    async def scene(pool: OriginPool) -> None:
        assert await ask_once(pool) == (0, b"", [FailureKind.RESET])
        assert connections == [1]

    talk_to(talk, scene)


def test_a_server_that_closes_on_arrival_is_heard_of_once_by_everyone() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        if number % 3 == 0:
            writer.transport.abort()
        elif number % 3 == 1:
            writer.write(b"HTTP/1.1 503 Full\r\nContent-Length: 0\r\n\r\n")

    async def scene(pool: OriginPool) -> None:
        sinks = [Gathered() for _ in range(60)]
        for sink in sinks:
            pool.send(REQUEST, sink)
        for sink in sinks:
            await outcome(sink)
        await until(lambda: pool.open == 0)
        assert [len(sink.ends) for sink in sinks] == [1] * 60

    talk_to(talk, scene)


class Aborter(Gathered):
    """Aborts its own request from inside one of its callbacks."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where
        self.upload: Upload | None = None
        self.heard: list[str] = []

    def on_response(self, status: int, headers: Headers) -> None:
        self._hear("head")

    def on_body(self, data: bytes) -> None:
        self._hear("body")

    def _hear(self, what: str) -> None:
        self.heard.append(what)
        if what == self.where:
            assert self.upload is not None
            self.upload.abort()


@pytest.mark.parametrize(("where", "heard"), [("head", ["head"]), ("body", ["head", "body"])])
def test_an_abort_from_inside_a_callback_is_the_last_word(where: str, heard: list[str]) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await reader.read(65536)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n")
        await reader.read(65536)

    async def scene(pool: OriginPool) -> None:
        sink = Aborter(where)
        sink.upload = pool.send(REQUEST, sink)
        await until(lambda: sink.heard and pool.open == 0)
        assert (sink.heard, sink.ends, pool.idle) == (heard, [], 0)

    talk_to(talk, scene)


def test_a_paused_answer_waits_and_its_connection_reads_again_for_the_next() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while await reader.read(65536):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n")
            writer.write(b"x" * 5_000_000)
            await writer.drain()

    async def scene(pool: OriginPool) -> None:
        sink = Gathered()
        upload = pool.send(REQUEST, sink)
        upload.pause()
        await until(lambda: upload.connected)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert (sink.status, sink.body) == (0, b"")
        upload.resume()
        await until(lambda: sink.body)
        upload.pause()
        upload.pause()
        held = len(sink.body)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert len(sink.body) == held
        upload.resume()
        upload.resume()
        assert len((await outcome(sink))[1]) == 5_000_000
        upload.pause()  # of no effect: the connection is the pool's again
        assert len((await ask_once(pool))[1]) == 5_000_000
        assert (pool.open, pool.idle) == (1, 1)

    talk_to(talk, scene)


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


def test_a_server_that_takes_no_connection_is_a_timeout() -> None:
    listener, waiting = full_backlog()

    async def run() -> None:
        pool = OriginPool(Origin(*listener.getsockname()), connect_timeout_s=0.05)
        assert (await ask_once(pool))[2] == [FailureKind.TIMEOUT]
        assert pool.open == 0

    uvloop.run(run())
    for one in (listener, *waiting):
        one.close()


def test_an_abort_while_connecting_is_silent() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while await reader.read(65536):
            writer.write(ANSWER)

    async def scene(pool: OriginPool) -> None:
        sink = Gathered()
        pool.send(REQUEST, sink).abort()
        assert await ask_once(pool) == (200, b"x", ["complete"])
        assert (sink.status, sink.ends) == (0, [])
        await until(lambda: pool.open == pool.idle)

    talk_to(talk, scene)


def test_no_descriptor_is_left_after_many_mixed_requests() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while await reader.read(65536):
            match number % 5:
                case 0:
                    return
                case 1:
                    writer.write(b"RUBBISH\r\n\r\n")
                case 2:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
                    return
                case 3:
                    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nx")
                    return
                case _:
                    writer.write(ANSWER)

    async def scene(pool: OriginPool) -> None:
        await ask_once(pool)
        await until(lambda: pool.open == pool.idle)
        before = len(os.listdir("/proc/self/fd"))
        for number in range(200):
            sink = Gathered()
            upload = pool.send(REQUEST, sink)
            if number % 7 == 0:
                upload.abort()
            else:
                await outcome(sink)
        pool.close()
        await until(lambda: pool.open == 0)
        for _ in range(100):
            await asyncio.sleep(0)
        # The server's side of the last connection may still be closing.
        assert len(os.listdir("/proc/self/fd")) <= before + 1

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("descriptors are counted through /proc")
    talk_to(talk, scene)


def test_a_fetch_that_takes_too_long_is_a_timeout_and_leaves_nothing() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
        while await reader.read(65536):
            pass

    async def scene(pool: OriginPool) -> None:
        with pytest.raises(FetchError) as caught:
            await fetch(pool, REQUEST, 0.05)
        assert caught.value.failure.kind is FailureKind.TIMEOUT
        await until(lambda: pool.open == 0)

    talk_to(talk, scene)


# -- what it once got wrong ----------------------------------------------------------

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
            assert await outcome(sink, 0.5) == (0, b"", [FailureKind.GARBAGE])
        finally:
            upload.abort()

    talk_to(talk, scene)


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".invalid"])
def test_a_name_that_cannot_be_one_is_unreachable(host: str) -> None:
    async def run() -> None:
        sink = Gathered()
        OriginPool(Origin(host, 80)).send(REQUEST, sink)
        assert (await outcome(sink, 0.5))[2] == [FailureKind.UNREACHABLE]

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

"""The HTTP/1.1 client over real sockets: answers, the pool, pausing, leaving."""

from __future__ import annotations

import asyncio
import os

import pytest
import uvloop

from ollama_proxy.domain.errors import FailureKind
from ollama_proxy.net.http1.client import Origin, OriginPool, Upload
from ollama_proxy.net.http1.exchange import Headers
from ollama_proxy.net.http1.fetch import FetchError, fetch
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


@pytest.mark.parametrize("size", [1, 10_000])
@pytest.mark.parametrize(
    ("answer", "status", "body", "end"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", "complete"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n", 200, b"hi", "complete"),
        (b"HTTP/1.1 200 OK\r\n\r\nhi", 200, b"hi", "complete"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", "complete"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b"", "complete"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", 200, b"hi", FailureKind.CUT),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhi", 200, b"hi", FailureKind.CUT),
        (b"HTTP/1.1 200", 0, b"", FailureKind.RESET),
        (b"RUBBISH\r\n\r\n", 0, b"", FailureKind.GARBAGE),
        (b"", 0, b"", FailureKind.RESET),
    ],
)
def test_an_answer_means_the_same_however_it_comes(
    answer: bytes, status: int, body: bytes, end: str | FailureKind, size: int
) -> None:
    async def scene(pool: OriginPool) -> None:
        sink = Gathered()
        pool.send(REQUEST, sink)
        await sink.over.wait()
        assert (sink.status, sink.body, sink.ends) == (status, body, [end])

    ask([answer], scene, size)


def test_connections_are_used_again() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"

    async def scene(pool: OriginPool) -> None:
        for _ in range(50):
            assert bytes((await fetch(pool, REQUEST, 5)).body) == b"x"
        assert (pool.open, pool.idle) == (1, 1)

    ask([answer] * 50, scene, close=False)


def test_a_connection_closed_while_idle_is_replaced_without_a_word() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"

    async def scene(pool: OriginPool) -> None:
        for _ in range(5):
            assert (await fetch(pool, REQUEST, 5)).status == 200

    ask([answer] * 5, scene)


@pytest.mark.parametrize("may_resend", [True, False])
def test_what_a_connection_loses_is_sent_again_where_that_may_be(may_resend: bool) -> None:
    asked = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        nonlocal asked
        while await reader.read(65536):
            asked += 1
            if asked == 2:
                writer.transport.abort()
                return
            writer.write(ANSWER)

    class Asked(Upload):
        def may_resend(self) -> bool:
            return may_resend

    async def scene(pool: OriginPool) -> None:
        assert await ask_once(pool) == (200, b"x", ["complete"])
        sink = Gathered()
        pool.start(Asked(REQUEST, sink))
        await sink.over.wait()
        assert (sink.ends, asked) == ((["complete"], 3) if may_resend else ([FailureKind.RESET], 2))

    talk_to(talk, scene)


def test_bytes_after_the_answer_are_never_the_next_one() -> None:
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\ny"

    async def scene(pool: OriginPool) -> None:
        assert bytes((await fetch(pool, REQUEST, 5)).body) == b"x"
        await asyncio.sleep(0.05)
        assert bytes((await fetch(pool, REQUEST, 5)).body) == b"y"

    ask([evil, good], scene, close=False)


@pytest.mark.parametrize("after", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi"])
def test_an_aborted_request_hears_nothing_and_leaves_no_connection(after: bytes) -> None:
    async def run() -> None:
        gone = asyncio.Event()

        async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(65536)
            writer.write(after)
            while await _read_quietly(reader):
                pass
            gone.set()
            writer.close()

        server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
        pool = OriginPool(Origin(*server.sockets[0].getsockname()))
        sink = Gathered()
        upload = pool.send(REQUEST, sink)
        await asyncio.sleep(0.05)
        upload.abort()
        async with asyncio.timeout(30):
            await gone.wait()
        assert sink.ends == []
        assert (pool.open, pool.idle) == (0, 0)
        server.close()

    uvloop.run(run())


async def _read_quietly(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(65536)
    except ConnectionResetError:
        return b""


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


def test_connections_that_nobody_uses_are_closed() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while await reader.read(65536):
            writer.write(ANSWER)

    async def scene(shared: OriginPool) -> None:
        pool = OriginPool(shared.origin, idle_s=0.2)
        sinks = [Gathered() for _ in range(3)]
        for sink in sinks:
            pool.send(REQUEST, sink)
        for sink in sinks:
            await sink.over.wait()
        assert (pool.open, pool.idle) == (3, 3)
        await until(lambda: pool.open == 0)
        again = Gathered()
        pool.send(REQUEST, again)
        await again.over.wait()
        assert again.ends == ["complete"]
        pool.close()

    talk_to(talk, scene)

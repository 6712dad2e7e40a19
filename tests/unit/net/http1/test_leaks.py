"""Nothing is left behind: many requests and streams through a relay of our server and our pool, then a look around."""

from __future__ import annotations

import asyncio
import gc
import os
from dataclasses import dataclass, field

import psutil
import pytest
import uvloop

from ollama_proxy.domain.errors import Failure
from ollama_proxy.net.http1.client import Origin, OriginPool, Upload
from ollama_proxy.net.http1.connection import HttpConnection
from ollama_proxy.net.http1.exchange import Exchange, Headers
from ollama_proxy.net.http1.server import HttpServer
from tests.support.http1 import refuse

POST = b"POST /%b HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000
CHUNKS = 10


class Relay:
    """One request passed on, as the fast lane does."""

    def __init__(self, exchange: Exchange, pool: OriginPool) -> None:
        self.exchange = exchange
        request = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
        self.upload = pool.send(request % (exchange.path, len(exchange.body), exchange.body), self)
        exchange.on_disconnect = self.upload.abort
        exchange.on_pause = self.upload.pause
        exchange.on_resume = self.upload.resume

    def on_response(self, status: int, headers: Headers) -> None:
        index = dict(headers)
        length = int(index[b"content-length"]) if b"content-length" in index else None
        self.exchange.start(status, index.get(b"content-type", b""), length)

    def on_body(self, data: bytes) -> None:
        self.exchange.write(data)

    def on_complete(self) -> None:
        self.exchange.end()

    def on_error(self, failure: Failure) -> None:
        if self.exchange.started:
            self.exchange.abort()
        else:
            refuse(self.exchange, 502, failure.message)


def answer(exchange: Exchange) -> None:
    """The origin: one piece, or ten pieces over as many turns of the loop, or an end in the middle."""
    if exchange.path == b"/unary":
        exchange.respond(200, b"application/json", b"y" * 700)
        return
    exchange.start(200, b"application/x-ndjson")
    _stream(exchange, 0)


def _stream(exchange: Exchange, sent: int) -> None:
    if exchange.gone or exchange.ended:
        return
    if exchange.path == b"/cut" and sent == CHUNKS // 2:
        exchange.abort()
    elif sent == CHUNKS:
        exchange.end()
    else:
        exchange.write(b'{"response":"token"}\n')
        asyncio.get_running_loop().call_soon(_stream, exchange, sent + 1)


@dataclass
class Caller:
    """One of many clients: asks again as soon as it has its answer, until its share is done."""

    pool: OriginPool
    left: int
    path: bytes
    leave_early: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)
    wrong: int = 0
    upload: Upload | None = None
    _body_bytes: int = 0

    def go(self) -> None:
        self._body_bytes = 0
        if self.left == 0:
            self.done.set()
            return
        self.left -= 1
        self.upload = self.pool.send(POST % self.path, self)

    def on_response(self, status: int, headers: Headers) -> None:
        self.wrong += status != 200

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self.leave_early and self.upload is not None:
            self.upload.abort()
            asyncio.get_running_loop().call_soon(self.go)

    def on_complete(self) -> None:
        expected = 700 if self.path == b"unary" else 21 * CHUNKS
        self.wrong += self._body_bytes != expected
        asyncio.get_running_loop().call_soon(self.go)

    def on_error(self, failure: Failure) -> None:
        self.wrong += self.path != b"cut"
        asyncio.get_running_loop().call_soon(self.go)


@dataclass(frozen=True)
class Look:
    """What there is to leak."""

    descriptors: int
    tasks: int
    rss_bytes: int


def look() -> Look:
    gc.collect()
    process = psutil.Process()
    return Look(len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks()), process.memory_info().rss)


async def call(pool: OriginPool, path: bytes, count: int, callers: int, *, leave_early: bool = False) -> None:
    """So many requests by so many callers at once; every answer must be right."""
    group = [Caller(pool, count // callers, path, leave_early) for _ in range(callers)]
    for caller in group:
        caller.go()
    for caller in group:
        await caller.done.wait()
    assert sum(caller.wrong for caller in group) == 0


async def run_all(pool: OriginPool, requests: int, streams: int) -> None:
    await call(pool, b"unary", requests, 50)
    await call(pool, b"stream", streams, 100)
    await call(pool, b"cut", streams // 10, 20)
    await call(pool, b"stream", streams // 10, 20, leave_early=True)


async def scene(requests: int, streams: int, growth_bytes: int) -> None:
    loop = asyncio.get_running_loop()
    origin = HttpServer(answer, refuse)
    below = await loop.create_server(origin.protocol_factory, "127.0.0.1", 0)
    upstream = OriginPool(Origin(*below.sockets[0].getsockname()))
    front = HttpServer(lambda exchange: Relay(exchange, upstream) and None, refuse)
    above = await loop.create_server(front.protocol_factory, "127.0.0.1", 0, backlog=512)
    pool = OriginPool(Origin(*above.sockets[0].getsockname()))

    async def settle() -> None:
        pool.close()
        upstream.close()
        while pool.open or upstream.open or front.connections or origin.connections:  # noqa: ASYNC110
            await asyncio.sleep(0)

    await run_all(pool, 2000, 1000)  # whatever is made once is made now
    await settle()
    before = look()
    await run_all(pool, requests, streams)
    await settle()
    after = look()
    assert (pool.open, pool.idle, upstream.open, upstream.idle) == (0, 0, 0, 0)
    assert (after.descriptors, after.tasks) == (before.descriptors, before.tasks)
    assert after.rss_bytes - before.rss_bytes < growth_bytes
    above.close()
    below.close()


pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted through /proc")


def test_thousands_of_requests_and_streams_leave_nothing() -> None:
    uvloop.run(scene(10_000, 2_000, 4 << 20))


async def connect_and_leave(sent: bytes, count: int) -> None:
    """Clients that send something and go, one after the other."""
    server = HttpServer(answer, refuse)
    port = await asyncio.get_running_loop().create_server(server.protocol_factory, "127.0.0.1", 0)
    for _ in range(count):
        reader, writer = await asyncio.open_connection(*port.sockets[0].getsockname())
        writer.write(sent)
        if sent == POST % b"unary":
            await reader.readuntil(b"y" * 700)
        writer.close()
        await writer.wait_closed()
    while server.connections:  # noqa: ASYNC110
        await asyncio.sleep(0)
    port.close()


@pytest.mark.parametrize("sent", [POST % b"unary", POST[:-1] % b"unary", b"POST / HTTP/1.1\r\nHo", b"rubbish\r\n\r\n"])
def test_a_connection_that_is_gone_leaves_nothing_to_the_collector(sent: bytes) -> None:
    gc.collect()
    gc.disable()
    try:
        uvloop.run(connect_and_leave(sent, 5))
        left = [one for one in gc.get_objects() if isinstance(one, HttpConnection)]
    finally:
        gc.enable()
    assert not left


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_million_requests_and_ten_thousand_streams_leave_nothing() -> None:
    uvloop.run(scene(1_000_000, 10_000, 4 << 20))

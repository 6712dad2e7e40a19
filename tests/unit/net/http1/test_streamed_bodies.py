"""Requests that are handed out at their head: the body comes as it comes, and the connection stays sound."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

import pytest

from ollama_proxy.net.draining import drain
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http1.limits import HttpLimits
from ollama_proxy.net.http1.server import HttpServer
from ollama_proxy.net.task import spawn
from tests.support.http1 import Client, Reader, Writer, echo, quiet, read_answers, serve, until

GET = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
_HEAD = b"POST /stream HTTP/1.1\r\nHost: x\r\n"
_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def with_length(size: int, more: bytes = b"") -> bytes:
    return _HEAD + more + b"Content-Length: %d\r\n\r\n" % size


class Taker:
    """Takes a body and answers with how much it was, and its hash."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.hash = hashlib.sha256()
        self.taken = 0
        self.whole = self.left = False
        exchange.on_disconnect = self._leave

    def _leave(self) -> None:
        self.left = True

    def on_body(self, data: bytes) -> None:
        assert not self.whole
        self.taken += len(data)
        self.hash.update(data)

    def on_body_end(self) -> None:
        assert not self.whole
        self.whole = True
        self.exchange.respond(200, b"text/plain", b"%d %b" % (self.taken, self.hash.hexdigest().encode()))


class Scene:
    """What the handler of `/stream` was given, in order."""

    def __init__(self, begin: Callable[[Taker], None] | None = None) -> None:
        self.takers: list[Taker] = []
        self._begin = begin or (lambda taker: taker.exchange.take_body(taker))

    def handle(self, exchange: Exchange) -> None:
        if exchange.path != b"/stream":
            echo(exchange)
            return
        taker = Taker(exchange)
        self.takers.append(taker)
        self._begin(taker)


def run(client: Client, scene: Scene, limits: HttpLimits | None = None) -> None:
    serve(client, scene.handle, limits, lambda method, path: path == b"/stream")


def told(body: bytes) -> tuple[int, bytes]:
    return 200, b"%d %b" % (len(body), hashlib.sha256(body).hexdigest().encode())


def chunks(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("size", [0, 1, 1000, 200_000])
@pytest.mark.parametrize("cut", [1, 37, 65536])
def test_bodies_of_both_framings_arrive_and_the_next_request_is_read(size: int, cut: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    if cut == 1:
        body = body[:1000]
    scene = Scene()

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        data = with_length(len(body)) + body + GET + _CHUNKED + chunks(body, 700) + GET
        for at in range(0, len(data), cut):
            writer.write(data[at : at + cut])
            if cut < 1000:
                await asyncio.sleep(0)
        answers = await read_answers(reader, 4)
        assert answers == [told(body), (200, b"GET /next "), told(body), (200, b"GET /next ")]

    run(client, scene)


def test_the_handler_has_the_head_before_the_body_is_there() -> None:
    scene = Scene()

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(with_length(10) + b"abc")
        await until(lambda: scene.takers and scene.takers[0].taken == 3)
        assert scene.takers[0].exchange.body_bytes == 10
        writer.write(b"defghij")
        assert await read_answers(reader, 1) == [told(b"abcdefghij")]

    run(client, scene)


def test_no_limit_of_size_holds_for_what_streams_and_it_does_for_the_rest() -> None:
    body = bytes(300_000)
    scene = Scene()

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(with_length(len(body)) + body + _CHUNKED + chunks(body, 50_000))
        assert await read_answers(reader, 2) == [told(body)] * 2
        writer.write(b"POST /other HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n")
        assert (await read_answers(reader, 1))[0][0] == 413

    run(client, scene, HttpLimits(body_bytes=1000))


def test_a_handler_that_pauses_holds_the_client_back() -> None:
    scene = Scene()

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        size = 30_000_000
        sending = spawn(send_all(writer, with_length(size), bytes(1_000_000), size), "send")
        await until(lambda: scene.takers and scene.takers[0].taken > 0)
        taker = scene.takers[0]
        taker.exchange.pause_body()
        await quiet()
        seen = taker.taken
        await quiet()
        assert taker.taken == seen
        assert seen < size
        assert not sending.done()
        (connection,) = server.connections
        assert connection._reader.held_bytes < 1_000_000
        taker.exchange.resume_body()
        assert await read_answers(reader, 1) == [told(bytes(size))]
        await sending

    run(client, scene)


async def send_all(writer: Writer, head: bytes, piece: bytes, size: int) -> None:
    writer.write(head)
    for _ in range(size // len(piece)):
        writer.write(piece)
        await writer.drain()


def test_a_pause_in_each_callback_loses_nothing() -> None:
    class Hesitant(Taker):
        def on_body(self, data: bytes) -> None:
            super().on_body(data)
            self.exchange.pause_body()
            asyncio.get_running_loop().call_later(0.001, self.exchange.resume_body)

    def begin(taker: Taker) -> None:
        hesitant = Hesitant(taker.exchange)
        taker.exchange.take_body(hesitant)

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        body = bytes(3_000_000)
        writer.write(with_length(len(body)) + body + GET)
        assert await read_answers(reader, 2) == [told(body), (200, b"GET /next ")]

    run(client, Scene(begin))


def test_100_continue_is_said_only_when_the_handler_takes_the_body() -> None:
    scene = Scene(lambda taker: None)

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(with_length(4, b"Expect: 100-continue\r\n"))
        await until(lambda: scene.takers)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)
        scene.takers[0].exchange.take_body(scene.takers[0])
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"body" + GET)
        assert await read_answers(reader, 2) == [told(b"body"), (200, b"GET /next ")]

    run(client, scene)


def test_a_final_answer_instead_of_100_closes_for_nobody_knows_whether_a_body_follows() -> None:
    scene = Scene(lambda taker: taker.exchange.respond(200, b"text/plain", b"have it"))

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(with_length(4, b"Expect: 100-continue\r\n"))
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nConnection: close\r\n" in answer
        assert answer.endswith(b"have it")
        assert b"100 Continue" not in answer

    run(client, scene)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_early_answer_reaches_a_client_that_sends_all_before_it_reads(framing: str) -> None:
    scene = Scene(lambda taker: taker.exchange.respond(200, b"text/plain", b"have it"))
    size = 40_000_000

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        piece = bytes(1_000_000)
        if framing == "length":
            await send_all(writer, with_length(size), piece, size)
        else:
            await send_all(writer, _CHUNKED, b"f4240\r\n%b\r\n" % piece, 40 * (size // 40 + 9))
            writer.write(b"0\r\n\r\n")
        writer.write(GET)
        assert await read_answers(reader, 2) == [(200, b"have it"), (200, b"GET /next ")]

    run(client, scene)


def test_an_answer_in_the_middle_of_the_body_leaves_the_connection_sound() -> None:
    class Impatient(Taker):
        def on_body(self, data: bytes) -> None:
            self.exchange.respond(400, b"text/plain", b"no more")

    scene = Scene(lambda taker: taker.exchange.take_body(Impatient(taker.exchange)))

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        for _ in range(3):
            writer.write(with_length(100_000) + bytes(10))
            assert await read_answers(reader, 1) == [(400, b"no more")]
            writer.write(bytes(99_990) + GET)
            assert await read_answers(reader, 1) == [(200, b"GET /next ")]

    run(client, scene)


def test_an_answer_with_the_last_byte_drops_nothing_of_the_next_request() -> None:
    class AtTheEnd(Taker):
        def on_body(self, data: bytes) -> None:
            super().on_body(data)
            if self.taken == 10:
                self.exchange.respond(200, b"text/plain", b"early")

        def on_body_end(self) -> None:
            raise AssertionError("answered before")

    scene = Scene(lambda taker: taker.exchange.take_body(AtTheEnd(taker.exchange)))

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(with_length(10) + b"12345")
        await until(lambda: scene.takers)
        writer.write(b"67890" + b"POST /next HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
        assert await read_answers(reader, 2) == [(200, b"early"), (200, b"POST /next abc")]

    run(client, scene)


def test_a_client_that_leaves_in_mid_body_is_told_to_the_handler() -> None:
    scene = Scene()

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(with_length(100) + b"half")
        await until(lambda: scene.takers and scene.takers[0].taken)
        writer.close()
        await until(lambda: scene.takers[0].left)
        assert not scene.takers[0].whole

    run(client, scene)


def test_a_body_that_breaks_its_framing_is_refused_and_told_as_a_client_that_left() -> None:
    scene = Scene()

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(_CHUNKED + b"3\r\nabc\r\nnonsense\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        assert scene.takers[0].left
        assert not scene.takers[0].whole

    run(client, scene)


def sweep(server: HttpServer, later_s: float) -> None:
    server.sweep(asyncio.get_running_loop().time() + later_s)


def test_silence_and_dripping_end_a_body_that_is_waited_for() -> None:
    limits = HttpLimits(body_idle_s=30, body_rate_window_s=10, body_min_bytes_per_s=240)

    async def silent(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(with_length(100) + b"half")
        await until(lambda: scene.takers and scene.takers[0].taken)
        sweep(server, 29)
        assert not scene.takers[0].left
        sweep(server, 31)
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        assert scene.takers[0].left

    scene = Scene()
    run(silent, scene, limits)

    async def dripping(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(with_length(100_000) + b"h")
        await until(lambda: scene.takers and scene.takers[0].taken == 1)
        sweep(server, 0)
        writer.write(b"alf")
        await until(lambda: scene.takers[0].taken == 4)
        sweep(server, 11)
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        assert scene.takers[0].left

    scene = Scene()
    run(dripping, scene, limits)


def test_nobody_is_blamed_for_a_body_that_we_do_not_take() -> None:
    scene = Scene(lambda taker: None)

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(with_length(8) + b"half")
        await until(lambda: scene.takers)
        sweep(server, 1000)
        taker = scene.takers[0]
        taker.exchange.take_body(taker)
        await until(lambda: taker.taken == 4)
        taker.exchange.pause_body()
        sweep(server, 1000)
        taker.exchange.resume_body()
        writer.write(b"more")
        assert await read_answers(reader, 1) == [told(b"halfmore")]

    run(client, scene)


def test_a_body_that_is_dropped_may_not_drip_for_ever_either() -> None:
    scene = Scene(lambda taker: taker.exchange.respond(200, b"text/plain", b"have it"))

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(with_length(1_000_000) + b"begin")
        assert await read_answers(reader, 1) == [(200, b"have it")]
        sweep(server, 31)
        assert await reader.read() == b""

    run(client, scene)


def test_draining_waits_for_a_body_under_way() -> None:
    scene = Scene()

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(with_length(8) + b"half")
        await until(lambda: scene.takers and scene.takers[0].taken)
        draining = spawn(drain(server, 5.0), "drain")
        await asyncio.sleep(0.01)
        writer.write(b"more")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Connection: close" in answer
        await draining

    run(client, scene)


def test_a_handler_that_fails_in_mid_body_is_a_500_and_the_connection_goes_on() -> None:
    class Faulty(Taker):
        def on_body(self, data: bytes) -> None:
            raise RuntimeError("bug")

    faulty: list[Faulty] = []

    def begin(taker: Taker) -> None:
        faulty.append(Faulty(taker.exchange))
        taker.exchange.take_body(faulty[0])

    scene = Scene(begin)

    async def client(reader: Reader, writer: Writer, server: HttpServer) -> None:
        writer.write(with_length(8) + b"half")
        assert await read_answers(reader, 1) == [(500, b"internal error")]
        assert faulty[0].left
        writer.write(b"more" + GET)
        assert await read_answers(reader, 1) == [(200, b"GET /next ")]

    run(client, scene)

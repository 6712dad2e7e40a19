"""HTTP/2 requests that are handed out at their head: the window opens only as the handler takes the body."""

from __future__ import annotations

from collections.abc import Callable

from ollama_proxy.net.http2.connection import Connection
from ollama_proxy.net.http2.exchange import Http2Exchange, HttpService
from ollama_proxy.net.http2.head import RequestHead
from ollama_proxy.net.http2.limits import Http2Limits
from tests.h2.core import Core
from tests.h2.frames import (
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    HEADERS,
    NO_ERROR,
    RST_STREAM,
    WINDOW_UPDATE,
    Frame,
    frame,
    headers,
    request_block,
    reset,
)

_WINDOW = 40_000
_LIMITS = Http2Limits(stream_window_bytes=_WINDOW, body_idle_s=30)


class Taker:
    def __init__(self, exchange: Http2Exchange) -> None:
        self.exchange = exchange
        self.body = b""
        self.whole = self.left = False
        exchange.on_disconnect = self._leave

    def _leave(self) -> None:
        self.left = True

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_body_end(self) -> None:
        assert not self.whole
        self.whole = True
        self.exchange.respond(200, b"text/plain", b"%d" % len(self.body))


class Scene:
    """A core whose `/stream` takes bodies of any size as they come; others may hold ten bytes."""

    def __init__(self, begin: Callable[[Taker], None] | None = None) -> None:
        self.takers: list[Taker] = []
        self._begin = begin or (lambda taker: taker.exchange.take_body(taker))
        self.core = Core(_LIMITS, self._make)

    def _make(self, connection: Connection, stream_id: int, head: RequestHead) -> Http2Exchange:
        service = HttpService(self._handle, self._refuse, 10, lambda method, path: path == b"/stream")
        return Http2Exchange(connection, stream_id, head, service)

    def _handle(self, exchange: Http2Exchange) -> None:
        if exchange.path != b"/stream":
            exchange.respond(200, b"text/plain", exchange.body)
            return
        self.takers.append(Taker(exchange))
        self._begin(self.takers[-1])

    def _refuse(self, exchange: Http2Exchange, status: int, message: str) -> None:
        exchange.respond(status, b"text/plain", message.encode())

    def open(self, *extra: tuple[bytes, bytes], stream_id: int = 1) -> list[Frame]:
        return self.core.exchange(headers(stream_id, request_block(b"/stream", b"POST", extra), END_HEADERS))

    def send(self, size: int, *, ended: bool = False) -> list[Frame]:
        """DATA on stream 1; what was said of that stream."""
        found = []
        while size > 0:
            step = min(size, 10_000)
            size -= step
            flags = END_STREAM if ended and not size else 0
            found += [one for one in self.core.exchange(frame(DATA, flags, 1, bytes(step))) if one.stream_id]
        return found


def credit(frames: list[Frame]) -> int:
    return sum(int.from_bytes(one.payload, "big") for one in frames if one.kind == WINDOW_UPDATE and one.stream_id)


def test_the_body_comes_as_it_comes_and_of_any_size() -> None:
    scene = Scene()
    scene.open()
    assert scene.takers
    assert credit(scene.send(35_000)) >= 20_000
    assert len(scene.takers[0].body) == 35_000
    scene.send(10_000)
    sent = scene.send(5_000, ended=True)
    assert b"50000" in b"".join(one.payload for one in sent)
    assert not scene.core.connection.streams


def test_the_window_stays_shut_until_the_handler_takes_the_body() -> None:
    scene = Scene(lambda taker: None)
    scene.open()
    assert credit(scene.send(_WINDOW)) == 0
    assert scene.takers[0].body == b""
    scene.takers[0].exchange.take_body(scene.takers[0])
    assert len(scene.takers[0].body) == _WINDOW
    assert credit(scene.core.take()) == _WINDOW


def test_a_client_that_sends_past_a_shut_window_is_at_fault() -> None:
    scene = Scene(lambda taker: None)
    scene.open()
    sent = scene.send(_WINDOW + 1)
    assert [(one.kind, one.code) for one in sent] == [(RST_STREAM, FLOW_CONTROL_ERROR)]
    assert scene.takers[0].left


def test_a_pause_shuts_the_window_and_holds_what_comes() -> None:
    scene = Scene()
    scene.open()
    scene.send(1000)
    taker = scene.takers[0]
    taker.exchange.pause_body()
    assert credit(scene.send(_WINDOW - 1000)) == 0
    assert len(taker.body) == 1000
    taker.exchange.resume_body()
    assert len(taker.body) == _WINDOW
    assert credit(scene.core.take()) == _WINDOW
    scene.send(1, ended=True)
    assert taker.whole


def test_a_body_that_ended_while_paused_ends_when_it_goes_on() -> None:
    scene = Scene()
    scene.open()
    taker = scene.takers[0]
    taker.exchange.pause_body()
    scene.send(100, ended=True)
    assert not taker.whole
    taker.exchange.resume_body()
    assert taker.whole
    assert not scene.core.connection.streams


def test_100_is_said_when_the_handler_takes_the_body() -> None:
    scene = Scene(lambda taker: None)
    assert [one for one in scene.open((b"expect", b"100-continue")) if one.kind == HEADERS] == []
    scene.takers[0].exchange.take_body(scene.takers[0])
    (said,) = scene.core.take()
    assert said.kind == HEADERS
    assert b"100" in said.payload
    assert not said.flags & END_STREAM


def test_the_rest_behind_an_early_answer_is_read_past_however_long_it_is() -> None:
    scene = Scene(lambda taker: None)
    scene.open()
    scene.send(30_000)
    scene.takers[0].exchange.respond(200, b"text/plain", b"have it")
    sent = scene.core.take()
    assert [one.kind for one in sent] == [HEADERS, DATA, DATA, WINDOW_UPDATE]
    for _ in range(20):
        assert credit(scene.send(20_000) + scene.send(10_000)) >= 20_000
    assert scene.core.pass_time(29) == []
    scene.send(1)
    assert scene.core.pass_time(29) == []
    # Nothing on the stream, for it has ended; a word on the connection, for a client that would sleep on otherwise.
    (last,) = scene.core.exchange(frame(DATA, END_STREAM, 1, bytes(10)))
    assert (last.kind, last.stream_id) == (WINDOW_UPDATE, 0)
    assert not scene.core.connection.streams
    assert b"\x88" in scene.core.exchange(headers(3, request_block(b"/")))[0].payload


def test_a_client_that_falls_silent_behind_an_early_answer_is_told() -> None:
    scene = Scene(lambda taker: taker.exchange.respond(200, b"text/plain", b"have it"))
    scene.open()
    assert [(one.kind, one.code) for one in scene.core.pass_time(31)] == [(RST_STREAM, NO_ERROR)]


def test_a_client_that_resets_is_told_to_the_handler() -> None:
    scene = Scene()
    scene.open()
    scene.send(10)
    scene.core.exchange(reset(1))
    assert scene.takers[0].left
    assert not scene.takers[0].whole


def test_silence_is_blamed_on_the_client_only_while_it_is_waited_for() -> None:
    scene = Scene(lambda taker: None)
    scene.open()
    scene.send(10)
    taker = scene.takers[0]
    for _ in range(10):
        assert scene.core.pass_time(20) == []
    taker.exchange.take_body(taker)
    scene.core.take()
    assert scene.core.pass_time(20) == []
    taker.exchange.pause_body()
    for _ in range(10):
        assert scene.core.pass_time(20) == []
    taker.exchange.resume_body()
    assert scene.core.pass_time(20) == []
    assert [(one.kind, one.code) for one in scene.core.pass_time(20)] == [(RST_STREAM, CANCEL)]
    assert taker.left


def test_a_body_that_is_whole_with_its_head_needs_no_streaming() -> None:
    scene = Scene()
    sent = scene.core.exchange(headers(1, request_block(b"/stream", b"POST"), END_HEADERS | END_STREAM))
    assert scene.takers[0].whole
    assert sent


def test_a_fault_in_mid_body_is_a_500_of_that_stream() -> None:
    class Faulty(Taker):
        def on_body(self, data: bytes) -> None:
            raise RuntimeError("bug")

    scene = Scene(lambda taker: taker.exchange.take_body(Faulty(taker.exchange)))
    scene.open()
    sent = scene.send(10)
    assert b"internal error" in b"".join(one.payload for one in sent)
    assert b"\x88" in scene.core.exchange(headers(3, request_block(b"/")))[0].payload


def test_other_routes_keep_their_limit() -> None:
    scene = Scene()
    sent = scene.core.exchange(
        headers(1, request_block(b"/other", b"POST"), END_HEADERS) + frame(DATA, 0, 1, bytes(11))
    )
    assert b"413" in sent[0].payload

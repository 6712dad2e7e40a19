"""Answers that are complete before their request: what becomes of the rest, with HTTP exchanges and with gRPC calls."""

from __future__ import annotations

import pytest

from ollama_proxy.net.http2.connection import Connection
from ollama_proxy.net.http2.exchange import Http2Exchange, HttpService
from ollama_proxy.net.http2.head import RequestHead
from ollama_proxy.net.http2.limits import Http2Limits
from tests.h2.core import Core, Recorder
from tests.h2.frames import (
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    GOAWAY,
    HEADERS,
    NO_ERROR,
    PING,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RST_STREAM,
    WINDOW_UPDATE,
    frame,
    headers,
    request_block,
    reset,
    window_update,
)

_BODY_BYTES = 100
_WINDOW = 40_000
_LIMITS = Http2Limits(streams=3, stream_window_bytes=_WINDOW, body_idle_s=30)


def make_exchange(connection: Connection, stream_id: int, head: RequestHead) -> Http2Exchange:
    def answer(exchange: Http2Exchange) -> None:
        exchange.respond(200, b"text/plain", b"%d bytes" % len(exchange.body))

    def refuse(exchange: Http2Exchange, status: int, message: str) -> None:
        exchange.respond(status, b"text/plain", message.encode())

    return Http2Exchange(connection, stream_id, head, HttpService(answer, refuse, _BODY_BYTES))


def begin(core: Core, stream_id: int = 1, *extra: tuple[bytes, bytes]) -> None:
    """A request whose body is over the limit and not at its end: answered with 413."""
    block = request_block(b"/", b"POST", extra)
    sent = core.exchange(headers(stream_id, block, END_HEADERS) + frame(DATA, 0, stream_id, bytes(_BODY_BYTES + 1)))
    assert [(one.kind, one.flags & END_STREAM) for one in sent] == [(HEADERS, 0), (DATA, 0), (DATA, 1)], sent
    assert b"413" in sent[0].payload


@pytest.fixture
def core() -> Core:
    return Core(_LIMITS, make_exchange)


def assert_serves(core: Core, stream_id: int) -> None:
    sent = core.exchange(headers(stream_id, request_block(b"/")))
    assert b"\x88" in sent[0].payload, sent


def test_a_client_that_ends_its_body_hears_nothing_more(core: Core) -> None:
    begin(core)
    assert core.exchange(frame(DATA, 0, 1, bytes(10_000))) == []
    assert core.exchange(frame(DATA, END_STREAM, 1, bytes(10_000))) == []
    assert not core.connection.streams
    assert_serves(core, 3)


def test_trailers_end_the_body_too(core: Core) -> None:
    begin(core)
    assert core.exchange(headers(1, b"\x00\x01x\x01y")) == []
    assert not core.connection.streams


def test_a_request_without_a_body_is_over_when_its_head_is_refused(core: Core) -> None:
    big = [(b"x-big", b"z" * 10_000), (b"x-big", b"z" * 10_000)]
    block = request_block(b"/", b"GET", big)
    sent = core.exchange(headers(1, block[:16_000], END_STREAM) + frame(9, END_HEADERS, 1, block[16_000:]))
    assert [one.kind for one in sent] == [HEADERS, DATA, DATA]
    assert b"431" in sent[0].payload
    assert not core.connection.streams


def test_the_rest_of_the_window_may_come_and_no_more_is_given(core: Core) -> None:
    begin(core)
    left = _WINDOW - _BODY_BYTES - 1
    while left > 10_000:
        assert [one for one in core.exchange(frame(DATA, 0, 1, bytes(10_000))) if one.stream_id] == []
        left -= 10_000
    assert [(one.kind, one.code) for one in core.exchange(frame(DATA, 0, 1, bytes(left)))] == [(RST_STREAM, NO_ERROR)]
    assert not core.connection.streams
    # What was on its way is nobody's fault.
    assert core.exchange(frame(DATA, 0, 1, bytes(100)) + frame(DATA, END_STREAM, 1)) == []


def test_more_than_the_window_is_a_fault(core: Core) -> None:
    begin(core)
    sent = [one for _ in range(4) for one in core.exchange(frame(DATA, 0, 1, bytes(12_000))) if one.stream_id]
    assert [(one.kind, one.code) for one in sent] == [(RST_STREAM, FLOW_CONTROL_ERROR)]


def test_a_silent_client_is_told_after_a_while(core: Core) -> None:
    begin(core)
    assert core.pass_time(_LIMITS.body_idle_s - 1) == []
    assert [(one.kind, one.code) for one in core.pass_time(2)] == [(RST_STREAM, NO_ERROR)]
    assert not core.connection.streams


def test_a_client_that_drips_is_told_after_the_same_while(core: Core) -> None:
    begin(core)
    sent = []
    for _ in range(int(_LIMITS.body_idle_s) + 2):
        sent += core.exchange(frame(DATA, 0, 1, b"x")) + core.pass_time(1)
    assert [(one.kind, one.code) for one in sent] == [(RST_STREAM, NO_ERROR)]


def test_such_streams_count_until_they_end(core: Core) -> None:
    for stream_id in (1, 3, 5):
        begin(core, stream_id)
    refused = core.exchange(headers(7, request_block(b"/")))
    assert [(one.kind, one.code) for one in refused] == [(RST_STREAM, REFUSED_STREAM)]
    core.exchange(frame(DATA, END_STREAM, 3))
    assert_serves(core, 9)


def test_a_client_may_reset_what_was_answered(core: Core) -> None:
    core.exchange(window_update(0, 1 << 30))
    for stream_id in range(1, 8001, 2):
        begin(core, stream_id)
        assert core.exchange(reset(stream_id)) == []
        assert not core.connection.streams


def test_empty_data_behind_the_answer_is_counted(core: Core) -> None:
    begin(core)
    sent = core.exchange(frame(DATA, 0, 1) * 1100)
    assert [(one.kind, one.code) for one in sent] == [(GOAWAY, 11)]


def test_a_body_that_is_not_what_its_length_says_is_a_fault_also_then(core: Core) -> None:
    begin(core, 1, (b"content-length", b"150"))
    assert core.exchange(frame(DATA, 0, 1, bytes(10))) == []
    sent = core.exchange(frame(DATA, END_STREAM, 1, bytes(10)))
    assert [(one.kind, one.code) for one in sent] == [(RST_STREAM, PROTOCOL_ERROR)]
    assert not core.connection.streams


def test_leaving_does_not_wait_for_them(core: Core) -> None:
    begin(core)
    core.connection.liveness.drain()
    goaway, ping = core.take()
    assert (goaway.kind, ping.kind) == (GOAWAY, PING)
    sent = core.exchange(frame(PING, 1, 0, ping.payload))
    assert [(one.kind, one.code) for one in sent] == [(GOAWAY, NO_ERROR), (RST_STREAM, NO_ERROR)]
    assert core.connection.closed


def test_an_answer_while_leaving_does_not_linger(core: Core) -> None:
    core.exchange(headers(1, request_block(b"/", b"POST"), END_HEADERS))
    core.connection.liveness.drain()
    core.exchange(frame(PING, 1, 0, core.take()[1].payload))
    assert not core.connection.closed
    sent = core.exchange(frame(DATA, 0, 1, bytes(_BODY_BYTES + 1)))
    assert (sent[-1].kind, sent[-1].code) == (RST_STREAM, NO_ERROR)
    assert core.connection.closed


def test_a_request_that_stops_half_way_is_cancelled() -> None:
    core = Core(_LIMITS, make_exchange)
    core.exchange(headers(1, request_block(b"/", b"POST"), END_HEADERS) + frame(DATA, 0, 1, b"half"))
    assert core.pass_time(_LIMITS.body_idle_s - 1) == []
    assert [(one.kind, one.code) for one in core.pass_time(2)] == [(RST_STREAM, CANCEL)]


def test_streams_that_do_not_linger_are_reset_behind_their_answer() -> None:
    core = Core(_LIMITS)
    core.exchange(headers(1, request_block(b"/", b"POST"), END_HEADERS))
    core.streams[1].send_headers(b"\x88", ended=True)
    assert [(one.kind, one.code) for one in core.take()[1:]] == [(RST_STREAM, NO_ERROR)]
    assert core.exchange(frame(DATA, 0, 1, bytes(10_000)) + frame(DATA, END_STREAM, 1)) == []
    assert isinstance(core.streams[1], Recorder)
    assert core.streams[1].body == b""


def test_a_head_behind_the_end_of_its_request_is_on_a_closed_stream_whatever_it_says() -> None:
    """RFC 9113, 5.1: before the fields are judged, and with the table in step."""
    core = Core(_LIMITS)
    core.exchange(headers(1, request_block(b"/")))
    sent = core.exchange(headers(1, b"\x40\x01x\x01y" + request_block(b"/")))
    assert [(one.kind, one.code) for one in sent] == [(RST_STREAM, 5)]
    core.exchange(headers(3, request_block(b"/") + b"\xbe"))
    assert core.streams[3].head.fields[-1] == (b"x", b"y")


def test_windows_are_given_while_a_body_is_wanted() -> None:
    core = Core(_LIMITS)
    core.exchange(headers(1, request_block(b"/", b"POST"), END_HEADERS))
    sent = core.exchange(frame(DATA, 0, 1, bytes(16_000)) * 2)
    assert [(one.kind, one.stream_id) for one in sent] == [(WINDOW_UPDATE, 1)]

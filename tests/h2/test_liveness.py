"""PINGs by the clock: who measures the line is served, who does nothing but ask is not."""

from __future__ import annotations

from tests.h2.core import Core
from tests.h2.frames import (
    CANCEL,
    DATA,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    INITIAL_WINDOW_SIZE,
    PING,
    RST_STREAM,
    frame,
    grpc_block,
    headers,
    settings,
    window_update,
)

_PING = frame(PING, 0, 0, b"\x02\x04\x10\x10\x09\x0e\x07\x07")


def open_stream(core: Core) -> None:
    core.exchange(headers(1, grpc_block(b"/a/B"), END_HEADERS))


def test_a_client_that_gives_back_each_token_s_window_may_ping_behind_it() -> None:
    """grpc-go's estimate of the bandwidth: DATA comes, WINDOW_UPDATE of the same size goes, then a PING."""
    core = Core()
    open_stream(core)
    for _ in range(1000):
        core.streams[1].send_data(b"token")
        core.exchange(window_update(1, 5))
        answer = core.exchange(window_update(0, 5) + _PING)
        assert [one.kind for one in answer] == [PING], answer
        core.now_s += 0.001


def test_pings_without_anything_between_them_end_the_connection_at_the_third_hasty_one() -> None:
    core = Core()
    open_stream(core)
    kinds = [[one.kind for one in core.exchange(_PING)] for _ in range(5)]
    assert kinds == [[PING], [PING], [PING], [GOAWAY], []]


def test_windows_alone_excuse_no_ping() -> None:
    core = Core()
    open_stream(core)
    sent = [one for _ in range(5) for one in core.exchange(window_update(0, 5) + _PING)]
    assert sent[-1].kind == GOAWAY
    assert sent[-1].code == ENHANCE_YOUR_CALM
    assert b"too_many_pings" in sent[-1].payload


def test_a_patient_client_may_ping_for_ever() -> None:
    core = Core()
    for _ in range(100):
        core.now_s += core.connection.limits.ping_every_s
        assert [one.kind for one in core.exchange(_PING)] == [PING]


def test_a_client_that_opens_its_window_bit_by_bit_must_do_so_at_some_pace() -> None:
    core = Core()
    core.exchange(settings({INITIAL_WINDOW_SIZE: 0}))
    core.exchange(headers(1, grpc_block(b"/a/B"), END_HEADERS) + headers(3, grpc_block(b"/a/B"), END_HEADERS))
    began_s = core.now_s
    for stream in core.streams.values():
        stream.send_data(bytes(60_000))
    for _ in range(30):
        sent = [(one.stream_id, len(one.payload)) for one in core.exchange(window_update(1, 1500))]
        assert sent == [(1, 1500)]
        if 3 in core.connection.streams:
            core.exchange(window_update(3, 1000))
        reset = [(one.stream_id, one.code) for one in core.pass_time(5)]
        assert reset == ([(3, CANCEL)] if core.now_s - began_s == 35 else [])
    assert core.connection.queued_bytes == 60_000 - 30 * 1500


def test_a_client_that_opens_its_window_no_more_loses_the_stream() -> None:
    core = Core()
    core.exchange(settings({INITIAL_WINDOW_SIZE: 0}))
    open_stream(core)
    core.streams[1].send_data(bytes(60))
    assert core.pass_time(1) == core.pass_time(29) == []
    assert [(one.kind, one.code) for one in core.pass_time(2)] == [(RST_STREAM, CANCEL)]
    assert core.connection.queued_bytes == 0


def test_a_body_that_drips_is_cancelled_and_one_that_flows_is_not() -> None:
    core = Core()
    core.exchange(headers(1, grpc_block(b"/a/B"), END_HEADERS) + headers(3, grpc_block(b"/a/B"), END_HEADERS))
    for _ in range(60):
        core.exchange(frame(DATA, 0, 1, b"drip") + frame(DATA, 0, 3, bytes(300)))
        if ended := [one for one in core.pass_time(1.0) if one.kind == RST_STREAM]:
            break
    assert [(one.stream_id, one.code) for one in ended] == [(1, CANCEL)]
    assert 1010 <= core.now_s <= 1015
    for _ in range(60):
        core.exchange(frame(DATA, 0, 3, bytes(300)))
        assert not [one for one in core.pass_time(1.0) if one.kind == RST_STREAM]


def test_a_body_that_nobody_takes_does_not_drip() -> None:
    core = Core()
    open_stream(core)
    for _ in range(25):
        core.exchange(frame(DATA, 0, 1, b"x"))
        core.streams[1].awaits_body = core.now_s % 8 >= 1  # asked for anew before any window is over
        assert not [one for one in core.pass_time(1.0) if one.kind == RST_STREAM]

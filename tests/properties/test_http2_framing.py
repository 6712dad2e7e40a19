"""HTTP/2 from any client: nothing but the two kinds of fault, no stream forgotten, and cuts that make no difference."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.net.http2.connection import Connection
from ollama_proxy.net.http2.frames import MAX_WINDOW
from ollama_proxy.net.http2.head import RequestHead
from ollama_proxy.net.http2.limits import Http2Limits
from tests.h2.core import Core, Recorder
from tests.h2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    request_block,
    split_frames,
)
from tests.h2.frames import settings as settings_frame
from tests.h2.hpack_blocks import blocks, broken_blocks

_LIMITS = Http2Limits(
    streams=5, stream_window_bytes=300, connection_window_bytes=70_000, credit=60, queued_bytes=100_000, list_bytes=2000
)


class Server(Recorder):
    """A stream that answers as its path says: at once, at the end of the request, with much, or never."""

    def __init__(self, connection: Connection, stream_id: int, head: RequestHead, *, lingers: bool) -> None:
        super().__init__(connection, stream_id, head)
        self.does_linger = lingers
        self.pauses = 0

    @property
    def lingers(self) -> bool:  # type: ignore[override]
        return self.does_linger

    def opened(self) -> None:
        if self.head.path == b"/early":
            self.answer(10)

    def received(self, data: bytes, *, ended: bool) -> None:
        assert not self.local_closed or self.head.path in (b"/early", b"/half"), "bytes for nobody"
        super().received(data, ended=ended)
        if self.head.path == b"/half":
            self.answer(0)
        elif ended and self.head.path != b"/never":
            self.answer(70_000 if self.head.path == b"/much" else 3)

    def answer(self, size: int) -> None:
        self.send_headers(b"\x88")
        self.send_data(bytes(size))
        self.send_trailers(b"\x88")

    def pause(self) -> None:
        self.pauses += 1

    def resume(self) -> None:
        self.pauses -= 1


_paths = st.sampled_from([b"/early", b"/half", b"/end", b"/much", b"/never"])
_lengths = st.sampled_from([(), (), (), ((b"content-length", b"5"),), ((b"content-length", b"0"),)])
_requests = st.builds(request_block, _paths, st.just(b"POST"), _lengths)
_trailers = st.sampled_from([b"", b"\x00\x01x\x01y", b"\x40\x01x\x01y", b"\xbe"])
_blocks = st.one_of(_requests, _requests, _requests, _trailers, blocks(), broken_blocks())
_ids = st.one_of(st.sampled_from([1, 3, 5, 7, 9, 11, 13]), st.integers(0, 40), st.just(MAX_WINDOW))
_numbers = st.one_of(st.sampled_from([0, 1, 2, 65_535, MAX_WINDOW]), st.integers(0, 2**32 - 1))


def _word(value: int) -> bytes:
    return value.to_bytes(4, "big")


@st.composite
def _heads(draw: Callable[..., object]) -> bytes:
    """HEADERS, whole or with one CONTINUATION, which may be missing or another's."""
    stream_id, block = draw(_ids), draw(_blocks)
    assert isinstance(stream_id, int)
    assert isinstance(block, bytes)
    flags = draw(st.sampled_from([0, END_STREAM]))
    assert isinstance(flags, int)
    if draw(st.integers(0, 5)):
        return frame(HEADERS, flags | END_HEADERS, stream_id, block)
    middle = len(block) // 2
    other = draw(st.sampled_from([stream_id, stream_id, stream_id, 1]))
    assert isinstance(other, int)
    return frame(HEADERS, flags, stream_id, block[:middle]) + frame(CONTINUATION, END_HEADERS, other, block[middle:])


_data = st.builds(
    frame,
    st.just(DATA),
    st.sampled_from([0, 0, END_STREAM, END_STREAM, PADDED, PADDED | END_STREAM]),
    _ids,
    st.one_of(st.sampled_from([b"", b"\x00", b"\x01a\x00", b"five!", bytes(200)]), st.binary(max_size=400)),
)
_odd_frames = st.builds(
    frame,
    st.one_of(
        st.sampled_from([PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION]),
        st.integers(0, 255),
    ),
    st.one_of(st.sampled_from([0, ACK, END_HEADERS, PADDED, HAS_PRIORITY]), st.integers(0, 255)),
    _ids,
    st.binary(max_size=30),
)
_right_frames = st.one_of(
    st.builds(lambda stream_id, code: frame(RST_STREAM, 0, stream_id, _word(code)), _ids, st.integers(0, 20)),
    st.builds(lambda stream_id, size: frame(WINDOW_UPDATE, 0, stream_id, _word(size)), _ids, _numbers),
    st.builds(lambda stream_id, on: frame(PRIORITY, 0, stream_id, _word(on) + b"\x00"), _ids, _ids),
    st.builds(lambda key, value: settings_frame({key: value}), st.integers(1, 7), _numbers),
    st.sampled_from([frame(PING, 0, 0, bytes(8)), frame(SETTINGS, ACK), frame(PING, ACK, 0, b"draining")]),
)
_frames = st.one_of(_heads(), _heads(), _data, _data, _right_frames, _odd_frames)
_sessions = st.one_of(
    st.lists(_frames, max_size=30).map(lambda found: PREFACE + settings_frame() + b"".join(found)),
    st.lists(_frames, max_size=8).map(lambda found: PREFACE + b"".join(found)),
    st.binary(max_size=60),
    st.binary(max_size=60).map(lambda noise: PREFACE + settings_frame() + noise),
)


def make(lingers: bool, *, greeted: bool = False) -> Core:
    return Core(_LIMITS, partial(Server, lingers=lingers), greeted=greeted)


def check(core: Core) -> None:
    """What holds between any two events."""
    connection = core.connection
    open_now = connection.streams
    assert len(open_now) <= _LIMITS.streams
    assert connection.queued_bytes == sum(one.queued_bytes for one in open_now.values()) <= _LIMITS.queued_bytes
    assert set(connection.waiting) == {one.id for one in open_now.values() if one.queued_bytes or one._ending}
    assert connection.send_left <= MAX_WINDOW
    for stream_id, stream in core.streams.items():
        assert isinstance(stream, Server)
        assert stream.ends <= 1
        assert stream.losses <= 1
        assert stream.pauses in (0, 1)
        if stream_id in open_now:
            assert not (stream.local_closed and stream.remote_closed), "ended on both sides, and still held"
        else:
            assert stream.local_closed, "forgotten, and nobody was told"


def finish(core: Core) -> None:
    """The client goes; nothing is left, and whoever was at work knows."""
    unanswered = [one for one in core.connection.streams.values() if not one.local_closed]
    core.connection.close()
    assert not core.connection.streams
    assert not core.connection.waiting
    for stream in unanswered:
        assert isinstance(stream, Server)
        assert stream.losses == 1
    for stream in core.streams.values():
        assert stream.local_closed


def play(session: bytes, sizes: list[int], *, lingers: bool) -> tuple[object, ...]:
    """Hand a session over in pieces of these sizes, the rest in one; all that came of it."""
    core = make(lingers)
    sent = b"".join(core.connection.out)
    core.connection.out.clear()
    rest = session
    for size in [*sizes, len(session)]:
        piece, rest = rest[:size], rest[size:]
        core.connection.receive(piece)
        sent += b"".join(core.connection.out)
        core.connection.out.clear()
        check(core)
    frames, half = split_frames(sent)
    assert not half
    closed = core.connection.closed
    finish(core)
    told = [(one.id, one.body, one.ends, one.losses) for one in core.streams.values() if isinstance(one, Server)]
    return frames, closed, told


@settings(max_examples=300, deadline=None)
@given(session=_sessions, sizes=st.lists(st.integers(1, 200), max_size=20), lingers=st.booleans())
def test_cuts_make_no_difference(session: bytes, sizes: list[int], lingers: bool) -> None:
    whole = play(session, [], lingers=lingers)
    assert play(session, [1] * len(session), lingers=lingers) == whole
    assert play(session, sizes, lingers=lingers) == whole


_events = st.one_of(
    _frames,
    _frames,
    _frames,
    st.sampled_from(["sweep", "long sweep", "drain", "pause", "resume", "answer", "reset"]),
)


def act(core: Core, event: str | bytes, pick: int) -> None:
    """A frame comes, time passes, the transport fills up or empties, or a handler does something."""
    connection = core.connection
    if isinstance(event, bytes):
        connection.receive(event)
    elif event in ("sweep", "long sweep"):
        core.pass_time(1 if event == "sweep" else 31)
    elif event == "drain":
        connection.liveness.drain()
    elif event == "pause":
        connection.pause_writing()
    elif event == "resume":
        connection.resume_writing()
    elif core.streams:
        stream = list(core.streams.values())[pick % len(core.streams)]
        assert isinstance(stream, Server)
        if event == "answer":
            stream.answer(pick * 997)
        else:
            stream.reset()


@settings(max_examples=300, deadline=None)
@given(events=st.lists(st.tuples(_events, st.integers(0, 100)), max_size=40), lingers=st.booleans())
def test_no_stream_is_forgotten(events: list[tuple[str | bytes, int]], lingers: bool) -> None:
    core = make(lingers, greeted=True)
    for event, pick in events:
        act(core, event, pick)
        core.take()
        check(core)
    finish(core)

"""The sans-IO core without a socket: a clock that tests turn, streams that record, frames in and frames out."""

from __future__ import annotations

from collections.abc import Callable

from ollama_proxy.net.http2.connection import Connection, OpenStream
from ollama_proxy.net.http2.head import RequestHead
from ollama_proxy.net.http2.limits import Http2Limits
from ollama_proxy.net.http2.stream import Stream
from tests.h2.frames import PREFACE, Frame, frame, settings, split_frames


class Recorder(Stream):
    """A stream that serves nothing and keeps what it is told."""

    def __init__(self, connection: Connection, stream_id: int, head: RequestHead) -> None:
        super().__init__(connection, stream_id, head)
        self.body = b""
        self.ends = 0
        self.losses = 0

    def received(self, data: bytes, *, ended: bool) -> None:
        self.body += data
        self.ends += ended

    def lost(self) -> None:
        self.losses += 1


class Core:
    """A connection behind its preface. `streams` are all that were ever opened."""

    def __init__(
        self,
        limits: Http2Limits | None = None,
        make: Callable[[Connection, int, RequestHead], Stream] = Recorder,
        *,
        greeted: bool = True,
    ) -> None:
        self.now_s = 1000.0
        self.streams: dict[int, Stream] = {}
        self._make = make
        opener: OpenStream = self._open
        self.connection = Connection(opener, lambda: self.now_s, limits or Http2Limits(), lambda: None)
        if greeted:
            self.exchange(PREFACE + settings() + frame(4, 1))

    def _open(self, connection: Connection, stream_id: int, head: RequestHead) -> Stream:
        assert stream_id not in self.streams
        stream = self.streams[stream_id] = self._make(connection, stream_id, head)
        return stream

    def exchange(self, data: bytes = b"") -> list[Frame]:
        """Hand bytes over; the frames that were sent since the last time."""
        self.connection.receive(data)
        return self.take()

    def take(self) -> list[Frame]:
        """The frames that were sent since the last time."""
        out = b"".join(self.connection.out)
        self.connection.out.clear()
        found, rest = split_frames(out)
        assert not rest, "the server has sent half a frame"
        return found

    def pass_time(self, seconds: float) -> list[Frame]:
        """Turn the clock and sweep, as a server does about once a second; the frames that were sent."""
        self.now_s += seconds
        self.connection.liveness.sweep(self.now_s)
        return self.take()

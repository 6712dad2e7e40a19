"""The server's side of one HTTP/2 connection (RFC 9113): bytes in, streams and an `out` list of bytes out.

No socket, no event loop and no clock in here: the clock is handed in, `wake` is called when there is something to send
outside of `receive`. A fault of the peer never raises out of `receive`; it becomes RST_STREAM or GOAWAY and `closed`.
"""

from __future__ import annotations

from collections.abc import Callable

from . import frames
from .blocks import HeaderBlocks
from .errors import ConnectionFault, ErrorCode, StreamFault
from .frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    HEAD,
    HEAD_BYTES,
    MAX_WINDOW,
    PADDED,
    PREFACE,
    build_frame,
    build_goaway,
    build_reset,
    build_settings,
    build_window_update,
)
from .head import RequestHead
from .ids import StreamIds
from .limits import Http2Limits
from .liveness import Liveness
from .output import Output
from .padding import DECORATED, strip_headers, strip_padding
from .preface import read_preface
from .stream import Stream

OpenStream = Callable[["Connection", int, RequestHead], Stream]

_unpack_head = HEAD.unpack_from
_MASK = 0x7FFFFFFF
_CONTINUATION = frames.CONTINUATION


class Connection(Output):
    """Frames, states and windows. `open_stream` makes the stream of a request, whose body then arrives there."""

    def __init__(
        self, open_stream: OpenStream, clock: Callable[[], float], limits: Http2Limits, wake: Callable[[], None]
    ) -> None:
        super().__init__(clock, limits, wake)
        self._open_stream = open_stream
        self.peer = ""
        self.secure = False
        self.closed = False
        #: Whether the preface and the first SETTINGS are there.
        self.ready = False
        self.ids = StreamIds()
        self.liveness = Liveness(self)
        self._blocks = HeaderBlocks(limits, self.spend)
        self._rest = b""
        self._receive_left = limits.connection_window_bytes
        #: Below it, what was received is given back.
        self._receive_low = limits.connection_window_bytes >> 1
        self._handlers = (
            self._on_data,
            self._on_headers,
            self._on_priority,
            self._on_reset,
            self._on_settings,
            self._on_push_promise,
            self._on_ping,
            self._on_goaway,
            self._on_window_update,
            self._on_continuation,
        )
        settings = {
            frames.MAX_CONCURRENT_STREAMS: limits.streams,
            frames.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
            frames.MAX_HEADER_LIST_SIZE: limits.list_bytes,
        }
        self.out.append(build_settings(settings))
        self.out.append(build_window_update(0, limits.connection_window_bytes - frames.DEFAULT_WINDOW))

    @property
    def leaving(self) -> bool:
        """Whether new streams are refused, and the connection closes when the others have ended."""
        return self.liveness.final_id != MAX_WINDOW

    # -- bytes in ----------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take the next bytes. What is to be sent is in `out` afterwards."""
        if self.closed:
            return
        if self._rest:
            data = self._rest + data
        try:
            if not self.ready and not read_preface(data):
                self._rest = data
                return
            position = self._read_frames(data, 0 if self.ready else len(PREFACE))
            self._rest = data[position:] if position else data
        except ConnectionFault as fault:
            self._rest = b""
            self.fail(fault.code, fault.reason)

    def _read_frames(self, data: bytes, position: int) -> int:
        """Handle every whole frame; returns where the rest begins."""
        handlers, blocks, end = self._handlers, self._blocks, len(data)
        start = position
        while end - position >= HEAD_BYTES:
            high, low, kind, flags, stream_id = _unpack_head(data, position)
            if high or low > FRAME_BYTES:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a frame is larger than {FRAME_BYTES} bytes")
            stop = position + HEAD_BYTES + low
            if stop > end:
                break
            stream_id &= _MASK
            if blocks.stream_id and (kind != _CONTINUATION or stream_id != blocks.stream_id):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame inside a header block")
            try:
                if kind < 10:
                    handlers[kind](flags, stream_id, data[position + HEAD_BYTES : stop])
                else:
                    self.spend(1)
            except StreamFault as fault:
                self._fail_stream(fault)
            if self.closed:
                return end
            position = stop
        if position > start:
            self.ready = True
        elif not self.ready:
            return 0
        return position

    # -- requests ------------------------------------------------------------------

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream that clients cannot open")
        bad = False
        if flags & DECORATED:
            payload, bad = strip_headers(flags, stream_id, payload)
        ended = flags & END_STREAM != 0
        if flags & END_HEADERS:
            self._take_block(stream_id, payload, ended, bad)
        else:
            self._blocks.begin(stream_id, payload, ended=ended, bad=bad)

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not self._blocks.stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        if not payload:
            self.spend(1)
        self._blocks.add(payload)
        if flags & END_HEADERS:
            block, ended, bad = self._blocks.finish()
            self._take_block(stream_id, block, ended, bad)

    def _take_block(self, stream_id: int, block: bytes, ended: bool, bad: bool) -> None:
        ids, blocks, streams = self.ids, self._blocks, self.streams
        if stream_id <= ids.last:
            self._take_trailers(stream_id, block, ended=ended)
            return
        ids.open(stream_id)
        head = blocks.heads.get(block) or blocks.read(stream_id, block)
        if bad:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "a stream depends on itself")
        if stream_id > self.liveness.final_id or len(streams) >= self.limits.streams:
            raise StreamFault(stream_id, ErrorCode.REFUSED_STREAM, "no more streams now")
        stream = streams[stream_id] = self._open_stream(self, stream_id, head)
        if not ended:
            stream.opened()
            return
        stream.remote_closed = not stream.content_left
        stream.opened()
        if stream_id in streams:
            self._end_remote(stream, b"")

    def _take_trailers(self, stream_id: int, block: bytes, *, ended: bool) -> None:
        stream = self.streams.get(stream_id)
        if stream is None:
            if self.ids.was_reset(stream_id):
                self.spend(1)
                self._blocks.skip(block)
                return
            raise self.ids.closed_fault(stream_id)
        if stream.remote_closed:
            self._blocks.skip(block)
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, "HEADERS after the end of the stream")
        self._blocks.read_trailers(stream_id, block)
        if not ended:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "trailers must end the stream")
        self._end_remote(stream, b"")

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._receive_left = left = self._receive_left - size
        if left < self._receive_low:
            self._open_window()
        stream = self.streams.get(stream_id)
        if stream is None or stream.remote_closed:
            self._take_late_data(stream_id, stream, size)
            return
        if flags & PADDED:
            payload = strip_padding(payload)
        if not flags & END_STREAM:
            if not payload:
                self.spend(1)
            self._use_stream_window(stream, size)
        elif size > stream.receive_left:
            raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the window allows")
        if stream.content_left is not None:
            stream.content_left -= len(payload)
            if stream.content_left < 0:
                raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "more DATA than content-length says")
        if flags & END_STREAM:
            self._end_remote(stream, payload)
        else:
            stream.received(payload, ended=False)

    def _end_remote(self, stream: Stream, payload: bytes) -> None:
        if stream.content_left:
            raise StreamFault(stream.id, ErrorCode.PROTOCOL_ERROR, "less DATA than content-length says")
        stream.remote_closed = True
        if stream.local_closed:
            self.forget(stream.id)
            if stream.drains and self._receive_left < self.limits.connection_window_bytes:
                # A sign of life: curl (7.88) sleeps on over an answer that was there before its upload was through.
                self._open_window()
        else:
            stream.received(payload, ended=True)

    def _open_window(self) -> None:
        if self._receive_left < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the connection's window allows")
        self.out.append(build_window_update(0, self.limits.connection_window_bytes - self._receive_left))
        self._receive_left = self.limits.connection_window_bytes

    def _use_stream_window(self, stream: Stream, size: int) -> None:
        """Bodies are bounded where they are gathered, so what was received is given back at half."""
        stream.receive_left -= size
        stream.arrived_bytes += size
        window = self.limits.stream_window_bytes
        if stream.receive_left < 0:
            raise StreamFault(stream.id, ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the window allows")
        if stream.local_closed and not stream.drains:
            if stream.receive_left == 0:
                stream.stop_lingering()
            return
        stream.progress_s = self.clock()
        if stream.receive_left < window >> 1 and not stream.holds_window:
            self.out.append(build_window_update(stream.id, window - stream.receive_left))
            stream.receive_left = window

    def _take_late_data(self, stream_id: int, stream: Stream | None, size: int) -> None:
        self.ids.check_not_idle(stream_id)
        if stream is not None:
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, "DATA after the end of the stream")
        if not self.ids.was_reset(stream_id):
            raise self.ids.closed_fault(stream_id)
        if not size:
            self.spend(1)

    # -- streams that end -----------------------------------------------------------

    def _on_reset(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM has four bytes")
        self.ids.check_not_idle(stream_id)
        self.spend(2)
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.local_closed = stream.remote_closed = True
            self.forget(stream_id)
            stream.lost()

    def _fail_stream(self, fault: StreamFault) -> None:
        stream = self.streams.get(fault.stream_id)
        self.send_reset(fault.stream_id, fault.code)
        self.spend(1)
        if stream is not None and not stream.local_closed:
            stream.local_closed = stream.remote_closed = True
            stream.lost()

    def send_reset(self, stream_id: int, code: int) -> None:
        """RST_STREAM; the stream is no more."""
        self.out.append(build_reset(stream_id, code))
        self.remember_reset(stream_id)
        if not self.awake:
            self.wake()

    def remember_reset(self, stream_id: int) -> None:
        """We have ended this stream before the client did: its late frames are no fault."""
        self.forget(stream_id)
        self.ids.remember_reset(stream_id)

    def forget(self, stream_id: int) -> None:
        """The stream has ended on both sides."""
        stream = self.streams.pop(stream_id, None)
        if self.waiting and stream is not None and self.waiting.pop(stream_id, None) is not None:
            self.queued_bytes -= stream.queued_bytes
            stream.drop_queue()
        if not self.streams:
            self.liveness.used_s = self.clock()
            if self.leaving:
                self.close()

    # -- settings, windows, the rest ---------------------------------------------------

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS ACK with a payload")
            self.spend(1)
            return
        if len(payload) % 6:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS come in sixes of bytes")
        self.spend(1)
        for key, value in frames.read_settings(payload):
            self.apply_setting(key, value)
        self.out.append(build_frame(frames.SETTINGS, ACK, 0))
        self.push_waiting()

    def _on_window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE has four bytes")
        increment = int.from_bytes(payload, "big") & _MASK
        self.spend(1)
        if stream_id == 0:
            if increment == 0:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
            self.widen(increment)
            return
        self.ids.check_not_idle(stream_id)
        stream = self.streams.get(stream_id)
        if increment == 0:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
        if stream is None:
            return
        stream.send_left += increment
        if stream.send_left > MAX_WINDOW:
            raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "the stream's window overflows")
        stream.push()

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING has eight bytes")
        self.liveness.take_ping(payload, ack=bool(flags & ACK))

    def _on_priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY on the connection")
        self.spend(1)
        if len(payload) != 5:
            raise StreamFault(stream_id, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY has five bytes")
        if int.from_bytes(payload[:4], "big") & _MASK == stream_id:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "a stream depends on itself")

    def _on_push_promise(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "clients do not push")

    def _on_goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        """The client opens no more streams; it closes when it has its answers."""
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY has at least eight bytes")
        self.spend(1)

    # -- the end -----------------------------------------------------------------------

    def fail(self, code: int, reason: str) -> None:
        """GOAWAY, and nothing more."""
        if not self.closed:
            self.out.append(build_goaway(self.ids.last, code, reason))
            self.close()

    def close(self) -> None:
        """No more bytes in or out but those in `out`; streams that are open are lost."""
        self.closed = True
        self.wake()
        streams, self.streams = list(self.streams.values()), {}
        self.waiting.clear()
        self.queued_bytes = 0
        for stream in streams:
            stream.local_closed = stream.remote_closed = True
            stream.drop_queue()
            stream.lost()

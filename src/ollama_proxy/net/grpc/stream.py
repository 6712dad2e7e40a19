"""A gRPC call on an HTTP/2 stream: messages cut out of DATA, answers as HEADERS, DATA and trailers.

A whole answer leaves as one piece of bytes; that and the head that equal calls share is why a call costs little.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Any

from ollama_proxy.domain.caller import ANYBODY, Caller
from ollama_proxy.net.credentials import CALLER
from ollama_proxy.net.grpc.call import Trailers
from ollama_proxy.net.grpc.inflate import MAX_MESSAGE_BYTES, BadMessage, inflate
from ollama_proxy.net.grpc.metadata import OK_BLOCK, encode_metadata, encode_status
from ollama_proxy.net.grpc.route import GrpcRoute
from ollama_proxy.net.grpc.status import DEADLINE_EXCEEDED, INTERNAL, RESOURCE_EXHAUSTED, UNIMPLEMENTED
from ollama_proxy.net.http2.connection import Connection
from ollama_proxy.net.http2.frames import DATA, END_HEADERS, END_STREAM, FRAME_BYTES, HEAD, HEADERS
from ollama_proxy.net.http2.head import RequestHead
from ollama_proxy.net.http2.hpack import encode_literal
from ollama_proxy.net.http2.hpack import encode_status as encode_http_status
from ollama_proxy.net.http2.stream import Stream
from ollama_proxy.net.timers import Expiring, TimerWheel

if TYPE_CHECKING:
    from ollama_proxy.net.grpc.call import GrpcMethod

_log = logging.getLogger(__name__)

_HEAD_BLOCK = encode_http_status(200) + encode_literal(b"content-type", b"application/grpc")
_pack_head = HEAD.pack
_pack_prefix = Struct(">BI").pack
#: Head of a DATA frame and gRPC's five bytes in front of a message.
_pack_data = Struct(">BHBBIBI").pack
_PREFIX_BYTES = 5


class GrpcStream(Stream):
    """Carries a `GrpcCall`."""

    protocol = "grpc"
    __slots__ = (
        "_answer",
        "_bucket",
        "_buffer",
        "_initial",
        "_request",
        "_route",
        "_started",
        "_wheel",
        "cancelled",
        "finished",
        "metadata",
        "on_cancel",
        "on_half_close",
        "on_message",
        "on_pause",
        "on_resume",
    )

    def __init__(
        self, connection: Connection, stream_id: int, head: RequestHead, route: GrpcRoute, wheel: TimerWheel
    ) -> None:
        super().__init__(connection, stream_id, head)
        self.metadata = route.metadata
        self._route = route
        self._wheel = wheel
        self.on_cancel: Callable[[], None] | None = None
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        self.on_message: Callable[[bytes], None] | None = None
        self.on_half_close: Callable[[], None] | None = None
        self.cancelled = self.finished = self._started = False
        self._initial = b""
        self._answer: bytes | None = None
        self._buffer: bytearray | None = None
        self._request: bytes | None = None
        self._bucket: set[Expiring] | None = None

    @property
    def notes(self) -> dict[object, Any]:
        """See `GrpcCall`."""
        return self.head.notes

    @property
    def caller(self) -> Caller:
        """See `GrpcCall`."""
        caller: Caller = self.head.notes.get(CALLER, ANYBODY)
        return caller

    @property
    def peer(self) -> str:
        """Address of the client."""
        return self.connection.peer

    # -- the request -----------------------------------------------------------

    def opened(self) -> None:
        route = self._route
        if route.refusal is not None:
            self.finish(*route.refusal)
        elif route.method is not None and route.method.client_streaming:
            self.awaits_body = False
            self._run(route.method, None)

    def received(self, data: bytes, *, ended: bool) -> None:
        if self.finished:
            return
        method = self._route.method
        assert method is not None
        # No compression flag and the size, read as one number.
        size = int.from_bytes(data[:_PREFIX_BYTES], "big")
        whole = ended and size == len(data) - _PREFIX_BYTES and self._buffer is None
        if whole and size <= MAX_MESSAGE_BYTES and not method.client_streaming:
            self._run(method, data[_PREFIX_BYTES:])
            return
        buffer = self._buffer = self._buffer or bytearray()
        buffer += data
        self._cut(method, buffer)
        if ended and not self.finished:
            self._end_request(method, buffer)

    def _run(self, method: GrpcMethod, message: bytes | None) -> None:
        try:
            if message is None:
                method.handler(self)
            else:
                method.handler(self, message)
        except Exception:  # noqa: BLE001  # the root of a call: the client must never see our exception's text
            self._fail_handler()
        timeout_s = self._route.timeout_s
        if timeout_s is not None and not self.finished and not self.cancelled:
            self._bucket = self._wheel.add(timeout_s, self)

    def _fail_handler(self) -> None:
        _log.exception("gRPC handler failed for %s", self.head.path.decode("latin-1")[:200])
        self.finish(INTERNAL, "internal error")

    def _cut(self, method: GrpcMethod, buffer: bytearray) -> None:
        """Take whole messages off the buffer."""
        position = 0
        while len(buffer) - position >= _PREFIX_BYTES and not self.finished:
            size = int.from_bytes(buffer[position + 1 : position + _PREFIX_BYTES], "big")
            if size > MAX_MESSAGE_BYTES:
                text = f"the message has {size} bytes; at most {MAX_MESSAGE_BYTES} are taken"
                self.finish(RESOURCE_EXHAUSTED, text)
                return
            stop = position + _PREFIX_BYTES + size
            if stop > len(buffer):
                break
            message = self._read_message(buffer[position], bytes(buffer[position + _PREFIX_BYTES : stop]))
            position = stop
            if message is not None:
                self._take(method, message)
        del buffer[:position]

    def _read_message(self, compressed: int, message: bytes) -> bytes | None:
        if compressed == 0:
            return message
        if compressed != 1 or not self._route.gzip:
            self.finish(INTERNAL, "a compressed message without a grpc-encoding")
            return None
        try:
            return inflate(message)
        except BadMessage as error:
            self.finish(error.code, error.message)
            return None

    def _take(self, method: GrpcMethod, message: bytes) -> None:
        if method.client_streaming:
            if self.on_message is not None:
                self._call_back(self.on_message, message)
        elif self._request is not None:
            self.finish(UNIMPLEMENTED, "this method takes one message")
        else:
            self._request = message

    def _call_back(self, callback: Callable[..., None], *arguments: bytes) -> None:
        try:
            callback(*arguments)
        except Exception:  # noqa: BLE001  # the root of a message of a call
            self._fail_handler()

    def _end_request(self, method: GrpcMethod, buffer: bytearray) -> None:
        if buffer:
            self.finish(INTERNAL, "the last message is cut off")
        elif method.client_streaming:
            if self.on_half_close is not None:
                self._call_back(self.on_half_close)
        elif self._request is None:
            self.finish(UNIMPLEMENTED, "this method takes one message; none came")
        else:
            message, self._request = self._request, None
            self._run(method, message)

    # -- the answer ---------------------------------------------------------------

    def send_initial_metadata(self, metadata: Trailers) -> None:
        """See `GrpcCall`."""
        self._initial = encode_metadata(metadata)

    def send_message(self, message: bytes) -> None:
        """See `GrpcCall`."""
        if self.finished or self.cancelled:
            return
        method = self._route.method
        if method is not None and not method.server_streaming:
            self._answer = message
            return
        if not self._started:
            self._start()
        length = len(message)
        size = length + _PREFIX_BYTES
        if self.take_window(size):
            self.send_frame(_pack_data(size >> 16, size & 0xFFFF, DATA, 0, self.id, 0, length) + message)
        else:
            self.send_data(_pack_prefix(0, length) + message)

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self.send_headers(_HEAD_BLOCK + self._initial)

    def finish(self, code: int = 0, message: str = "", trailers: Trailers = ()) -> None:
        """See `GrpcCall`."""
        if self.finished or self.cancelled:
            return
        self._let_go()
        tail = encode_status(code, message) if code else OK_BLOCK
        if trailers:
            tail += encode_metadata(trailers)
        # Held by the queue alone when it has to wait.
        answer, self._answer = self._answer, None
        if code == 0 and answer is not None:
            self._send_answer(answer, tail)
        elif self._started:
            self.send_trailers(tail)
        else:
            self.send_headers(_HEAD_BLOCK + self._initial + tail, ended=True)

    def _let_go(self) -> None:
        """The last word is said. Call and work know each other; what forgets is freed at once."""
        self.finished = True
        self.on_cancel = self.on_pause = self.on_resume = self.on_message = self.on_half_close = None
        bucket = self._bucket
        if bucket is not None:
            bucket.discard(self)

    def respond(self, message: bytes, initial: bytes = b"", trailers: bytes = b"") -> None:
        """See `GrpcCall`."""
        if self.finished or self.cancelled:
            return
        self._let_go()
        self._initial = initial
        self._send_answer(message, OK_BLOCK + trailers)

    def _send_answer(self, answer: bytes, tail: bytes) -> None:
        size, block = len(answer) + _PREFIX_BYTES, _HEAD_BLOCK + self._initial
        if self._started or len(block) > FRAME_BYTES or len(tail) > FRAME_BYTES or not self.take_window(size):
            self._start()
            self.send_data(_pack_prefix(0, len(answer)) + answer)
            self.send_trailers(tail)
            return
        stream_id = self.id
        frames = (
            _pack_head(0, len(block), HEADERS, END_HEADERS, stream_id),
            block,
            _pack_data(size >> 16, size & 0xFFFF, DATA, 0, stream_id, 0, len(answer)),
            answer,
            _pack_head(0, len(tail), HEADERS, END_HEADERS | END_STREAM, stream_id),
            tail,
        )
        self.send_whole(b"".join(frames))

    # -- ends that nobody here asked for -----------------------------------------------

    def expire(self) -> None:
        """The client's deadline has passed."""
        callback = self.on_cancel
        self.finish(DEADLINE_EXCEEDED, "the deadline has passed")
        if callback is not None:
            callback()

    def lost(self) -> None:
        finished, callback = self.finished, self.on_cancel
        self._let_go()
        self.finished, self.cancelled = finished, True
        if callback is not None:
            callback()

    def pause(self) -> None:
        if self.on_pause is not None:
            self.on_pause()

    def resume(self) -> None:
        if self.on_resume is not None:
            self.on_resume()

"""A gRPC call on an HTTP/2 stream: messages cut out of DATA, answers as HEADERS, DATA and trailers.

A whole answer leaves as one piece of bytes; that and the head that equal calls share is why a call costs little.
"""

from __future__ import annotations

import logging
import zlib
from base64 import b64encode
from collections.abc import Callable, Sequence
from struct import Struct
from typing import TYPE_CHECKING
from urllib.parse import quote

from ollama_proxy.net.grpc.call import Trailers
from ollama_proxy.net.grpc.route import INTERNAL, UNIMPLEMENTED, GrpcRoute
from ollama_proxy.net.http2.connection import Connection
from ollama_proxy.net.http2.frames import DATA, END_HEADERS, END_STREAM, HEAD, HEADERS
from ollama_proxy.net.http2.head import RequestHead
from ollama_proxy.net.http2.hpack import encode_literal, encode_status
from ollama_proxy.net.http2.stream import Stream
from ollama_proxy.net.timers import Expiring, TimerWheel

if TYPE_CHECKING:
    from ollama_proxy.net.grpc.call import GrpcMethod

_log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
_RESOURCE_EXHAUSTED = 8
_DEADLINE_EXCEEDED = 4
#: Clients drop the whole answer when its status text is longer than they like a header to be.
_MAX_DETAIL_BYTES = 2048

_HEAD_BLOCK = encode_status(200) + encode_literal(b"content-type", b"application/grpc")
_OK_BLOCK = encode_literal(b"grpc-status", b"0")
_STATUS_BLOCKS = [encode_literal(b"grpc-status", b"%d" % code) for code in range(17)]
_pack_head = HEAD.pack
_pack_prefix = Struct(">BI").pack
#: Head of a DATA frame and gRPC's five bytes in front of a message.
_pack_data = Struct(">BHBBIBI").pack
_PREFIX_BYTES = 5


class GrpcStream(Stream):
    """Carries a `GrpcCall`."""

    on_cancel: Callable[[], None] | None = None
    on_pause: Callable[[], None] | None = None
    on_resume: Callable[[], None] | None = None
    on_message: Callable[[bytes], None] | None = None
    on_half_close: Callable[[], None] | None = None
    cancelled = False
    finished = False
    _started = False
    _initial = b""
    _answer: bytes | None = None
    _buffer: bytearray | None = None
    _request: bytes | None = None
    _bucket: set[Expiring] | None = None

    def __init__(
        self, connection: Connection, stream_id: int, head: RequestHead, route: GrpcRoute, wheel: TimerWheel
    ) -> None:
        super().__init__(connection, stream_id, head)
        self.metadata = route.metadata
        self._route = route
        self._wheel = wheel

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
        if (
            ended
            and self._buffer is None
            and not method.client_streaming
            and data[:1] == b"\0"
            and int.from_bytes(data[1:5], "big") == len(data) - _PREFIX_BYTES <= MAX_MESSAGE_BYTES
        ):
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
                self.finish(_RESOURCE_EXHAUSTED, text)
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
        inflater = zlib.decompressobj(31)
        try:
            plain = inflater.decompress(message, MAX_MESSAGE_BYTES + 1)
        except zlib.error:
            self.finish(INTERNAL, "the message is not gzip")
            return None
        if len(plain) > MAX_MESSAGE_BYTES:
            self.finish(_RESOURCE_EXHAUSTED, f"the message inflates to more than {MAX_MESSAGE_BYTES} bytes")
            return None
        if not inflater.eof:
            self.finish(INTERNAL, "the gzip message ends too early")
            return None
        return plain

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

    def send_initial_metadata(self, metadata: Sequence[tuple[str, str]]) -> None:
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
        self._start()
        self.send_data(_pack_prefix(0, len(message)) + message)

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self.send_headers(_HEAD_BLOCK + self._initial)

    def finish(self, code: int = 0, message: str = "", trailers: Trailers = ()) -> None:
        """See `GrpcCall`."""
        if self.finished or self.cancelled:
            return
        self.finished = True
        if self._bucket is not None:
            self._bucket.discard(self)
        tail = _OK_BLOCK if code == 0 else _encode_error(code, message)
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

    def _send_answer(self, answer: bytes, tail: bytes) -> None:
        size, block = len(answer) + _PREFIX_BYTES, _HEAD_BLOCK + self._initial
        if not self.fits(size):
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
        self.send_whole(b"".join(frames), size)

    # -- ends that nobody here asked for -----------------------------------------------

    def expire(self) -> None:
        """The client's deadline has passed."""
        callback, self.on_cancel = self.on_cancel, None
        self.finish(_DEADLINE_EXCEEDED, "the deadline has passed")
        if callback is not None:
            callback()

    def lost(self) -> None:
        if self._bucket is not None:
            self._bucket.discard(self)
        callback, self.on_cancel = self.on_cancel, None
        self.cancelled = True
        if callback is not None and not self.finished:
            callback()

    def pause(self) -> None:
        if self.on_pause is not None:
            self.on_pause()

    def resume(self) -> None:
        if self.on_resume is not None:
            self.on_resume()


def encode_metadata(metadata: Trailers) -> bytes:
    """Metadata as header fields; values of names in `-bin` are base64 without padding."""
    fields = []
    for name, value in metadata:
        text = b64encode(value).rstrip(b"=") if isinstance(value, bytes) else value.encode("latin-1", "replace")
        fields.append(encode_literal(name.encode("ascii"), text))
    return b"".join(fields)


def _encode_error(code: int, message: str) -> bytes:
    block = _STATUS_BLOCKS[code] if 0 <= code < len(_STATUS_BLOCKS) else encode_literal(b"grpc-status", b"%d" % code)
    if not message:
        return block
    cut = message.encode("utf-8", "replace")[:_MAX_DETAIL_BYTES].decode("utf-8", "ignore")
    return block + encode_literal(b"grpc-message", quote(cut, safe=_UNQUOTED).encode("ascii"))


#: Everything printable but the percent sign.
_UNQUOTED = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")

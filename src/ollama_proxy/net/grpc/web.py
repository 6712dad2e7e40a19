"""gRPC-Web: gRPC in the body of an ordinary HTTP exchange, its trailers as a last frame, all of it base64 if wanted.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from struct import Struct

from ollama_proxy.net.grpc.call import GrpcMethod
from ollama_proxy.net.grpc.http_call import HttpCall
from ollama_proxy.net.grpc.inflate import BadMessage, check_size, inflate
from ollama_proxy.net.grpc.metadata import quote_message
from ollama_proxy.net.grpc.route import read_timeout
from ollama_proxy.net.grpc.status import INTERNAL, INVALID_ARGUMENT, UNIMPLEMENTED
from ollama_proxy.net.http1.exchange import Exchange, Header
from ollama_proxy.net.timers import TimerWheel

_TEXT = b"application/grpc-web-text"
MEDIA_TYPES = frozenset((b"application/grpc-web", b"application/grpc-web+proto", _TEXT, _TEXT + b"+proto"))
_PREFIX_BYTES = 5
_TRAILERS = 0x80
_pack_prefix = Struct(">BI").pack
#: Clients may pad each piece of base64 that they send.
_PIECES = re.compile(rb"[A-Za-z0-9+/]+={0,2}")


class GrpcWebCall(HttpCall):
    """A `GrpcCall` of gRPC-Web. The status is always in the body, where pages of other origins can read it."""

    protocol = "grpc-web"

    def __init__(self, exchange: Exchange, method: GrpcMethod, media_type: bytes) -> None:
        super().__init__(exchange, method)
        self._text = media_type.startswith(_TEXT)

    def serve(self, wheel: TimerWheel) -> None:
        """Read the request and run it."""
        value = self.exchange.header(b"grpc-timeout")
        timeout_s = None if value is None else read_timeout(value)
        if value is not None and timeout_s is None:
            self.finish(INTERNAL, f"malformed grpc-timeout {value[:20]!r}")
            return
        self.run(self._read_message, wheel, timeout_s)

    def _read_message(self) -> bytes:
        body = _decode_text(self.exchange.body) if self._text else self.exchange.body
        encoding = self.exchange.header(b"grpc-encoding") or b"identity"
        if encoding not in (b"identity", b"gzip"):
            raise BadMessage(UNIMPLEMENTED, f"messages encoded with {encoding[:20].decode('latin-1')!r} cannot be read")
        if len(body) < _PREFIX_BYTES:
            raise BadMessage(UNIMPLEMENTED, "this method takes one message; none came")
        flag, size = body[0], int.from_bytes(body[1:_PREFIX_BYTES], "big")
        check_size(size)
        if size > len(body) - _PREFIX_BYTES:
            raise BadMessage(INTERNAL, "the message is cut off")
        if size < len(body) - _PREFIX_BYTES:
            raise BadMessage(UNIMPLEMENTED, "this method takes one message")
        if flag == 0:
            return body[_PREFIX_BYTES:]
        if flag != 1 or encoding != b"gzip":
            raise BadMessage(INTERNAL, "a compressed message without a grpc-encoding")
        return inflate(body[_PREFIX_BYTES:])

    def _content_type(self) -> bytes:
        return b"application/grpc-web-text+proto" if self._text else b"application/grpc-web+proto"

    def _write_message(self, message: bytes) -> bytes:
        return self._frame(0, message)

    def _write_end(self, code: int, message: str, trailers: Sequence[Header]) -> bytes:
        fields = [(b"grpc-status", b"%d" % code)]
        if message:
            fields.append((b"grpc-message", quote_message(message)))
        return self._frame(_TRAILERS, b"".join([b"%b:%b\r\n" % field for field in (*fields, *trailers)]))

    def _answer_whole(self, answer: bytes | None, code: int, message: str, trailers: Sequence[Header]) -> None:
        body = (b"" if answer is None else self._frame(0, answer)) + self._write_end(code, message, trailers)
        self.exchange.respond(200, self._content_type(), body, self.head_fields(self.initial))

    def _frame(self, flag: int, payload: bytes) -> bytes:
        frame = _pack_prefix(flag, len(payload)) + payload
        return b64encode(frame) if self._text else frame


def _decode_text(body: bytes) -> bytes:
    if _PIECES.sub(b"", body).strip():
        raise BadMessage(INVALID_ARGUMENT, "the body is not base64")
    try:
        return b"".join([b64decode(piece, validate=True) for piece in _PIECES.findall(body)])
    except binascii.Error:
        raise BadMessage(INVALID_ARGUMENT, "the body is not base64") from None

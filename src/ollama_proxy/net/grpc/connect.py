"""The Connect protocol: unary calls are plain HTTP requests, streams are messages with five bytes in front.

https://connectrpc.com/docs/protocol
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

import msgspec

from ollama_proxy.net.grpc.call import GrpcMethod
from ollama_proxy.net.grpc.http_call import HttpCall
from ollama_proxy.net.grpc.inflate import BadMessage, check_size, inflate
from ollama_proxy.net.grpc.json_codec import JsonCodec
from ollama_proxy.net.grpc.status import INVALID_ARGUMENT, UNIMPLEMENTED, code_status, connect_name
from ollama_proxy.net.http1.exchange import Exchange, Header
from ollama_proxy.net.timers import TimerWheel

_JSON = b"application/json"
_STREAM = b"application/connect+"
UNARY_TYPES = frozenset((b"application/proto", _JSON))
STREAM_TYPES = frozenset((_STREAM + b"proto", _STREAM + b"json"))
_PREFIX_BYTES = 5
_COMPRESSED, _END = 0x01, 0x02
_pack_prefix = Struct(">BI").pack
_MAX_TIMEOUT_DIGITS = 10


class ConnectCall(HttpCall):
    """What unary calls and streams have in common."""

    protocol = "connect"

    def __init__(self, exchange: Exchange, method: GrpcMethod, media_type: bytes, codec: JsonCodec) -> None:
        super().__init__(exchange, method)
        self._media_type = media_type
        self._codec = codec if media_type.endswith(b"json") else None

    def serve(self, wheel: TimerWheel) -> None:
        """Read the request and run it."""
        try:
            timeout_s = _read_timeout(self.exchange.header(b"connect-timeout-ms"))
            version = self.exchange.header(b"connect-protocol-version")
            if version not in (None, b"1"):
                raise BadMessage(INVALID_ARGUMENT, 'connect-protocol-version must be "1"')
        except BadMessage as error:
            self.finish(error.code, error.message)
            return
        self.run(self._read_message, wheel, timeout_s)

    def _read_message(self) -> bytes:
        message = self._read_plain()
        return message if self._codec is None else self._codec.read(message)

    def _read_plain(self) -> bytes:
        raise NotImplementedError

    def _content_type(self) -> bytes:
        return self._media_type

    def _write_payload(self, message: bytes) -> bytes:
        return message if self._codec is None else self._codec.write(message)


class ConnectUnaryCall(ConnectCall):
    """One message each way. Trailers are headers whose names begin with `Trailer-`."""

    def _read_plain(self) -> bytes:
        body = self.exchange.body
        check_size(len(body))
        return inflate(body, INVALID_ARGUMENT) if is_gzip(self.exchange.header(b"content-encoding")) else body

    def _answer_whole(self, answer: bytes | None, code: int, message: str, trailers: Sequence[Header]) -> None:
        if answer is None:
            body = msgspec.json.encode(describe_error(code, message))
            self.exchange.respond(code_status(code), _JSON, body, self.error_fields(trailers))
            return
        fields = self.head_fields(self.initial)
        fields += [(b"Trailer-" + name.title(), value) for name, value in trailers]
        self.exchange.respond(200, self._media_type, self._write_payload(answer), fields)

    def _write_message(self, message: bytes) -> bytes:
        raise AssertionError("a unary call has no stream of messages")

    def _write_end(self, code: int, message: str, trailers: Sequence[Header]) -> bytes:
        raise AssertionError("a unary call has no stream to end")


class ConnectStreamCall(ConnectCall):
    """One message in, any number out; the last envelope tells how it ended."""

    def _read_plain(self) -> bytes:
        body = self.exchange.body
        gzip = is_gzip(self.exchange.header(b"connect-content-encoding"))
        if len(body) < _PREFIX_BYTES:
            raise BadMessage(INVALID_ARGUMENT, "this method takes one message; none came")
        flags, size = body[0], int.from_bytes(body[1:_PREFIX_BYTES], "big")
        check_size(size)
        if size > len(body) - _PREFIX_BYTES:
            raise BadMessage(INVALID_ARGUMENT, "the message is cut off")
        if size < len(body) - _PREFIX_BYTES:
            raise BadMessage(UNIMPLEMENTED, "this method takes one message")
        if flags & ~_COMPRESSED or (flags and not gzip):
            raise BadMessage(INVALID_ARGUMENT, f"a message with flags {flags}")
        return inflate(body[_PREFIX_BYTES:], INVALID_ARGUMENT) if flags else body[_PREFIX_BYTES:]

    def _write_message(self, message: bytes) -> bytes:
        payload = self._write_payload(message)
        return _pack_prefix(0, len(payload)) + payload

    def _write_end(self, code: int, message: str, trailers: Sequence[Header]) -> bytes:
        end: dict[str, object] = {"error": describe_error(code, message)} if code else {}
        if trailers:
            end["metadata"] = {name.decode("latin-1"): [value.decode("latin-1")] for name, value in trailers}
        payload = msgspec.json.encode(end)
        return _pack_prefix(_END, len(payload)) + payload

    def _answer_whole(self, answer: bytes | None, code: int, message: str, trailers: Sequence[Header]) -> None:
        raise AssertionError("a stream is never one message")


def describe_error(code: int, message: str) -> dict[str, object]:
    """Connect's error object."""
    return {"code": connect_name(code), "message": message}


def is_gzip(encoding: bytes | None) -> bool:
    """Whether a body is packed. Raises `BadMessage` for what cannot be unpacked."""
    if encoding in (None, b"", b"identity"):
        return False
    if encoding == b"gzip":
        return True
    shown = (encoding or b"")[:20].decode("latin-1")
    raise BadMessage(UNIMPLEMENTED, f"unknown compression {shown!r}: supported encodings are gzip and identity")


def _read_timeout(value: bytes | None) -> float | None:
    if value is None:
        return None
    if not value.isdigit() or len(value) > _MAX_TIMEOUT_DIGITS:
        raise BadMessage(INVALID_ARGUMENT, f"malformed connect-timeout-ms {value[:20]!r}")
    return int(value) / 1000

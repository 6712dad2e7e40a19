"""A raw HTTP/2 client: writes any frame, right or wrong, and reads what comes back frame by frame.

It shares no code with the server: what the two sides must agree on stands in RFC 9113, and is written down here again.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from tests.h2.hpack_blocks import write_fields

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 1
END_HEADERS = 4
PADDED = 8
HAS_PRIORITY = 32
ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 2, 3, 4, 5
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 0, 1, 3, 7, 8, 11
WAIT_S = 20.0

Fields = list[tuple[bytes, bytes]]


class Frame(NamedTuple):
    """One frame as it was on the wire."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error code of RST_STREAM and GOAWAY."""
        return int.from_bytes(self.payload[4:8] if self.kind == GOAWAY else self.payload[:4], "big")


def frame(kind: int, flags: int = 0, stream_id: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + payload


def settings(values: dict[int, int] | None = None) -> bytes:
    pairs = (values or {}).items()
    return frame(SETTINGS, payload=b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in pairs))


def headers(stream_id: int, block: bytes, flags: int = END_HEADERS | END_STREAM) -> bytes:
    return frame(HEADERS, flags, stream_id, block)


def reset(stream_id: int, code: int = CANCEL) -> bytes:
    return frame(RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4, "big"))


def request_block(path: bytes, method: bytes = b"GET", extra: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """The block of a plain request."""
    pseudo = [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", b"localhost")]
    return write_fields([*pseudo, *extra])


def grpc_block(path: bytes, extra: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """The block of a gRPC call."""
    return request_block(path, b"POST", [(b"content-type", b"application/grpc"), (b"te", b"trailers"), *extra])


def grpc_message(message: bytes = b"") -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def grpc_call(stream_id: int, block: bytes, message: bytes = b"") -> bytes:
    """A whole unary call."""
    return headers(stream_id, block, END_HEADERS) + frame(DATA, END_STREAM, stream_id, grpc_message(message))


def split_frames(data: bytes) -> tuple[list[Frame], bytes]:
    """The whole frames of some bytes, and the rest."""
    found, position = [], 0
    while len(data) - position >= 9:
        stop = position + 9 + int.from_bytes(data[position : position + 3], "big")
        if stop > len(data):
            break
        stream_id = int.from_bytes(data[position + 5 : position + 9], "big") & 0x7FFFFFFF
        found.append(Frame(data[position + 3], data[position + 4], stream_id, data[position + 9 : stop]))
        position = stop
    return found, data[position:]


class RawClient:
    """Context manager over one connection. Everything that was read is in `frames`."""

    def __init__(self, port: int, values: dict[int, int] | None = None, *, preface: bool = True) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.local_port: int = self._socket.getsockname()[1]
        self._rest = b""
        self.frames: list[Frame] = []
        self.ended = False
        if preface:
            self.send(PREFACE + settings(values) + frame(SETTINGS, ACK))

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave."""
        self._socket.close()

    @property
    def goaway(self) -> Frame | None:
        return next((one for one in self.frames if one.kind == GOAWAY and one.code != NO_ERROR), None)

    def of(self, stream_id: int) -> list[Frame]:
        """What was read of a stream."""
        return [one for one in self.frames if one.stream_id == stream_id]

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def read(self, timeout_s: float = 0.0) -> bool:
        """Take what has come, or what comes first within the time; whether there was anything."""
        if self.ended or not select.select([self._socket], [], [], timeout_s)[0]:
            return False
        try:
            data = self._socket.recv(1 << 18)
        except ConnectionError:
            data = b""
        self.ended = not data
        found, self._rest = split_frames(self._rest + data)
        self.frames += found
        return True

    def read_until(self, condition: Callable[[], object], what: str, timeout_s: float = WAIT_S) -> None:
        """Read until a condition holds. Fails when the connection ends before, or time is up."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            left_s = deadline - time.monotonic()
            assert left_s > 0, f"waited {timeout_s:g} s for {what}"
            assert not self.ended, f"the connection ended before {what}; last frames: {self.frames[-3:]}"
            self.read(left_s)

    def read_to_the_end(self, timeout_s: float = WAIT_S) -> None:
        """Read until the server closes."""
        deadline = time.monotonic() + timeout_s
        while not self.ended:
            left_s = deadline - time.monotonic()
            assert left_s > 0, f"the connection was still open after {timeout_s:g} s"
            self.read(left_s)

    def read_answer(self, stream_id: int) -> list[Frame]:
        """The frames of a stream up to its end."""
        self.read_until(
            lambda: any(one.flags & END_STREAM or one.kind == RST_STREAM for one in self.of(stream_id)),
            f"the end of stream {stream_id}",
        )
        return self.of(stream_id)

    def ping(self) -> None:
        """A PING and its answer: everything sent before has been handled then."""
        self.send(frame(PING, 0, 0, b"are we??"))
        seen = len(self.frames)
        self.read_until(lambda: any(one.kind == PING for one in self.frames[seen:]), "the answer to a PING")

    def flood(self, pieces: Iterator[bytes], *, reading: bool = True) -> int:
        """Send pieces until the server ends the connection or there are none left; returns how many were handed over.

        Without `reading` nothing is read until sending gets stuck or is over.
        """
        sent = 0
        self._socket.setblocking(False)
        try:
            for piece in pieces:
                if not self._push(piece, reading=reading):
                    break
                sent += 1
                if reading:
                    while self.read():
                        if self.ended:
                            return sent
        finally:
            with contextlib.suppress(OSError):
                self._socket.settimeout(WAIT_S)
        return sent

    def _push(self, data: bytes, *, reading: bool) -> bool:
        view = memoryview(data)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                readable, writable, _ = select.select([self._socket] if reading else [], [self._socket], [], WAIT_S)
                if not writable and not readable:
                    return False
                if readable:
                    self.read()
                    if self.ended:
                        return False
            except ConnectionError:
                return False
        return True

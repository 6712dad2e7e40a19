"""Frame types, flags and settings by number, and the frames we build (RFC 9113, 6)."""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: RFC 9113, 6.5.2: what counts until the peer says otherwise.
DEFAULT_WINDOW = 65_535
MAX_WINDOW = 2**31 - 1
#: We never announce a larger one, so this is also what we accept.
FRAME_BYTES = 16_384
#: Length (high byte, low half), type, flags, stream.
HEAD = Struct(">BHBBI")
HEAD_BYTES = HEAD.size
_PONG_HEAD = HEAD.pack(0, 8, PING, ACK, 0)
_LONG = Struct(">BHBBII")
_GOAWAY = Struct(">BHBBIII")
_SETTING = Struct(">HI")
_pack_head = HEAD.pack


def build_frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame; the payload may be up to 2^24-1 bytes."""
    size = len(payload)
    return _pack_head(size >> 16, size & 0xFFFF, kind, flags, stream_id) + payload


def build_settings(values: Mapping[int, int]) -> bytes:
    """SETTINGS with these values."""
    return build_frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(key, value) for key, value in values.items()))


def build_window_update(stream_id: int, increment: int) -> bytes:
    """WINDOW_UPDATE of a stream, or of the connection for stream 0."""
    return _LONG.pack(0, 4, WINDOW_UPDATE, 0, stream_id, increment)


def build_reset(stream_id: int, code: int) -> bytes:
    """RST_STREAM."""
    return _LONG.pack(0, 4, RST_STREAM, 0, stream_id, code)


def build_pong(payload: bytes) -> bytes:
    """The answer to a PING."""
    return _PONG_HEAD + payload


def build_goaway(last_stream_id: int, code: int, reason: str = "") -> bytes:
    """GOAWAY with a short text for whoever reads the other side's log."""
    text = reason.encode("ascii", "replace")[:256]
    return _GOAWAY.pack(0, 8 + len(text), GOAWAY, 0, 0, last_stream_id, code) + text


def build_headers(stream_id: int, block: bytes, *, ended: bool) -> bytes:
    """HEADERS, with CONTINUATIONs when the block is larger than a frame may be."""
    flags = END_STREAM if ended else 0
    if len(block) <= FRAME_BYTES:
        return build_frame(HEADERS, flags | END_HEADERS, stream_id, block)
    pieces = [block[start : start + FRAME_BYTES] for start in range(0, len(block), FRAME_BYTES)]
    frames = [build_frame(HEADERS, flags, stream_id, pieces[0])]
    frames += [build_frame(CONTINUATION, 0, stream_id, piece) for piece in pieces[1:-1]]
    frames.append(build_frame(CONTINUATION, END_HEADERS, stream_id, pieces[-1]))
    return b"".join(frames)


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """The pairs of a SETTINGS payload whose length is a multiple of six."""
    return list(_SETTING.iter_unpack(payload))

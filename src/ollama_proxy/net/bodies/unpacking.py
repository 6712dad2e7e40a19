"""Request bodies that come packed: zstd and nothing else, as in Ollama. Codex sends them so."""

from __future__ import annotations

import sys

from ollama_proxy.domain.errors import ErrorKind, ProxyError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: What a packed body may come to, and how far its parts may refer back: a few bytes can stand for any number of them.
MAX_UNPACKED_BYTES = 20 * 1024 * 1024
#: Bodies come in one frame; each further one costs, even when there is nothing in it.
MOST_FRAMES = 1000
#: What a frame is given at a time: what it leaves is copied, so that must not be the whole rest of the body.
_PIECE_BYTES = 64 * 1024
_OPTIONS = {int(zstd.DecompressionParameter.window_log_max): 23}
_MAGIC = b"\x28\xb5\x2f\xfd"
#: Of frames to be skipped the last four bits of the first byte are any; their size follows, little-endian.
_SKIPPABLE = b"\x2a\x4d\x18"
_SKIPPABLE_HEAD_BYTES = 8


class PackedBodyError(ProxyError):
    """A body that cannot be unpacked. Its answer has Ollama's own shape on every path."""

    def __init__(self, text: str) -> None:
        super().__init__(
            ErrorKind.INVALID_REQUEST,
            text,
            body=b'{"error":"%b"}' % text.encode(),
            content_type=b"application/json; charset=utf-8",
        )


def unpack_zstd(data: bytes) -> bytes:
    """The unpacked body. Raises `PackedBodyError`."""
    found = bytearray()
    at = frames = 0
    while at < len(data):
        frames += 1
        if frames > MOST_FRAMES:
            raise PackedBodyError("too many frames in a zstd body")
        magic = data[at : at + 4]
        if magic[1:] == _SKIPPABLE and magic[0] & 0xF0 == 0x50:
            at = _skip_frame(data, at)
        elif _MAGIC.startswith(magic):
            at = _unpack_frame(data, at, found)
        else:
            raise PackedBodyError("invalid input: magic number mismatch")
    return bytes(found)


def _skip_frame(data: bytes, at: int) -> int:
    """Where a frame without content ends."""
    end = at + _SKIPPABLE_HEAD_BYTES
    end += int.from_bytes(data[at + 4 : end], "little")
    if end > len(data):
        raise PackedBodyError("unexpected EOF")
    return end


def _unpack_frame(data: bytes, at: int, found: bytearray) -> int:
    """Where a frame ends whose content has been added to what was `found`."""
    frame = zstd.ZstdDecompressor(options=_OPTIONS)
    while not frame.eof:
        if at >= len(data):
            raise PackedBodyError("unexpected EOF")
        piece = data[at : at + _PIECE_BYTES]
        try:
            found += frame.decompress(piece, MAX_UNPACKED_BYTES + 1 - len(found))
        except zstd.ZstdError as error:
            text = str(error).replace('"', "'").replace("\\", "")
            raise PackedBodyError(text) from None
        if len(found) > MAX_UNPACKED_BYTES:
            raise PackedBodyError("http: request body too large")
        at += len(piece)
    return at - len(frame.unused_data)

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
_OPTIONS = {int(zstd.DecompressionParameter.window_log_max): 23}
_MAGIC = b"\x28\xb5\x2f\xfd"
#: Of frames to be skipped the first four bits are any.
_SKIPPABLE = b"\x2a\x4d\x18"


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
    while data:
        if not data.startswith(_MAGIC) and data[1:4] != _SKIPPABLE and not _MAGIC.startswith(data):
            raise PackedBodyError("invalid input: magic number mismatch")
        frame = zstd.ZstdDecompressor(options=_OPTIONS)
        try:
            found += frame.decompress(data, MAX_UNPACKED_BYTES + 1 - len(found))
        except zstd.ZstdError as error:
            text = str(error).replace('"', "'").replace("\\", "")
            raise PackedBodyError(text) from None
        if len(found) > MAX_UNPACKED_BYTES:
            raise PackedBodyError("http: request body too large")
        if not frame.eof:
            raise PackedBodyError("unexpected EOF")
        data = frame.unused_data
    return bytes(found)

"""Metadata and status of gRPC calls as header fields: literals only, so that they mean the same at any time."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote

from ollama_proxy.net.grpc.call import Trailers
from ollama_proxy.net.http2.hpack import encode_literal

#: Clients drop the whole answer when its status text is longer than they like a header to be.
_MAX_DETAIL_BYTES = 2048
#: Everything printable but the percent sign.
_UNQUOTED = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_STATUS_BLOCKS = [encode_literal(b"grpc-status", b"%d" % code) for code in range(17)]
OK_BLOCK = _STATUS_BLOCKS[0]


def encode_metadata(metadata: Trailers) -> bytes:
    """Metadata as header fields; values of names in `-bin` are base64 without padding."""
    if isinstance(metadata, bytes):
        return metadata
    fields = []
    for name, value in metadata:
        text = b64encode(value).rstrip(b"=") if isinstance(value, bytes) else value.encode("latin-1", "replace")
        fields.append(encode_literal(name.encode("ascii"), text))
    return b"".join(fields)


def decode_metadata(block: bytes) -> list[tuple[bytes, bytes]]:
    """The fields of a block that `encode_metadata` has made, for answers that leave in another form."""
    fields: list[tuple[bytes, bytes]] = []
    position = 0
    while position < len(block):
        name, position = _read_text(block, position + 1)
        value, position = _read_text(block, position)
        fields.append((name, value))
    return fields


def _read_text(block: bytes, position: int) -> tuple[bytes, int]:
    size = block[position]
    position += 1
    if size == 0x7F:
        shift = 0
        while True:
            byte = block[position]
            position += 1
            size += (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
    return block[position : position + size], position + size


def encode_status(code: int, message: str = "") -> bytes:
    """How a call ended."""
    block = _STATUS_BLOCKS[code] if 0 <= code < len(_STATUS_BLOCKS) else encode_literal(b"grpc-status", b"%d" % code)
    if not message:
        return block
    return block + encode_literal(b"grpc-message", quote_message(message))


def quote_message(message: str) -> bytes:
    """The text of a status as `grpc-message` carries it: percent-encoded, cut where it is long."""
    cut = message.encode("utf-8", "replace")[:_MAX_DETAIL_BYTES].decode("utf-8", "ignore")
    return quote(cut, safe=_UNQUOTED).encode("ascii")

"""Compressed messages, made plain within a limit: a few kilobytes of gzip can hold gigabytes."""

from __future__ import annotations

import zlib

from ollama_proxy.net.grpc.status import INTERNAL, RESOURCE_EXHAUSTED

MAX_MESSAGE_BYTES = 4 * 1024 * 1024


class BadMessage(Exception):
    """A message that cannot be taken; `code` is gRPC's, the text is for its sender."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def inflate(message: bytes, fault: int = INTERNAL) -> bytes:
    """The plain bytes of a gzip message. Raises `BadMessage`, with `fault` as its code for what is no gzip."""
    inflater = zlib.decompressobj(31)
    try:
        plain = inflater.decompress(message, MAX_MESSAGE_BYTES + 1)
    except zlib.error:
        raise BadMessage(fault, "the message is not gzip") from None
    if len(plain) > MAX_MESSAGE_BYTES:
        raise BadMessage(RESOURCE_EXHAUSTED, f"the message inflates to more than {MAX_MESSAGE_BYTES} bytes")
    if not inflater.eof:
        raise BadMessage(fault, "the gzip message ends too early")
    return plain


def check_size(size: int) -> None:
    """Raises `BadMessage` for a message that is too large as it came."""
    if size > MAX_MESSAGE_BYTES:
        raise BadMessage(RESOURCE_EXHAUSTED, f"the message has {size} bytes; at most {MAX_MESSAGE_BYTES} are taken")

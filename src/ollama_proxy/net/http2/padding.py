"""What may stand around the content of a frame: padding, and the priority in HEADERS (RFC 9113, 6.1 and 6.2)."""

from __future__ import annotations

from .errors import ConnectionFault, ErrorCode
from .frames import HAS_PRIORITY, PADDED

#: Flags of HEADERS that are more than a block.
DECORATED = PADDED | HAS_PRIORITY
_PRIORITY_BYTES = 5
_MASK = 0x7FFFFFFF


def strip_padding(payload: bytes) -> bytes:
    """The content of a padded frame. Raises `ConnectionFault`."""
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]


def strip_headers(flags: int, stream_id: int, payload: bytes) -> tuple[bytes, bool]:
    """The block in decorated HEADERS, and whether its stream depends on itself. Raises `ConnectionFault`."""
    if flags & PADDED:
        payload = strip_padding(payload)
    if not flags & HAS_PRIORITY:
        return payload, False
    if len(payload) < _PRIORITY_BYTES:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS are too short")
    return payload[_PRIORITY_BYTES:], int.from_bytes(payload[:4], "big") & _MASK == stream_id

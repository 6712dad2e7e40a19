"""How a connection begins (RFC 9113, 3.4): fixed bytes, then SETTINGS."""

from __future__ import annotations

from .errors import ConnectionFault, ErrorCode
from .frames import HEAD_BYTES, PREFACE, SETTINGS


def read_preface(data: bytes) -> bool:
    """Whether the preface and the head of the first frame are there. Raises `ConnectionFault` for anything else."""
    if not data.startswith(PREFACE[: len(data)]):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this port speaks HTTP/2; the preface is missing")
    if len(data) < len(PREFACE) + HEAD_BYTES:
        return False
    if data[len(PREFACE) + 3] != SETTINGS:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame must be SETTINGS")
    return True

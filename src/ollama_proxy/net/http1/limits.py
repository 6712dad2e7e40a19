"""Limits of the HTTP/1.1 server: what one client may cost before it is refused."""

from __future__ import annotations

import msgspec


class HttpLimits(msgspec.Struct, frozen=True):
    """Sizes in bytes, times in seconds."""

    head_bytes: int = 32 * 1024
    head_fields: int = 100
    target_bytes: int = 8 * 1024
    body_bytes: int = 32 * 1024 * 1024
    head_s: float = 10.0
    body_idle_s: float = 30.0
    idle_s: float = 120.0
    connections: int = 8192
    #: Bytes waiting in the kernel's and our send buffers before the producer is paused.
    write_high_bytes: int = 128 * 1024

"""How fast a client takes what waits for it: who takes too little in a window holds memory, and a backend, for nothing.

What a client has taken is what its system has acknowledged, where the system tells (Linux); elsewhere what has left our
send buffer, which is right while nothing is added to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

import msgspec

#: Where `tcpi_bytes_acked` stands in Linux's `struct tcp_info`; older kernels tell less.
_ACKED_OFFSET = 120
_ACKED = struct.Struct("=Q")
_AT_ONCE = struct.pack("ii", 1, 0)
_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)


class Pace(msgspec.Struct, frozen=True):
    """What a client must take of an answer that waits for it, in each window; 0 bytes: one byte will do."""

    min_bytes_per_s: float = 240.0
    window_s: float = 30.0


class Uptake:
    """One client's, as sweeps see it."""

    __slots__ = ("_since_s", "_taken")

    def __init__(self) -> None:
        #: Since when something waits without a pause; None while nothing does.
        self._since_s: float | None = None
        self._taken = 0

    def is_too_slow(self, transport: asyncio.Transport, pace: Pace, now_s: float, *, growing: bool = False) -> bool:
        """Look at a client that something waits for; whether it took too little in the window that is over now.

        `growing` says that its producer may go on meanwhile: where the system does not tell what was taken, nothing is
        known then.
        """
        taken = count_acknowledged(transport)
        if taken is None:
            if growing:
                self._since_s = None
                return False
            taken = -transport.get_write_buffer_size()
        since_s = self._since_s
        if since_s is None:
            self._since_s, self._taken = now_s, taken
            return False
        passed_s = now_s - since_s
        if passed_s < pace.window_s:
            return False
        least = max(1.0, pace.min_bytes_per_s * passed_s)
        if taken - self._taken < least:
            return True
        self._since_s, self._taken = now_s, taken
        return False

    def caught_up(self) -> None:
        """Nothing waits."""
        self._since_s = None


def count_acknowledged(transport: asyncio.Transport) -> int | None:
    """Bytes that a client's system has taken since the connection began; None where ours does not tell."""
    raw = transport.get_extra_info("socket")
    if raw is not None and _TCP_INFO is not None:
        try:
            info: bytes = raw.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _ACKED_OFFSET + _ACKED.size)
        except OSError:
            # No TCP, such as a socket in the file system.
            return None
        if len(info) == _ACKED_OFFSET + _ACKED.size:
            acked: int = _ACKED.unpack_from(info, _ACKED_OFFSET)[0]
            return acked
    return None


def forget_unsent(transport: asyncio.Transport) -> None:
    """Have the system drop what it still holds when the connection is closed, and reset it (RST).

    Else it would go on to send that to a client that reads hardly at all, and the connection would be there for hours.
    """
    raw = transport.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)

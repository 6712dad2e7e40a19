"""What goes wrong with bytes on their way: the faults of the fault proxy, one set for each direction."""

from __future__ import annotations

import random
from typing import Annotated, Literal

import msgspec

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.unreadable import UNREADABLE

Direction = Literal["both", "up", "down"]
#: How a connection ends; `refuse` and `hang` are about new ones.
End = Literal["none", "refuse", "hang", "stall", "reset", "close", "half_close"]

_NotNegative = Annotated[float, msgspec.Meta(ge=0)]
_Count = Annotated[int, msgspec.Meta(ge=0)]
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class WireFault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Faults of one direction: `up` is from the client to the upstream, `down` the way back.

    `end` strikes once `after_bytes` and `after_chunks` have passed (a chunk is what one read of the socket brought):
    `stall` lets nothing more pass while it is on, `reset` breaks the connection with an RST, `close` ends it both ways
    as if all were well, `half_close` ends this direction only. `refuse` takes the listening socket away, `hang`
    accepts and never dials.
    """

    direction: Direction = "both"
    latency_ms: _NotNegative = 0.0
    #: Added to the latency, evenly between nought and this; bytes keep their order.
    jitter_ms: _NotNegative = 0.0
    #: Cut what comes into pieces of at most so many bytes; 0 = as it came.
    slice_bytes: _Count = 0
    slice_pause_ms: _NotNegative = 0.0
    #: The chance that a piece has one of its bits turned over.
    corrupt: _Share = 0.0
    end: End = "none"
    after_bytes: _Count = 0
    after_chunks: _Count = 0
    #: The share of connections that `end` and `corrupt` strike, chosen by seed.
    share: _Share = 1.0


NO_WIRE_FAULT = WireFault()
_decoder = msgspec.json.Decoder(WireFault)


def read_wire_fault(body: bytes) -> WireFault:
    """Read a fault from JSON. Raises `ProxyError(INVALID_REQUEST)`."""
    try:
        return _decoder.decode(body)
    except UNREADABLE as error:
        raise ProxyError(ErrorKind.INVALID_REQUEST, f"invalid fault: {error}") from None


class Course:
    """What a fault does to one direction of one connection: pieces in, pieces and their delays out."""

    def __init__(self, fault: WireFault, dice: random.Random) -> None:
        self.fault = fault
        self._dice = dice
        self._struck = dice.random() < fault.share
        self._left_bytes = fault.after_bytes
        self._left_chunks = fault.after_chunks

    def ends_now(self) -> bool:
        """Whether the end strikes before another byte passes."""
        ends = self._struck and self.fault.end not in ("none", "refuse", "hang")
        return ends and self._left_chunks <= 0 and self._left_bytes <= 0

    def take(self, data: bytes) -> tuple[list[tuple[float, bytes]], bytes]:
        """What of a piece still passes, each with its delay in seconds from now; and what does not."""
        fault = self.fault
        passed = data
        if self._struck and fault.end not in ("none", "refuse", "hang"):
            passed = self._count(data)
        rest = data[len(passed) :]
        if not passed:
            return [], rest
        if fault.corrupt and self._struck and self._dice.random() < fault.corrupt:
            passed = _turn_a_bit(passed, self._dice)
        delay_s = (fault.latency_ms + self._dice.uniform(0.0, fault.jitter_ms)) / 1000
        size = fault.slice_bytes or len(passed)
        pause_s = fault.slice_pause_ms / 1000
        starts = range(0, len(passed), size)
        return [(delay_s + n * pause_s, passed[start : start + size]) for n, start in enumerate(starts)], rest

    def _count(self, data: bytes) -> bytes:
        """As much as may pass: whichever of the two counts lasts longer decides."""
        whole, self._left_chunks = self._left_chunks > 0, self._left_chunks - 1
        passed = data if whole else data[: max(self._left_bytes, 0)]
        self._left_bytes -= len(passed)
        return passed


def _turn_a_bit(data: bytes, dice: random.Random) -> bytes:
    place = dice.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << dice.randrange(8))]) + data[place + 1 :]

"""Which stream ids were used, skipped, or ended by us: what a late frame on an old id means (RFC 9113, 5.1)."""

from __future__ import annotations

from .errors import ConnectionFault, ErrorCode

_RESETS_KEPT = 1024
_SKIPS_KEPT = 128


class StreamIds:
    """Ids grow; those below the last were used or skipped, so no set of closed ones is needed."""

    __slots__ = ("_resets", "_skipped", "last")

    def __init__(self) -> None:
        self.last = 0
        self._skipped: list[tuple[int, int]] = []
        self._resets: dict[int, None] = {}

    def open(self, stream_id: int) -> None:
        """A new stream, with an id above the last."""
        if stream_id > self.last + 2:
            self._skipped.append((self.last + 2, stream_id - 2))
            del self._skipped[:-_SKIPS_KEPT]
        self.last = stream_id

    def remember_reset(self, stream_id: int) -> None:
        """We have ended it before the client did."""
        self._resets[stream_id] = None
        if len(self._resets) > _RESETS_KEPT:
            del self._resets[next(iter(self._resets))]

    def was_reset(self, stream_id: int) -> bool:
        """Whether late frames on it are nobody's fault."""
        return stream_id in self._resets

    def check_not_idle(self, stream_id: int) -> None:
        """Raises `ConnectionFault` for a stream that no client has opened."""
        if stream_id == 0 or stream_id > self.last or not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame on a stream that was never opened")

    def closed_fault(self, stream_id: int) -> ConnectionFault:
        """What to say to a frame on a stream that is closed."""
        if any(first <= stream_id <= last for first, last in self._skipped):
            return ConnectionFault(ErrorCode.PROTOCOL_ERROR, "stream ids must grow")
        return ConnectionFault(ErrorCode.STREAM_CLOSED, "a frame on a closed stream")

"""What the streams of one HTTP/2 connection send through: bytes to write, windows, turns, and the client's credit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from . import frames
from .errors import ConnectionFault, ErrorCode
from .frames import FRAME_BYTES, MAX_WINDOW
from .limits import Http2Limits

if TYPE_CHECKING:
    from .stream import Stream


class Output:
    """The sending half of a connection. `wake` is called when `out` has something to write and nobody will look."""

    def __init__(self, clock: Callable[[], float], limits: Http2Limits, wake: Callable[[], None]) -> None:
        self.clock = clock
        self.limits = limits
        self._wake = wake
        self.out: list[bytes] = []
        #: Whether `out` will be looked at without a further call of `wake`.
        self.awake = True
        self.streams: dict[int, Stream] = {}
        #: Streams with unsent bytes, in the order in which they get their turn.
        self.waiting: dict[int, Stream] = {}
        self.queued_bytes = 0
        self.write_paused = False
        self.write_paused_s = 0.0
        self.send_left = self.initial_send_window = frames.DEFAULT_WINDOW
        #: All that the client has added to `send_left`: less what is left, this is what was sent.
        self.send_granted = 0
        self.frame_bytes = FRAME_BYTES
        self.credit: float = limits.credit
        self._most_credit = limits.credit
        self._credit_s = clock()

    def wake(self) -> None:
        """Have `out` looked at soon, once."""
        if not self.awake:
            self.awake = True
            self._wake()

    def send(self, data: bytes) -> None:
        """Queue bytes that belong to no stream's body."""
        self.out.append(data)
        self.wake()

    def pause_writing(self) -> None:
        """The client reads slower than we write."""
        self.write_paused, self.write_paused_s = True, self.clock()
        for stream in list(self.streams.values()):
            stream.hold()

    def resume_writing(self) -> None:
        """The client has read what was written."""
        self.write_paused = False
        self.push_waiting()
        for stream in list(self.streams.values()):
            stream.release()

    def push_waiting(self) -> None:
        """Send what waits for a window, a frame a stream in turn."""
        while self.waiting and self.send_left > 0 and not self.write_paused:
            before = self.queued_bytes
            for stream in list(self.waiting.values()):
                stream.push()
            if self.queued_bytes == before:
                return

    def widen(self, increment: int) -> None:
        """The client gives us more of the connection's window."""
        if self.send_left + increment > MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window overflows")
        self.send_left += increment
        self.send_granted += increment
        if self.waiting:
            self.push_waiting()

    def apply_setting(self, key: int, value: int) -> None:
        """One of the client's SETTINGS. Raises `ConnectionFault` when it is out of range."""
        if key == frames.ENABLE_PUSH and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
        if key == frames.MAX_FRAME_SIZE:
            if not FRAME_BYTES <= value < 1 << 24:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE out of range")
            self.frame_bytes = min(value, 64 * 1024)
        if key == frames.INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE out of range")
            self._move_windows(value - self.initial_send_window)
            self.initial_send_window = value

    def _move_windows(self, difference: int) -> None:
        for stream in self.streams.values():
            stream.send_left += difference
            if stream.send_left > MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window overflows")

    def spend(self, points: int) -> None:
        """Take credit for a frame that costs us more than its sender. Raises `ConnectionFault` when there is none.

        It grows with time, finished calls and sent messages, so that only clients who do nothing but ask run out.
        """
        self.credit = credit = self.credit - points
        if 0 <= credit <= self._most_credit:
            return
        now_s = self.clock()
        if credit < 0:
            credit += (now_s - self._credit_s) * self.limits.credit_per_s
            if credit < 0:
                self.credit = credit
                self._credit_s = now_s
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")
        self.credit = min(credit, self._most_credit)
        self._credit_s = now_s

    def send_reset(self, stream_id: int, code: int) -> None:
        """RST_STREAM; the stream is no more."""
        raise NotImplementedError

    def remember_reset(self, stream_id: int) -> None:
        """We have ended this stream before the client did: its late frames are no fault."""
        raise NotImplementedError

    def forget(self, stream_id: int) -> None:
        """The stream has ended on both sides."""
        raise NotImplementedError

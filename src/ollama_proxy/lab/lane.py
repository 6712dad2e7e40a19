"""One direction of a connection through the fault proxy: bytes wait for their time, in order, and then go on."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable

from ollama_proxy.lab.wire_fault import Course, WireFault

#: What may wait here before the source is held back.
_MOST_WAITING_BYTES = 256 * 1024
_END = b""


class Lane:
    """From a source to a target. `strike` is called when the fault ends it, `ended` when its source has ended it."""

    def __init__(
        self, fault: WireFault, dice: random.Random, strike: Callable[[WireFault], None], ended: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._dice = dice
        self._course = Course(fault, dice)
        self._strike = strike
        self._ended = ended
        #: What may not pass while the fault is on.
        self._held = b""
        self._struck = False
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._waiting_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._last_due_s = 0.0
        self.source: asyncio.Transport | None = None
        self.target: asyncio.Transport | None = None
        self._target_full = False
        self._deaf = False

    def change(self, fault: WireFault) -> None:
        """Another fault is on: it counts from now, and what waits goes on as it was going to."""
        if self._course.fault is not fault:
            self._course, self._struck = Course(fault, self._dice), False
            held, self._held = self._held, b""
            if held:
                self.take(held)
            else:
                self._look()

    def connect(self, source: asyncio.Transport, target: asyncio.Transport) -> None:
        """Both ends are there; what came before goes on now."""
        self.source, self.target = source, target
        self._pass_on()
        self._hold_back()
        self._look()

    def take(self, data: bytes) -> None:
        """Bytes from the source."""
        if self._struck:
            self._held += data
            self._hold_back()
            return
        now_s = self._loop.time()
        pieces, self._held = self._course.take(data)
        for delay_s, piece in pieces:
            self._last_due_s = max(self._last_due_s, now_s + delay_s)
            self._waiting.append((self._last_due_s, piece))
            self._waiting_bytes += len(piece)
        self._pass_on()
        self._hold_back()
        self._look()

    def end(self) -> None:
        """The source says that nothing more comes."""
        if not self._struck:
            self._waiting.append((max(self._last_due_s, self._loop.time()), _END))
            self._pass_on()

    def hold_back(self, *, full: bool) -> None:
        """The target's buffer has filled up, or emptied."""
        self._target_full = full
        self._hold_back()

    def close(self) -> None:
        """Forget what waits."""
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()
        self.source = self.target = None

    def _look(self) -> None:
        """Let the end strike when its time has come and what came before has passed."""
        if not self._struck and not self._waiting and self.target is not None and self._course.ends_now():
            self._struck = True
            self._strike(self._course.fault)

    def _pass_on(self) -> None:
        if self._timer is not None or self.target is None:
            return
        now_s = self._loop.time()
        while self._waiting and self._waiting[0][0] <= now_s:
            _, piece = self._waiting.popleft()
            self._waiting_bytes -= len(piece)
            if piece:
                self.target.write(piece)
            else:
                self._finish(self.target)
                return
        if self._waiting:
            self._timer = self._loop.call_at(self._waiting[0][0], self._wake)

    def _finish(self, target: asyncio.Transport) -> None:
        if target.can_write_eof() and not target.is_closing():
            target.write_eof()
        self._ended()

    def _wake(self) -> None:
        self._timer = None
        self._pass_on()
        self._hold_back()
        self._look()

    def _hold_back(self) -> None:
        """Read from the source only while there is room."""
        deaf = self._target_full or self._waiting_bytes + len(self._held) > _MOST_WAITING_BYTES
        if self.source is None or deaf is self._deaf or self.source.is_closing():
            return
        self._deaf = deaf
        if deaf:
            self.source.pause_reading()
        else:
            self.source.resume_reading()

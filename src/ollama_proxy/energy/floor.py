"""What a device draws when it does nothing for us: the running 5th percentile of its idle power."""

from __future__ import annotations

from collections import deque

#: Idle time is looked at in pieces of this length: a counter that steps every 100 ms shows shorter ones too coarsely.
WINDOW_S = 2.0
_PERCENTILE = 0.05
_WINDOWS_KEPT = 256


class IdleFloor:
    """Watts when idle, from idle intervals; `fixed_w` is for meters that show none (an apportioned device)."""

    def __init__(self, fixed_w: float | None = None) -> None:
        self._fixed_w = fixed_w
        self._windows_w: deque[float] = deque(maxlen=_WINDOWS_KEPT)
        self._sorted_w: list[float] = []
        self._joules = 0.0
        self._seconds = 0.0

    def learn(self, seconds: float, joules: float) -> None:
        """An interval in which nothing of ours ran; pieces need not follow each other."""
        self._seconds += seconds
        self._joules += joules
        if self._seconds >= WINDOW_S:
            self._windows_w.append(self._joules / self._seconds)
            self._sorted_w = sorted(self._windows_w)
            self._joules = self._seconds = 0.0

    @property
    def watts(self) -> float | None:
        """The floor; None before the first window."""
        if self._fixed_w is not None or not self._sorted_w:
            return self._fixed_w
        return self._sorted_w[int(_PERCENTILE * len(self._sorted_w))]

    @property
    def doubt_w(self) -> float:
        """How far idle power usually lies above the floor: what others use, and what lingers after work."""
        if self._fixed_w is not None or not self._sorted_w:
            return 0.0
        return self._sorted_w[len(self._sorted_w) // 2] - self._sorted_w[int(_PERCENTILE * len(self._sorted_w))]

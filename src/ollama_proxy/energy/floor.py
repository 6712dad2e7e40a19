"""What a device draws when it does nothing for us: its floor, the running 5th percentile of idle power, and more."""

from __future__ import annotations

from collections import deque

#: Idle time is looked at in pieces of this length: a counter that steps every 100 ms shows shorter ones too coarsely.
WINDOW_S = 2.0
_PERCENTILE = 0.05
_WINDOWS_KEPT = 256
#: Intervals closer than this follow each other.
_TOGETHER_S = 1e-6
_AFTER_SHARE = 0.3


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


class Edges:
    """Power above the floor just before and just after work: clocks that linger, others' programs.

    A meter's interval in which a request begins or ends holds some of it, which is not the request's.
    """

    def __init__(self) -> None:
        self._idle_to_s = float("nan")
        self._before_w = 0.0
        self._busy_to_s = float("nan")
        self._after_w: float | None = None

    def see_idle(self, from_s: float, to_s: float, watts: float) -> None:
        """An interval without work, and its power above the floor. The first one after work tells what lingers."""
        if abs(from_s - self._busy_to_s) < _TOGETHER_S:
            self._after_w = watts if self._after_w is None else self._after_w + _AFTER_SHARE * (watts - self._after_w)
        self._idle_to_s, self._before_w = to_s, watts

    def see_busy(self, to_s: float) -> None:
        """An interval with work in it."""
        self._busy_to_s = to_s

    def estimate(self, from_s: float, before_s: float, after_s: float) -> float:
        """Joules above the floor that an interval from `from_s` on holds from before and after the work in it."""
        before_w = self._before_w if abs(from_s - self._idle_to_s) < _TOGETHER_S else 0.0
        return before_w * before_s + (self._after_w or 0.0) * after_s

"""How often somebody may ask: so many requests a second, and a few more at once after a while of silence."""

from __future__ import annotations

#: More callers than this are kept only while they have asked within the last moments.
_MOST_KEPT = 10_000


class RateLimiter:
    """A bucket for each caller that fills at `rate` a second up to `burst`. The clock is handed in."""

    def __init__(self, rate: float, burst: int) -> None:
        self._interval_s = 1 / rate
        self._tolerance_s = (burst - 1) / rate
        #: When each caller's bucket is full again.
        self._full_s: dict[str, float] = {}

    def take(self, caller: str, now_s: float) -> float:
        """Count one more request; seconds until it may come, 0 where it may now and is counted."""
        full_s = max(now_s, self._full_s.get(caller, 0.0))
        wait_s = full_s - now_s - self._tolerance_s
        if wait_s > 0:
            return wait_s
        if len(self._full_s) >= _MOST_KEPT:
            self._full_s = {name: at_s for name, at_s in self._full_s.items() if at_s > now_s}
        self._full_s[caller] = full_s + self._interval_s
        return 0.0

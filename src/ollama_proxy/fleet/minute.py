"""How many requests ended in the last minute, by the second: sixty numbers, however many there were."""

from __future__ import annotations

_SECONDS = 60


class LastMinute:
    """Counts by whole seconds; the clock is handed in and must not go back."""

    __slots__ = ("_counts", "_second", "total")

    def __init__(self) -> None:
        self._counts = [0] * _SECONDS
        self._second = 0
        #: Of the last sixty seconds, the current one included, as of the last call.
        self.total = 0

    def count(self, now_s: float) -> None:
        """One more has ended."""
        second = int(now_s)
        if second != self._second:
            self.move(second)
        self._counts[second % _SECONDS] += 1
        self.total += 1

    def move(self, now_s: float) -> None:
        """Forget what is older than a minute."""
        second = int(now_s)
        for passed in range(max(self._second + 1, second - _SECONDS + 1), second + 1):
            self.total -= self._counts[passed % _SECONDS]
            self._counts[passed % _SECONDS] = 0
        self._second = max(second, self._second)

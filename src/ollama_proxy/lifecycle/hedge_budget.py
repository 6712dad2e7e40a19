"""How many requests may be sent to a second backend at the same time: a share of all requests, saved up to a few."""

from __future__ import annotations

SHARE = 0.05
_MOST_SAVED = 5.0


class HedgeBudget:
    """Counts by the serial numbers of requests."""

    __slots__ = ("_saved", "_serial")

    def __init__(self) -> None:
        self._serial = 0
        self._saved = 0.0

    def take(self, serial: int) -> bool:
        """Whether there may be one more; `serial` is the number of the latest request."""
        self._saved = min(_MOST_SAVED, self._saved + SHARE * (serial - self._serial))
        self._serial = serial
        if self._saved < 1:
            return False
        self._saved -= 1
        return True

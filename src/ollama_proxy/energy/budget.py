"""An energy budget by the hour: what was spent in the last sixty minutes, and when there will be something left."""

from __future__ import annotations

from collections import deque

_HOUR_S = 3600.0
#: Spending is kept by pieces of so many seconds.
_PIECE_S = 60.0


class HourlyBudget:
    """Joules of the last hour against a limit. The clock is handed in and must not go back; 0 Wh is no limit."""

    def __init__(self, watt_hours: float) -> None:
        self.limit_j = watt_hours * 3600.0
        #: When each piece began, and its joules.
        self._pieces: deque[list[float]] = deque()
        self._spent_j = 0.0

    def spend(self, joules: float | None, now_s: float) -> None:
        """A request has taken this much; None where nobody knows."""
        if not self.limit_j or not joules:
            return
        self._forget(now_s)
        if not self._pieces or now_s - self._pieces[-1][0] >= _PIECE_S:
            self._pieces.append([now_s, 0.0])
        self._pieces[-1][1] += joules
        self._spent_j += joules

    def wait_s(self, now_s: float) -> float:
        """Seconds until something may be spent again; 0 while there is something left."""
        if not self.limit_j:
            return 0.0
        self._forget(now_s)
        over_j = self._spent_j - self.limit_j
        if over_j < 0:
            return 0.0
        for began_s, joules in self._pieces:
            over_j -= joules
            if over_j < 0:
                # A hair later, so that rounding does not make it a hair early.
                return began_s + _PIECE_S + _HOUR_S - now_s + 0.001
        return _HOUR_S

    def spent_wh(self, now_s: float) -> float:
        """Of the last hour."""
        self._forget(now_s)
        return self._spent_j / 3600.0

    def _forget(self, now_s: float) -> None:
        while self._pieces and now_s - self._pieces[0][0] >= _HOUR_S + _PIECE_S:
            self._spent_j -= self._pieces.popleft()[1]
        if not self._pieces:
            self._spent_j = 0.0

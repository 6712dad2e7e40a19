"""A sum over the last so many seconds, against a limit: how much is left, and when there will be more."""

from __future__ import annotations

from collections import deque

#: What was spent is kept by so many pieces of the span.
_PIECES = 60
#: A hair later, so that rounding does not make it a hair early.
_HAIR_S = 0.001


class Window:
    """What was spent in the last `span_s` seconds. The clock is handed in and must not go back; limit 0 is no limit."""

    __slots__ = ("_piece_s", "_pieces", "_span_s", "limit", "spent")

    def __init__(self, limit: float, span_s: float) -> None:
        self.limit = limit
        #: As of the last look.
        self.spent = 0.0
        self._span_s = span_s
        self._piece_s = span_s / _PIECES
        #: When each piece began, and its sum.
        self._pieces: deque[list[float]] = deque()

    def spend(self, amount: float, now_s: float) -> None:
        """So much more; less than nothing gives back what was taken too much."""
        if not self.limit or not amount:
            return
        self._forget(now_s)
        if not self._pieces or now_s - self._pieces[-1][0] >= self._piece_s:
            self._pieces.append([now_s, 0.0])
        self._pieces[-1][1] += amount
        self.spent += amount

    def wait_s(self, now_s: float, amount: float = 0.0) -> float:
        """Seconds until `amount` more may be spent; 0 when it may be now.

        Whoever has spent nothing may spend any amount once, or what is larger than the limit could never be.
        """
        if not self.limit:
            return 0.0
        self._forget(now_s)
        over = self.spent + amount - self.limit
        if (over <= 0 and self.spent < self.limit) or self.spent <= 0:
            return 0.0
        left = self.spent
        for began_s, sum_ in self._pieces:
            over -= sum_
            left -= sum_
            if (over <= 0 and left < self.limit) or left <= 0:
                return began_s + self._piece_s + self._span_s - now_s + _HAIR_S
        return self._span_s

    def spent_at(self, now_s: float) -> float:
        """Of the last span."""
        self._forget(now_s)
        return self.spent

    def _forget(self, now_s: float) -> None:
        pieces = self._pieces
        while pieces and now_s - pieces[0][0] >= self._span_s + self._piece_s:
            self.spent -= pieces.popleft()[1]
        if not pieces:
            self.spent = 0.0

"""How many attempts beyond the first there may be in all: without a bound, many failures would multiply the load.

Over the last ten seconds, a share of the requests and so many a second besides, from the first request within them
on: after a quiet time a failing fleet is not given ten seconds' worth at once. The clock is handed in.
"""

from __future__ import annotations

from collections import deque

WINDOW_S = 10
SHARE = 0.2
PER_S = 10.0


class RetryBudget:
    """Counts by the second."""

    __slots__ = ("_requests", "_retries", "_second", "_seconds")

    def __init__(self) -> None:
        #: (requests, further attempts) of the seconds before this one, latest last.
        self._seconds: deque[tuple[int, int]] = deque(maxlen=WINDOW_S - 1)
        self._second = 0
        self._requests = self._retries = 0

    def opened(self, now_s: float, *, again: bool) -> None:
        """An attempt has begun: a request's first, or one more."""
        if int(now_s) != self._second:
            self._move(int(now_s))
        if again:
            self._retries += 1
        else:
            self._requests += 1

    def allows(self, now_s: float) -> bool:
        """Whether one more attempt is within the budget."""
        if int(now_s) != self._second:
            self._move(int(now_s))
        requests, retries, seconds = self._requests, self._retries, 1
        for ago, (asked, again) in enumerate(reversed(self._seconds), 2):
            requests += asked
            retries += again
            if asked or again:
                seconds = ago
        return retries + 1 <= SHARE * requests + PER_S * seconds

    def _move(self, second: int) -> None:
        passed = second - self._second
        self._second = second
        self._seconds.append((self._requests, self._retries))
        self._requests = self._retries = 0
        for _ in range(min(passed - 1, WINDOW_S)):
            self._seconds.append((0, 0))

"""A breaker: who fails is left alone for a while, tried with one request, and given more as it does well.

```
CLOSED --failures in a row, or a second of nothing else--> OPEN --its time is over--> TRYING --did well--> CLOSED
                                                            ^                           |
                                                            +------------failed---------+
```

While it is tried, one request an interval may go there until one does well; then a share that grows over `RAMP_S`.
Whoever fails again after that, or costs each client seconds to find it out, is left alone for twice as long the next
time. Between two changes of CLOSED to something else, or back, there are at least `DWELL_S`. Without I/O; the clock is
handed in.
"""

from __future__ import annotations

import enum

FIRST_OUT_S, LONGEST_OUT_S = 1.5, 30.0
#: Of nothing but failures.
LONG_FAILING_S = 1.0
RAMP_S = 5.0
DWELL_S = 5.0
#: Failures are forgotten, and how often it was left alone, after so long a time without any.
FORGET_S = 60.0
#: How many requests at once there are at the end of the ramp; beyond that nobody counts.
_RAMP_TOP = 16


class Phase(enum.Enum):
    """Where a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    TRYING = "half-open"


class Breaker:
    """Of one backend, or of one model on it."""

    __slots__ = (
        "_closed_s",
        "_failed_s",
        "_failing_since_s",
        "_level",
        "_opened_s",
        "_ramp_s",
        "_threshold",
        "_until_s",
        "failures",
        "phase",
        "why",
    )

    def __init__(self, threshold: int) -> None:
        """`threshold` failures in a row open it."""
        self._threshold = threshold
        self.phase = Phase.CLOSED
        #: In a row.
        self.failures = 0
        #: Of the last failure, a clause for people.
        self.why = ""
        self._failing_since_s = self._failed_s = self._opened_s = 0.0
        #: When the next request may go there.
        self._until_s = 0.0
        self._level = 0
        #: Since when it does well again; None before it does.
        self._ramp_s: float | None = None
        #: When it was closed last; None where it never was open.
        self._closed_s: float | None = None

    def failed(self, now_s: float, why: str, *, at_once: bool = False, slow: bool = False) -> None:
        """A request failed there. `at_once`: that says enough by itself; `slow`: it cost the client seconds."""
        if not self.failures:
            self._failing_since_s = now_s
        self.failures += 1
        self._failed_s = now_s
        self.why = why
        if self.phase is Phase.TRYING:
            self._open(now_s, grow=slow or self._ramp_s is not None)
        elif self.phase is Phase.CLOSED and (at_once or self._has_failed_enough(now_s)) and self._may_change(now_s):
            self._opened_s = now_s
            self._open(now_s, grow=self._closed_s is not None and now_s - self._closed_s < FORGET_S)

    def _has_failed_enough(self, now_s: float) -> bool:
        lasting = self.failures > 1 and now_s - self._failing_since_s >= LONG_FAILING_S
        return lasting or self.failures >= self._threshold

    def _may_change(self, now_s: float) -> bool:
        return self._closed_s is None or now_s - self._closed_s >= DWELL_S

    def _open(self, now_s: float, *, grow: bool) -> None:
        self.phase = Phase.OPEN
        self._level += grow
        self._until_s = now_s + self._out_s
        self._ramp_s = None

    @property
    def _out_s(self) -> float:
        return float(min(LONGEST_OUT_S, FIRST_OUT_S * 2 ** min(self._level, 10)))

    def succeeded(self, now_s: float) -> None:
        """A request was answered there."""
        self.failures = 0
        if self.phase is Phase.CLOSED:
            return
        if self.phase is Phase.TRYING:
            self._until_s = min(self._until_s, now_s)
        self.phase = Phase.TRYING
        if self._ramp_s is None:
            self._ramp_s = now_s
        elif now_s - self._ramp_s >= RAMP_S and now_s - self._opened_s >= DWELL_S:
            self.phase = Phase.CLOSED
            self._closed_s = now_s
            self._ramp_s = None

    def move(self, now_s: float) -> None:
        """Time has passed."""
        if self.phase is Phase.OPEN and now_s >= self._until_s:
            self.phase = Phase.TRYING

    def tried(self, now_s: float) -> None:
        """A request has been sent there."""
        if self.phase is Phase.TRYING and self._ramp_s is None:
            self._until_s = now_s + self._out_s

    def most(self, now_s: float) -> int | None:
        """How many requests at once may be there; None for as many as there are."""
        if self.phase is Phase.CLOSED:
            return None
        if self.phase is Phase.OPEN or now_s < self._until_s:
            return 0
        if self._ramp_s is None:
            return 1
        share = (now_s - self._ramp_s) / RAMP_S
        return None if share >= 1 else 1 + int(_RAMP_TOP * share)

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next request may go there."""
        return max(0.0, self._until_s - now_s)

    def is_forgotten(self, now_s: float) -> bool:
        """Whether nothing is left to be remembered of it."""
        if self.phase is not Phase.CLOSED:
            return False
        return now_s - max(self._failed_s, self._closed_s or 0.0) >= FORGET_S or (
            not self.failures and self._closed_s is None
        )

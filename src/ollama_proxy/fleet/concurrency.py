"""How many requests at once a server does well with, where nobody has said: a limit by the gradient of its latency.

What is watched is the time that an answer takes for each of its tokens, its wait in the server's own queue included.
While that is near the best that was seen, the limit grows by its square root; when it is several times as long, the
limit shrinks by the ratio. Without I/O; the clock is handed in.
"""

from __future__ import annotations

import math
from statistics import median

#: So many times the best is what working on several requests together may cost.
TOLERANCE = 2.0
_WINDOW_S = 1.0
_LEAST_SAMPLES, _MOST_SAMPLES = 3, 256
#: At most so much is taken off at once: one window may have seen the queue of another time.
_LEAST_GRADIENT = 0.5
LEAST, MOST = 2, 512
_LEAST_S = 1e-6
#: The best that was seen is forgotten by so much a second: it may have been a fluke, or another model.
_FORGET_PER_S = 1.001


class AdaptiveLimit:
    """Of one backend. It limits nothing until answers take long."""

    __slots__ = ("_began_s", "_best_s", "_limit", "_most", "_samples")

    def __init__(self) -> None:
        self._samples: list[float] = []
        self._best_s = math.inf
        self._limit = math.inf
        self._began_s = 0.0
        #: Most requests at once since the window began.
        self._most = 0

    @property
    def limit(self) -> int | None:
        """Requests at once; None for as many as there are."""
        return None if math.isinf(self._limit) else int(self._limit)

    def ended(self, s_per_token: float, in_flight: int) -> None:
        """An answer took so long for each of its tokens, beside others."""
        if len(self._samples) < _MOST_SAMPLES:
            self._samples.append(max(s_per_token, _LEAST_S))
        self._most = max(self._most, in_flight)

    def move(self, now_s: float, in_flight: int) -> None:
        """Time has passed; `in_flight` are there now."""
        self._most = max(self._most, in_flight)
        passed_s = now_s - self._began_s
        if passed_s < _WINDOW_S:
            return
        self._began_s = now_s
        self._best_s *= _FORGET_PER_S ** min(passed_s, 60.0)
        samples, self._samples = self._samples, []
        most, self._most = self._most, in_flight
        if len(samples) < _LEAST_SAMPLES:
            return
        sample_s = median(samples)
        self._best_s = min(self._best_s, sample_s)
        gradient = max(_LEAST_GRADIENT, min(1.0, TOLERANCE * self._best_s / sample_s))
        if gradient < 1:
            self._shrink(gradient, in_flight, most)
        elif most >= self._limit / 2:
            self._limit = min(float(MOST), self._limit + math.sqrt(self._limit))
        elif not math.isinf(self._limit) and most < self._limit / 4:
            # Nobody needs it.
            self._limit = math.inf

    def _shrink(self, gradient: float, in_flight: int, most: int) -> None:
        if in_flight > self._limit:
            # What was sent before it shrank is still there; it says nothing of the limit now.
            return
        limit = min(self._limit, float(most))
        self._limit = max(float(LEAST), min(limit, gradient * limit + math.sqrt(limit)))

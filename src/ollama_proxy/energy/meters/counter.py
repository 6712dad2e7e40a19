"""From what a counter shows to what was really spent: wraps, resets, gaps and nonsense. Pure.

A counter that shows less than before has wrapped at its range or was reset (suspend, driver reload). It is taken for a
wrap only when the power that would follow is possible; otherwise the interval is dropped and marked as a gap, because
a hole is better than a wrong sum. The same holds for a jump ahead that no such device can make, and for a pause so
long that the counter may have wrapped once more than one can see.
"""

from __future__ import annotations

import math
from typing import NamedTuple

#: Counters of hardware are updated in steps, so a short interval may hold the energy of a longer one.
_SLACK_S = 1.0


class Point(NamedTuple):
    """At `at_s` the sum was `total`; with `gap`, what happened since the point before is not known and not in it.

    `noise` is the sum of what the shape between looks may have hidden until here (only when power is integrated).
    `held` says that looks since the point before saw it stand still.
    """

    at_s: float
    total: float
    gap: bool
    noise: float = 0.0
    held: bool = False


class Counter:
    """Monotone sum of a counter that may wrap at `range_` and never runs faster than `max_rate` units a second."""

    def __init__(self, range_: float | None = None, max_rate: float = math.inf) -> None:
        self._range = range_ if range_ is not None and range_ > 0 else None
        self._max_rate = max_rate
        self._last: tuple[float, float] | None = None
        self._total = 0.0

    def update(self, value: float, at_s: float) -> Point | None:
        """The new point; None for a value that says nothing: not finite, negative, beyond the range, no time passed."""
        if not (math.isfinite(value) and math.isfinite(at_s)) or value < 0:
            return None
        if self._range is not None and value > self._range:
            return None
        if self._last is None:
            self._last = (at_s, value)
            return Point(at_s, 0.0, gap=True)
        before_s, before = self._last
        if at_s <= before_s:
            return None
        self._last = (at_s, value)
        delta = self._judge(value - before, at_s - before_s)
        if delta is not None:
            self._total += delta
        return Point(at_s, self._total, gap=delta is None)

    def _judge(self, delta: float, passed_s: float) -> float | None:
        """What was really counted; None when that cannot be told."""
        most = self._max_rate * (passed_s + _SLACK_S)
        if delta < 0:
            if self._range is None:
                return None
            delta += self._range
        if delta > most:
            return None
        hidden = self._range is not None and delta + self._range <= self._max_rate * passed_s
        return None if hidden else delta


class Integrator:
    """Joules from watts that are looked at now and then: the trapezoid between two looks, at most `longest_s` apart."""

    def __init__(self, longest_s: float, max_watts: float = math.inf) -> None:
        self.longest_s = longest_s
        self._max_watts = max_watts
        self._last: tuple[float, float] | None = None
        self._total = 0.0
        self._noise = 0.0

    def update(self, watts: float, at_s: float) -> Point | None:
        """The new point; None for watts that say nothing."""
        if not (math.isfinite(watts) and math.isfinite(at_s)) or not 0 <= watts <= self._max_watts:
            return None
        if self._last is None:
            self._last = (at_s, watts)
            return Point(at_s, 0.0, gap=True)
        before_s, before = self._last
        passed_s = at_s - before_s
        if passed_s <= 0:
            return None
        self._last = (at_s, watts)
        if passed_s > self.longest_s:
            return Point(at_s, self._total, gap=True, noise=self._noise)
        self._total += (before + watts) / 2 * passed_s
        self._noise += abs(before - watts) / 2 * passed_s
        return Point(at_s, self._total, gap=False, noise=self._noise)

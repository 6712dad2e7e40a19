"""A backend's requests in each other's company: how many ran at once and when, and what is learned of how that slows.

k at once get k^beta done, so each takes k^(1 - beta) times as long as alone. The exponent is a matter of a model on a
backend; it starts as configured, and requests that ran alone tell nothing of it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Protocol

#: A request's company while it was written, as how many times longer it took for it: the logarithms of that for a
#: beta of 1/2, and of 0. What lies between follows from the two, whatever mix of numbers it was.
Company = tuple[float, float]
ALONE: Company = (0.0, 0.0)
#: Changes of the number that are remembered of a backend, at most.
_MOST_CHANGES = 1024
#: A configured exponent is right, give or take about a quarter.
_PRIOR_VAR = 0.1
_DRIFT_VAR_PER_S = 2e-7
_RESTART_VAR = 0.0025
_LEAST_VAR = 1e-6
#: The two beliefs are never taken to be one.
_MOST_CORRELATION = 0.99


class Occupancy:
    """How many requests have run at a backend, and when: sums over time of the work that is lost by it."""

    __slots__ = ("_at_s", "_halves", "_losses", "_wholes")

    def __init__(self) -> None:
        #: When the number changed, and what had been lost by then for the one beta and the other, in seconds.
        self._at_s = [0.0]
        self._halves = [0.0]
        self._wholes = [0.0]
        #: What is lost in a second since the last change.
        self._losses: Company = (0.0, 0.0)

    def change(self, together: int, now_s: float) -> None:
        """So many run from now on."""
        losses = (1 - together**-0.5, 1 - 1 / together) if together > 1 else (0.0, 0.0)
        if losses == self._losses:
            return
        at_s, (half, whole) = self._at_s, self._losses
        passed_s = max(0.0, now_s - at_s[-1])
        at_s.append(at_s[-1] + passed_s)
        self._halves.append(self._halves[-1] + half * passed_s)
        self._wholes.append(self._wholes[-1] + whole * passed_s)
        self._losses = losses
        if len(at_s) > _MOST_CHANGES:
            for kept in (at_s, self._halves, self._wholes):
                del kept[: _MOST_CHANGES // 2]

    def between(self, from_s: float, until_s: float) -> Company:
        """The company of a request that ran for an interval, as far back as is remembered."""
        from_s = max(from_s, self._at_s[0])
        if until_s <= from_s:
            return ALONE
        before, after = self._lost(from_s), self._lost(until_s)
        took_s = until_s - from_s
        half, whole = (after[0] - before[0]) / took_s, (after[1] - before[1]) / took_s
        # Rounding may leave less than nothing.
        return (-math.log1p(-half), -math.log1p(-whole)) if half > 1e-9 and whole > 1e-9 else ALONE

    def _lost(self, at_s: float) -> tuple[float, float]:
        """What had been lost by a time."""
        place = bisect_right(self._at_s, at_s) - 1
        passed_s = at_s - self._at_s[place]
        if place + 1 < len(self._at_s):
            share = passed_s / (self._at_s[place + 1] - self._at_s[place])
            halves, wholes = self._halves, self._wholes
            return (
                halves[place] + share * (halves[place + 1] - halves[place]),
                wholes[place] + share * (wholes[place + 1] - wholes[place]),
            )
        half, whole = self._losses
        return self._halves[place] + half * passed_s, self._wholes[place] + whole * passed_s


class Rate(Protocol):
    """The belief in the logarithm of a rate alone."""

    var: float

    def move(self, innovation: float, gain: float, weight: float) -> None: ...


class Crowding:
    """The belief in the exponent. `cov` is its covariance with the belief in the logarithm of the rate alone: who was
    hardly seen alone may be slow, or slowed.
    """

    __slots__ = ("cov", "mean", "var")

    def __init__(self, prior: float) -> None:
        self.mean, self.var, self.cov = prior, _PRIOR_VAR, 0.0

    def age(self, seconds: float) -> None:
        """Time has passed."""
        self.var = min(_PRIOR_VAR, self.var + _DRIFT_VAR_PER_S * seconds)

    def restore(self, mean: float, var: float, age_s: float) -> None:
        """Take up what was believed `age_s` ago; a restart may mean another server."""
        self.mean, self.var, self.cov = min(max(mean, 0.0), 1.0), max(var, 0.0) + _RESTART_VAR, 0.0
        self.age(age_s)

    def expect(self, company: Company) -> tuple[float, float]:
        """How many times longer it makes a request take, as a logarithm, and by how much less for each 1 of beta."""
        half, whole = company
        lost = 1 - self.mean
        # The parabola through what is known for a beta of 1, 1/2 and 0.
        first, second = 4 * half - whole, 2 * whole - 4 * half
        return lost * (first + lost * second), max(0.0, first + 2 * lost * second)

    def add_doubt(self, rate_var: float, weight: float) -> float:
        """The variance of the logarithm of a rate in company, `rate_var` being that of alone."""
        return rate_var + weight * (2 * self.cov + weight * self.var)

    def forget(self, weight: float) -> None:
        """Something has changed while it mattered by so much."""
        self.var = max(self.var, min(1.0, weight * weight) * _PRIOR_VAR)

    def move(self, rate: Rate, innovation: float, total_var: float, weight: float) -> None:
        """Take in an innovation of the logarithm of a rate, which depends on this by `weight`; `rate` moves, too."""
        by_rate, by_self = rate.var + weight * self.cov, self.cov + weight * self.var
        rate_var, gain = rate.var, by_self / total_var
        rate.move(innovation, by_rate / total_var, by_rate / rate_var)
        self.var = max(self.var - gain * by_self, _LEAST_VAR)
        most = _MOST_CORRELATION * math.sqrt(rate.var * self.var)
        self.cov = min(max(self.cov - gain * by_rate, -most), most)
        moved = self.mean + gain * innovation
        self.mean = min(max(moved, 0.0), 1.0)
        if self.mean != moved:
            # What cannot be so of this one is to do with the rate, as far as the two go together.
            rate.move(self.mean - moved, self.cov / self.var, 0.0)

"""The last minutes of one source: sums between any two moments, with what they may be off by. Pure.

Between two looks the sum is drawn as a straight line. When the power changed once in between, from a to b, the line is
off by at most `f (1 - f) * seconds * |a - b|` at the fraction f; a and b are taken from the intervals beside. Where
looks were rare, or a counter stood still before it moved, everything that `max_rate` allows is doubted instead. On top
come, at each end, the age of a counter's value and its step.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from ollama_proxy.domain.metering import DOMAINS_OF_TIME, Energy, Reading, Source
from ollama_proxy.energy.meters.counter import Counter, Integrator, Point

#: In an interval longer than this, power may have come and gone unseen.
_SHORT_S = 1.0
#: Intervals to each side whose rates are looked at: the nearest may itself hold a change and show neither end of it.
_NEAR = 3
#: Watts now are a mean over about this time.
_NOW_S = 1.0
_LONGEST_PERIODS = 3.0


class Series:
    """Points of one source, `size` to twice as many."""

    def __init__(self, source: Source, size: int = 2048) -> None:
        self.source = source
        self.gaps = 0
        self._size = size
        self._points: list[Point] = []
        self._counter: Counter | None = None
        self._integrator: Integrator | None = None
        self._is_time = source.domain in DOMAINS_OF_TIME
        self._watts: tuple[float, float] | None = None
        self._fresh_until_s = float("-inf")
        self._lasted_s = 0.0
        self._held = False

    def add(self, reading: Reading, period_s: float) -> None:
        """Take a reading; `period_s` is how often the source is looked at just now."""
        lasts_s = 2 * max(period_s, self.source.update_s)
        point = self._turn(reading, lasts_s)
        if reading.watts is not None and 0 <= reading.watts <= self.source.max_rate:
            self._watts = (reading.at_s, reading.watts)
        if point is None:
            return
        # A counter of energy that stands still has frozen, or is between two of its steps: no news is no point.
        if self._points and reading.joules is not None and not point.gap and point.total == self._points[-1].total:
            self._held = True
            return
        point = point._replace(held=self._held)
        self._held = False
        self.gaps += point.gap and bool(self._points)
        self._points.append(point)
        self._fresh_until_s = point.at_s + lasts_s
        if len(self._points) > 2 * self._size:
            del self._points[: -self._size]

    def between(self, from_s: float, to_s: float) -> Energy | None:
        """The sum between two moments; None when one is outside what is known, or something in between is not known."""
        points = self._points
        if not points or from_s > to_s or from_s < points[0].at_s or to_s > points[-1].at_s:
            return None
        first = bisect_right(points, from_s, key=_at) - 1
        last = bisect_left(points, to_s, key=_at)
        if any(point.gap for point in points[first + 1 : last + 1]):
            return None
        start, start_off = self._value(from_s, first)
        end, end_off = self._value(to_s, max(0, last - 1))
        shape = max(0.0, points[last].noise - points[first].noise)
        return Energy(max(0.0, end - start), start_off + end_off + shape)

    def watts(self, now_s: float) -> float | None:
        """Mean power of about the last second; None when the source is stale or counts no energy."""
        if self.is_stale(now_s) or self._is_time:
            return None
        if self._watts is not None and self._watts[0] >= self._points[-1].at_s:
            return self._watts[1]
        last = len(self._points) - 1
        first = last
        while first > 0 and not self._points[first].gap and self._points[last].at_s - self._points[first].at_s < _NOW_S:
            first -= 1
        passed_s = self._points[last].at_s - self._points[first].at_s
        return (self._points[last].total - self._points[first].total) / passed_s if passed_s > 0 else None

    def is_stale(self, now_s: float) -> bool:
        """Whether nothing new has come for two periods."""
        return not self._points or now_s > self._fresh_until_s

    @property
    def span(self) -> tuple[float, float] | None:
        """The moments that can be asked about; gaps may lie between."""
        return (self._points[0].at_s, self._points[-1].at_s) if self._points else None

    def _turn(self, reading: Reading, lasts_s: float) -> Point | None:
        figure = reading.busy_s if self._is_time else reading.joules
        if figure is not None:
            self._counter = self._counter or Counter(self.source.range, self.source.max_rate)
            return self._counter.update(figure, reading.at_s)
        if reading.watts is None or self._is_time or self._counter is not None:
            return None
        if self._integrator is None:
            self._integrator = Integrator(0.0, self.source.max_rate)
        # The pace may just have changed: the pause before this look was of the old one.
        self._integrator.longest_s = _LONGEST_PERIODS / 2 * max(lasts_s, self._lasted_s)
        self._lasted_s = lasts_s
        return self._integrator.update(reading.watts, reading.at_s)

    def _value(self, at_s: float, index: int) -> tuple[float, float]:
        """The sum at a moment in the interval that begins with point `index`, and how far it may be off."""
        points = self._points
        here = points[index]
        if index + 1 == len(points) or points[index + 1].at_s <= here.at_s:
            return here.total, self.source.step
        after = points[index + 1]
        passed_s = after.at_s - here.at_s
        fraction = (at_s - here.at_s) / passed_s
        rate = self._rate(index)
        before_rate, after_rate = self._rate_beside(index - 1), self._rate_beside(index + 1)
        blind = after.held or passed_s > _SHORT_S or (before_rate is None and after_rate is None)
        if blind:
            shape = _bound_shape(fraction, after.total - here.total, self.source.max_rate * passed_s)
        else:
            near = [self._rate_beside(index + step) for step in range(-_NEAR, _NEAR + 1) if step]
            swing = _find_swing([rate, *(one for one in near if one is not None)], before_rate, after_rate)
            shape = passed_s * _doubt_rate(fraction, swing, before_rate, rate, after_rate)
        off = shape + rate * self.source.update_s + self.source.step
        return here.total + fraction * (after.total - here.total), off

    def _rate(self, index: int) -> float:
        here, after = self._points[index], self._points[index + 1]
        return (after.total - here.total) / (after.at_s - here.at_s)

    def _rate_beside(self, index: int) -> float | None:
        """The mean power of another interval, where it says something about this one."""
        if not 0 <= index < len(self._points) - 1:
            return None
        end = self._points[index + 1]
        return None if end.gap or end.held else self._rate(index)


def _find_swing(rates: list[float], before: float | None, after: float | None) -> float:
    """How far apart the rates of one change may be: as those around it, and nought may be beside what is unknown."""
    return max(rates) - (min(rates) if before is not None and after is not None else 0.0)


def _doubt_rate(fraction: float, swing: float, before: float | None, here: float, after: float | None) -> float:
    """How far a straight line may be off at a fraction of an interval of one second with one change of power."""
    doubt = fraction * (1 - fraction) * swing
    if after is None and before is not None and fraction < 1:
        return max(doubt, fraction * abs(before - here))
    if before is None and after is not None and fraction > 0:
        return max(doubt, (1 - fraction) * abs(after - here))
    return doubt


def _bound_shape(fraction: float, amount: float, most: float) -> float:
    """How far a straight line may be off at a fraction of an interval that holds `amount` of at most `most`."""
    line = fraction * amount
    latest = max(0.0, amount - most * (1 - fraction))
    earliest = min(amount, most * fraction)
    return max(line - latest, earliest - line, 0.0)


def _at(point: Point) -> float:
    return point.at_s

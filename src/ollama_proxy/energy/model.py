"""Modelled energy: configured watts times the seconds that a device worked for a request, shared among several."""

from __future__ import annotations

from collections import deque

import msgspec

from ollama_proxy.energy.apportioning import CONFIGURED_ERROR

_MOST_SPANS = 4096


class Figure(msgspec.Struct, frozen=True, gc=False):
    """What one attempt took, in joules. `joules` is the marginal figure where there is one; None where nobody knows."""

    joules: float | None
    kind: str
    full_j: float | None = None
    plus_minus_j: float | None = None


UNKNOWN = Figure(None, "unknown")


def energy_kind(power_watts: float, *, emulated: bool) -> str:
    """`emulated`, `modelled`, or `unknown` when no watts are configured."""
    if not power_watts:
        return "unknown"
    return "emulated" if emulated else "modelled"


def model_figure(power_watts: float, active_s: float, *, emulated: bool) -> Figure:
    """Joules of a request that kept a device busy for `active_s`; unknown when nobody knows its draw (0 W).

    The draw of a device that nobody measures has its floor in it, so that the marginal and the full figure are one.
    """
    if not power_watts:
        return UNKNOWN
    joules = power_watts * active_s if active_s > 0 else 0.0
    return Figure(joules, "emulated" if emulated else "modelled", joules, CONFIGURED_ERROR * joules)


class SharedTime:
    """A device's time, divided equally among the requests that are there at once.

    What requests get adds up to the time in which any was there. Processor sharing: a clock that runs by 1/k while k
    are there, so that beginning and ending cost the same however many there are. Seconds of a monotonic clock.
    """

    __slots__ = ("_busy_since_s", "_each_s", "_moved_s", "_spans", "running")

    def __init__(self) -> None:
        self.running = 0
        self._each_s = 0.0
        self._moved_s = 0.0
        self._busy_since_s = 0.0
        #: Times in which somebody was there and which have ended, in order.
        self._spans: deque[tuple[float, float]] = deque(maxlen=_MOST_SPANS)

    def begin(self, now_s: float) -> float:
        """A request begins; the mark to hand to `end`."""
        running = self.running
        if running:
            self._each_s += max(0.0, now_s - self._moved_s) / running
        else:
            self._busy_since_s = now_s
        self._moved_s = now_s
        self.running = running + 1
        return self._each_s

    def end(self, mark_s: float, now_s: float) -> float:
        """A request ends; its part of the time since `begin` gave it the mark."""
        running = self.running
        self._each_s += max(0.0, now_s - self._moved_s) / running
        self._moved_s = now_s
        self.running = running - 1
        if running == 1:
            self._spans.append((self._busy_since_s, now_s))
        return self._each_s - mark_s

    def busy_since(self) -> float | None:
        """Since when somebody is there; None when nobody is."""
        return self._busy_since_s if self.running else None

    def busy_s(self, from_s: float, to_s: float) -> float:
        """Seconds of a span in which somebody was there; what lies before the span is forgotten."""
        spans = self._spans
        while spans and spans[0][1] <= from_s:
            spans.popleft()
        total = sum(max(0.0, min(end_s, to_s) - max(begin_s, from_s)) for begin_s, end_s in spans)
        if self.running:
            total += max(0.0, to_s - max(self._busy_since_s, from_s))
        return total

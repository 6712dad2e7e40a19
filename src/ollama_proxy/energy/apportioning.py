"""One meter, several devices: the joules of a processor package, apportioned to what is in it.

Zones of their own (cores, graphics) are taken as they are. What no zone shows, such as an NPU, is learned: over each
window, package energy less the zones is fitted as `floor * seconds + sum(watts * busy seconds)`, none below zero, by
least squares with forgetting. Without zones all devices are learned so, from when requests were in flight on each.
A device whose watts the data does not tell well is `modelled` from its configured watts, never `apportioned`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import hypot, inf, sqrt

import msgspec

from ollama_proxy.domain.metering import FigureKind
from ollama_proxy.energy.least_squares import dot, invert, multiply, solve_nonnegative

#: Shorter intervals are gathered: an NPU's busy time may be read only once a second.
WINDOW_S = 1.0
#: Evidence counts half after this much of observed time.
HALF_LIFE_S = 900.0
#: After work so much idle time is looked at; a night of idleness must not outweigh the evening.
IDLE_LOOKED_AT_S = 30.0
#: A coefficient that is less certain than this is not used.
MOST_RELATIVE_ERROR = 0.3
#: Configured watts weigh as much as so many seconds of work, until it is known how much a second tells.
PRIOR_S = 5.0
#: What they may be off by, and what a device's draw varies by between prefill and decode.
CONFIGURED_ERROR = 0.5
PHASE_ERROR = 0.1
#: Standard errors that cover nine of ten.
_NINE_OF_TEN = 1.65
_LEAST_WINDOWS = 8


class DeviceShare(msgspec.Struct, frozen=True):
    """A device's part of an interval. `scale_error` is relative, alike in all its intervals, and covers nine of ten."""

    joules: float
    scale_error: float
    kind: FigureKind


class Split(msgspec.Struct, frozen=True):
    """Joules of an interval by device, None where nothing is known of it, and what is left: floor, memory, others."""

    shares: Mapping[str, DeviceShare | None]
    rest_j: float


class Draw(msgspec.Struct, frozen=True):
    """Watts of a device while it is busy; the standard error is None where they are configured, not learned."""

    watts: float
    standard_error_w: float | None
    kind: FigureKind


class Apportioning:
    """One package. `configured_w` names the devices without a zone of their own; 0 where no watts are configured."""

    def __init__(self, configured_w: Mapping[str, float], *, zone_kind: FigureKind = "measured") -> None:
        self._names = tuple(configured_w)
        self._configured_w = dict(configured_w)
        self._zone_kind = zone_kind
        size = len(self._names) + 1
        self._matrix = [[0.0] * size for _ in range(size)]
        self._vector = [0.0] * size
        self._square = 0.0
        self._windows = 0.0
        self._variance: float | None = None
        self._gathered = [0.0] * size
        self._gathered_j = 0.0
        self._idle_s = 0.0
        self._coefficients = [0.0] * size
        self._errors = [inf] * size
        self._solve()

    def split(self, seconds: float, joules: float, zones_j: Mapping[str, float], busy_s: Mapping[str, float]) -> Split:
        """Learn from an interval of the package's meter and divide it; the shares and the rest add up to `joules`.

        `zones_j` by device, for devices with a zone; `busy_s` by device, for those without.
        """
        self._gather(seconds, joules - sum(zones_j.values()), [busy_s.get(name, 0.0) for name in self._names])
        shares: dict[str, DeviceShare | None] = {}
        left_j = joules
        for name, zone_j in zones_j.items():
            shares[name] = DeviceShare(min(zone_j, left_j), 0.01, self._zone_kind)
            left_j -= min(zone_j, left_j)
        draws = {name: self.draw(name) for name in self._names}
        asked_j = sum(draw.watts * busy_s.get(name, 0.0) for name, draw in draws.items() if draw)
        # Errors of single intervals must not bill more than there was.
        cut = left_j / asked_j if asked_j > left_j else 1.0
        for name, draw in draws.items():
            shares[name] = _bill(draw, busy_s.get(name, 0.0) * cut)
        return Split(shares, left_j - min(asked_j, left_j))

    def draw(self, name: str) -> Draw | None:
        """What a device without a zone draws while busy, as it is used now; None where nothing is known."""
        index = self._names.index(name) + 1
        watts, error = self._coefficients[index], self._errors[index]
        if watts > 0 and error <= MOST_RELATIVE_ERROR * watts:
            return Draw(watts, error, "apportioned")
        configured_w = self._configured_w[name]
        return Draw(configured_w, None, "modelled") if configured_w > 0 else None

    @property
    def floor_w(self) -> float | None:
        """What the package draws beside zones and devices; None before it was seen."""
        return self._coefficients[0] if self._windows else None

    def _gather(self, seconds: float, joules: float, busy_s: Sequence[float]) -> None:
        for index, value in enumerate((seconds, *busy_s)):
            self._gathered[index] += value
        self._gathered_j += joules
        if self._gathered[0] < WINDOW_S:
            return
        terms, target_j = self._gathered, self._gathered_j
        self._gathered, self._gathered_j = [0.0] * len(terms), 0.0
        self._idle_s = 0.0 if any(terms[1:]) else self._idle_s + terms[0]
        if self._idle_s <= IDLE_LOOKED_AT_S:
            self._learn(terms, target_j)

    def _learn(self, terms: Sequence[float], target_j: float) -> None:
        """One window. Its weight is one over its length, as the errors of longer ones are larger."""
        keep = 0.5 ** (terms[0] / HALF_LIFE_S)
        weight = 1 / terms[0]
        for i, row in enumerate(self._matrix):
            for j, other in enumerate(terms):
                row[j] = row[j] * keep + weight * terms[i] * other
            self._vector[i] = self._vector[i] * keep + weight * terms[i] * target_j
        self._square = self._square * keep + weight * target_j * target_j
        self._windows = self._windows * keep + 1
        self._solve()

    def _solve(self) -> None:
        matrix = [list(row) for row in self._matrix]
        vector = list(self._vector)
        for index, name in enumerate(self._names, 1):
            watts = self._configured_w[name]
            if watts > 0:
                weight = PRIOR_S
                if self._variance is not None:
                    # As much as a measurement of that error would weigh: little beside clean data, much beside noise.
                    weight = self._variance / (CONFIGURED_ERROR / _NINE_OF_TEN * watts) ** 2
                matrix[index][index] += weight
                vector[index] += weight * watts
        self._coefficients = solve_nonnegative(matrix, vector)
        self._variance = self._find_variance()
        self._errors = self._find_errors()

    def _find_variance(self) -> float | None:
        """Squared error, in joules, of a second; None before there are windows enough."""
        free = self._windows - len(self._vector)
        if free < _LEAST_WINDOWS:
            return None
        found = self._coefficients
        left = self._square - 2 * dot(found, self._vector) + dot(found, multiply(self._matrix, found))
        return max(0.0, left) / free

    def _find_errors(self) -> list[float]:
        """Standard errors of the coefficients from the data alone: what is configured proves nothing."""
        inverse = invert(self._matrix)
        if inverse is None or self._variance is None:
            return [inf] * len(self._vector)
        return [sqrt(self._variance * inverse[i][i]) for i in range(len(inverse))]


def _bill(draw: Draw | None, busy_s: float) -> DeviceShare | None:
    if draw is None:
        return None
    if draw.standard_error_w is None:
        return DeviceShare(draw.watts * busy_s, CONFIGURED_ERROR, draw.kind)
    error = hypot(_NINE_OF_TEN * draw.standard_error_w / draw.watts, PHASE_ERROR)
    return DeviceShare(draw.watts * busy_s, error, draw.kind)

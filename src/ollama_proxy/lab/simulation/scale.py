"""A linear scale from figures to places on paper, with round ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

_MARGIN = 0.12  # of the span, at each end
_LEAST_MARGIN = 1e-2  # of the highest value, for values that are nearly one
_TICKS = 6


class Scale(msgspec.Struct, frozen=True):
    """Figures from `low` to `high` lie on paper from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    @staticmethod
    def spanning(values: Sequence[float], start: float, end: float, most: float = math.inf) -> Scale:
        """A scale with room around the values; it does not go below 0 and, unless a value does, not above `most`."""
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        room = max((high - low) * _MARGIN, abs(high) * _LEAST_MARGIN) or 1.0
        return Scale(max(low - room, min(0.0, low)), min(high + room, max(most, high)), start, end)

    def place(self, value: float) -> float:
        """Where on paper."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> tuple[float, ...]:
        """Multiples of 1, 2 or 5 times a power of ten within the scale."""
        rough = (self.high - self.low) / _TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return tuple(number * step for number in range(first, last + 1))

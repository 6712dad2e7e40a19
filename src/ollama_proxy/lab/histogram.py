"""A histogram of durations with a high dynamic range: exact to one part in 128 from a microsecond to days."""

from __future__ import annotations

from collections.abc import Iterable

#: Steps between a power of two and the next: each is at most one part in 128 of what it counts.
_STEPS_BITS = 7
_STEPS = 1 << _STEPS_BITS


class Histogram:
    """Counts microseconds in buckets whose width grows with their height."""

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count = 0
        self.highest_us = 0

    def record(self, seconds: float) -> None:
        """Count one duration; what is below nought counts as nought."""
        value = max(0, round(seconds * 1e6))
        place = _place(value)
        self._buckets[place] = self._buckets.get(place, 0) + 1
        self.count += 1
        self.highest_us = max(self.highest_us, value)

    def quantile_s(self, share: float) -> float | None:
        """The duration that this share of all does not exceed, rounded up by a bucket at most; None without any."""
        if not self.count:
            return None
        rank, seen = max(1, -(-self.count * share // 1)), 0
        for place in sorted(self._buckets):
            seen += self._buckets[place]
            if seen >= rank:
                return min(_highest_in(place), self.highest_us) / 1e6
        return self.highest_us / 1e6

    def describe_ms(self, shares: Iterable[tuple[str, float]]) -> dict[str, float]:
        """Named quantiles and the highest, in milliseconds; empty without any durations."""
        found = {name: self.quantile_s(share) for name, share in (*shares, ("max", 1.0))}
        return {name: round(value * 1000, 3) for name, value in found.items() if value is not None}


def _place(value: int) -> int:
    """The bucket of a value: below 128 one each, above 128 to a power of two."""
    shift = max(0, value.bit_length() - _STEPS_BITS - 1)
    return (shift << _STEPS_BITS) + (value >> shift)


def _highest_in(place: int) -> int:
    """The highest value of a bucket."""
    shift = max(0, (place >> _STEPS_BITS) - 1)
    return ((place - (shift << _STEPS_BITS) + 1) << shift) - 1

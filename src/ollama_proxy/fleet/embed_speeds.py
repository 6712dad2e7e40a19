"""How long backends take to make vectors: learned from each request that ran there alone, a line over the text's size.

What generating teaches of a model says nothing of this, and most models that make vectors never write a word.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import msgspec

#: What an older request still counts beside the next.
_FADING = 0.9
#: Where sizes differ by less than this (squared, as a share) the time besides the text cannot be told.
_LEAST_SPREAD = 0.05
_MOST_KEPT = 1024
#: Of a text besides its bytes: what stands around it.
_AROUND_A_TEXT = 16


def weigh(text: str) -> int:
    """Units that a text is reckoned with: about its bytes, never none."""
    return len(text.encode("utf-8", "replace")) + _AROUND_A_TEXT


class EmbedSpeed(msgspec.Struct, frozen=True):
    """A request of w units takes `fixed_s` + w * `s_per_unit` seconds."""

    fixed_s: float
    s_per_unit: float


class SavedSpeed(msgspec.Struct, frozen=True):
    """What was seen of a model on a backend, as it outlasts a restart: weighted sums of the requests' units (x) and
    seconds (y)."""

    count: float
    x: float
    y: float
    xx: float
    xy: float


class _Line:
    """Least squares of seconds over units, the latest first."""

    __slots__ = ("_count", "_x", "_xx", "_xy", "_y")

    def __init__(self) -> None:
        self._count = self._x = self._y = self._xx = self._xy = 0.0

    def add(self, units: float, seconds: float) -> None:
        # Relative errors are alike for long and short requests, absolute ones are not.
        weight = 1.0 / (units * units)
        self._count = self._count * _FADING + weight
        self._x = self._x * _FADING + weight * units
        self._y = self._y * _FADING + weight * seconds
        self._xx = self._xx * _FADING + weight * units * units
        self._xy = self._xy * _FADING + weight * units * seconds

    def save(self) -> SavedSpeed:
        return SavedSpeed(self._count, self._x, self._y, self._xx, self._xy)

    def restore(self, before: SavedSpeed) -> bool:
        """Take up what was known, for half of what it was worth; whether it can be true."""
        if not all(math.isfinite(one) and one > 0 for one in msgspec.structs.astuple(before)):
            return False
        self._count, self._x, self._y, self._xx, self._xy = (one / 2 for one in msgspec.structs.astuple(before))
        return True

    def read(self) -> EmbedSpeed:
        mean_x, mean_y = self._x / self._count, self._y / self._count
        variance = self._xx / self._count - mean_x * mean_x
        if variance > _LEAST_SPREAD * mean_x * mean_x:
            slope = (self._xy / self._count - mean_x * mean_y) / variance
            fixed_s = mean_y - slope * mean_x
            if slope > 0 and fixed_s >= 0:
                return EmbedSpeed(fixed_s, slope)
        return EmbedSpeed(0.0, self._xy / self._xx)


class EmbedSpeeds:
    """By backend and canonical model."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], _Line] = {}

    def learn(self, backend: str, model: str, units: float, seconds: float) -> None:
        """A request of so many units took so long, with nothing beside it there."""
        if units <= 0 or seconds <= 0:
            return
        line = self._lines.get((backend, model))
        if line is None:
            if len(self._lines) >= _MOST_KEPT:
                self._lines.clear()
            line = self._lines[backend, model] = _Line()
        line.add(units, seconds)

    def save(self, leave_out: Collection[str]) -> dict[str, dict[str, SavedSpeed]]:
        """By backend and model, for `restore`."""
        found: dict[str, dict[str, SavedSpeed]] = {}
        for (backend, model), line in self._lines.items():
            if backend not in leave_out:
                found.setdefault(backend, {})[model] = line.save()
        return found

    def restore(self, before: Mapping[str, Mapping[str, SavedSpeed]]) -> None:
        """What the last run saw. The first requests of this one count for more."""
        lines = [(backend, model, one) for backend, models in before.items() for model, one in models.items()]
        for backend, model, one in lines[:_MOST_KEPT]:
            line = _Line()
            if line.restore(one):
                self._lines[backend, model] = line

    def find(self, backend: str, model: str) -> EmbedSpeed | None:
        """What is known; None before any request."""
        line = self._lines.get((backend, model))
        return None if line is None else line.read()

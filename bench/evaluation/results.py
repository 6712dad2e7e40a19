"""What all runs found, and how to read it: mean and range over the slices, and comparisons slice by slice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from math import fsum

import msgspec

from bench.evaluation.case import Case
from bench.evaluation.figures import Figures
from bench.evaluation.workload import PARTS

_DIGITS = 9  # beyond them sums may depend on the order in which a set is walked


class Spread(msgspec.Struct, frozen=True):
    """Mean over the slices, and the lowest and the highest of them."""

    mean: float
    low: float
    high: float

    @staticmethod
    def of(values: Iterable[float]) -> Spread:
        """Of at least one value."""
        found = list(values)
        return Spread(fsum(found) / len(found), min(found), max(found))


class Results:
    """Figures by case, each on one slice."""

    def __init__(self, figures: Mapping[Case, Figures]) -> None:
        self._figures = figures

    def spread(self, case: Case, name: str) -> Spread | None:
        """A figure over the slices; None where any of them lacks it."""
        return self.combine(lambda one: one, (case, name))

    def ratio(self, case: Case, other: Case, name: str) -> Spread | None:
        """A figure of one case by that of another, slice by slice; None where it would be by nothing."""
        if 0.0 in self.each(other, name):
            return None
        return self.combine(lambda a, b: a / b, (case, name), (other, name))

    def combine(self, rule: Callable[..., float], *asked: tuple[Case, str]) -> Spread | None:
        """A rule of several figures, worked out on each slice; None where any of them is absent."""
        found = []
        for part in range(1, PARTS + 1):
            values = [self._figures.get(case.on(part), {}).get(name) for case, name in asked]
            if None in values:
                return None
            found.append(rule(*values))
        return Spread.of(found)

    def each(self, case: Case, name: str) -> list[float | None]:
        """A figure slice by slice."""
        return [self._figures.get(case.on(part), {}).get(name) for part in range(1, PARTS + 1)]

    def digest(self) -> str:
        """Of all figures: two evaluations that found the same have the same."""
        rows = sorted(
            (repr(case), {name: float(f"{value:.{_DIGITS}g}") for name, value in sorted(found.items())})
            for case, found in self._figures.items()
        )
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._figures)

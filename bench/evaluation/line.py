"""One line of the table of goals: what was to be reached, what was found, and whether that is enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from bench.evaluation.results import Spread


def _show_minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


#: How figures are written, by kind. `saved` is a ratio told as what it leaves over; `points` are of percent.
SHOW: dict[str, Callable[[float], str]] = {
    "share": lambda value: f"{100 * value:.1f} %",
    "points": lambda value: _show_minus(f"{round(100 * value, 1) + 0.0:+.1f}") + " points",
    "saved": lambda value: _show_minus(f"{round(100 * (1 - value), 1) + 0.0:.1f} %"),  # 0.0: nothing is not -0
    "ratio": lambda value: f"{value:.3f} x",
    "seconds": lambda value: f"{value:.1f} s",
    "microseconds": lambda value: f"{value:.0f} us",
}


def name_rate(rate_per_min: float) -> str:
    """As in tables: `5/min`."""
    return f"{rate_per_min:g}/min"


class Target(msgspec.Struct, frozen=True):
    """`<=` or `>=` a value. A `saved` value is compared as the ratio it is."""

    sign: Literal["<=", ">="]
    value: float

    def allows(self, value: float) -> bool:
        return value <= self.value if self.sign == "<=" else value >= self.value

    def shortfall(self, value: float) -> float:
        """The more, the worse; above 0 it misses."""
        return value - self.value if self.sign == "<=" else self.value - value


class Line(msgspec.Struct, frozen=True):
    """One figure of a goal, wherever it was to be reached. Without target it is there to compare with."""

    goal: str
    what: str
    kind: str  # of SHOW
    target: Target | None
    found: Mapping[str, Spread | None]  # by where: "5/min"

    @property
    def worst(self) -> tuple[str, Spread] | None:
        """Where the mean is furthest from the target, or closest to missing it; None where nothing was found."""
        known = {where: one for where, one in self.found.items() if one is not None}
        if not known:
            return None
        target = self.target
        if target is None:
            return next(iter(known.items()))
        return max(known.items(), key=lambda item: target.shortfall(item[1].mean))

    @property
    def holds(self) -> bool | None:
        """Whether all means reach the target; None where there is no target, or a figure is absent."""
        if self.target is None or not self.found or None in self.found.values():
            return None
        return all(one is not None and self.target.allows(one.mean) for one in self.found.values())

    def misses(self) -> list[str]:
        """Where it does not reach its target."""
        target = self.target
        return (
            []
            if target is None
            else [where for where, one in self.found.items() if one and not target.allows(one.mean)]
        )

    def show(self, spread: Spread | None) -> str:
        """Mean and range, such as `97.9 % (97.1-98.8)`; a dash for what is absent."""
        if spread is None:
            return "-"
        write = SHOW[self.kind]
        text = write(spread.mean)
        if write(spread.low) == write(spread.high):
            return text
        unit = text[text.rfind(" ") :]
        ends = sorted((spread.low, spread.high), key=lambda one: one if self.kind != "saved" else -one)
        return f"{text} ({' to '.join(write(one).removesuffix(unit) for one in ends)})"

    def show_target(self) -> str:
        """Such as `>= 97.0 %`."""
        if self.target is None:
            return "-"
        sign = self.target.sign
        if self.kind == "saved":  # less of it is more saved
            sign = ">=" if sign == "<=" else "<="
        return f"{sign} {SHOW[self.kind](self.target.value)}"

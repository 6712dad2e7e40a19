"""What all rounds found: numbers by measure, participant and metric, one a round; and what could not be measured."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Summary:
    """Median, least and most of the rounds."""

    median: float
    low: float
    high: float
    rounds: int


#: A number of the results: participant, measure, metric.
Key = tuple[str, str, str]


@dataclass(slots=True)
class Results:
    """Filled round by round."""

    values: dict[Key, list[float]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)  # of the participants, in their order
    problems: dict[tuple[str, str], str] = field(default_factory=dict)  # (participant, measure or "start"): why

    def add(self, participant: str, measure: str, found: dict[str, float]) -> None:
        """The numbers of one round."""
        for metric, value in found.items():
            self.values.setdefault((participant, measure, metric), []).append(value)

    def summary(self, key: Key) -> Summary | None:
        """None where nothing was measured."""
        values = self.values.get(key)
        if not values:
            return None
        return Summary(statistics.median(values), min(values), max(values), len(values))

    def median(self, key: Key) -> float | None:
        """None where nothing was measured."""
        found = self.summary(key)
        return found.median if found else None

    def ratio(self, above: Key, below: Key) -> float | None:
        """Of the medians; None where one is missing or the lower is nothing."""
        top, bottom = self.median(above), self.median(below)
        return None if top is None or not bottom else top / bottom

    def difference(self, above: Key, below: Key) -> float | None:
        """Of the medians; None where one is missing."""
        top, bottom = self.median(above), self.median(below)
        return None if top is None or bottom is None else top - bottom

    def is_saturated(self, participant: str, measure: str) -> bool:
        """Whether more than nine tenths of its core were used in most rounds, so that it set the pace itself."""
        return (self.median((participant, measure, "saturated")) or 0.0) > 0.5

    def as_document(self) -> dict[str, object]:
        """For JSON: participant, measure, metric, down to median, least, most and the rounds themselves."""
        tree: dict[str, dict[str, dict[str, object]]] = {}
        for (participant, measure, metric), values in self.values.items():
            leaf = {"median": statistics.median(values), "low": min(values), "high": max(values), "rounds": values}
            tree.setdefault(participant, {}).setdefault(measure, {})[metric] = leaf
        problems = [
            {"participant": participant, "measure": measure, "reason": reason}
            for (participant, measure), reason in self.problems.items()
        ]
        return {"versions": self.versions, "results": tree, "problems": problems}

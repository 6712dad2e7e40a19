"""Where the labels of points go, so that none lies on another, on a point, on a line or outside the frame."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

_LETTER = 0.6  # width of a letter by the font's size: that of wide fonts, so that any font fits
_GAP = 4.0
_DIRECTIONS = 16
_DISTANCES = (9.0, 16.0, 26.0, 38.0, 52.0, 70.0, 90.0)


class Box(msgspec.Struct, frozen=True):
    """A rectangle; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Area in common."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)

    def area(self) -> float:
        return (self.right - self.left) * (self.bottom - self.top)


def measure_text(text: str, size: float) -> float:
    """An upper estimate of a text's width, in the unit of the font's size."""
    return len(text) * size * _LETTER


def place_labels(
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    size: float,
    frame: Box,
    obstacles: Sequence[Box],
) -> list[Box]:
    """A box for each text near its point, the nearest one that is free; where none is, the one that hides least.

    Points in the thick of things choose first, since they have the least choice.
    """
    boxes: list[Box | None] = [None] * len(points)
    taken = [*obstacles, *(Box(x - size / 2, y - size / 2, x + size / 2, y + size / 2) for x, y in points)]
    for place in sorted(range(len(points)), key=lambda one: _loneliness(points, one)):
        candidates = _candidates(points[place], measure_text(texts[place], size), size)
        best = min(candidates, key=lambda box: _hidden(box, taken, frame))
        boxes[place] = best
        taken.append(best)
    return [box for box in boxes if box is not None]


def _loneliness(points: Sequence[tuple[float, float]], place: int) -> tuple[float, int]:
    distances = [math.dist(points[place], other) for number, other in enumerate(points) if number != place]
    return min(distances, default=0.0), place


def _candidates(point: tuple[float, float], width: float, height: float) -> list[Box]:
    """Boxes around the point, near ones first, at its right and left before above and below."""
    x, y = point
    boxes = []
    for distance in _DISTANCES:
        for number in sorted(range(_DIRECTIONS), key=lambda one: abs(math.sin(2 * math.pi * one / _DIRECTIONS))):
            angle = 2 * math.pi * number / _DIRECTIONS
            across, down = math.cos(angle), math.sin(angle)
            middle_x = x + across * (distance + width / 2)
            middle_y = y + down * (distance + height / 2)
            boxes.append(Box(middle_x - width / 2, middle_y - height / 2, middle_x + width / 2, middle_y + height / 2))
    return boxes


def _hidden(box: Box, taken: Sequence[Box], frame: Box) -> float:
    """Area that is hidden by the box or lies outside the frame; `min` takes the first, the nearest, of equals."""
    padded = Box(box.left - _GAP / 2, box.top - _GAP / 2, box.right + _GAP / 2, box.bottom + _GAP / 2)
    return padded.area() - padded.overlap(frame) + sum(padded.overlap(one) for one in taken)

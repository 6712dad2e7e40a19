"""Prompts as vectors, and which answer was kept for each: the nearest one that nothing tells apart."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import msgspec
import numpy
import numpy.typing

from ollama_proxy.cache.guards import Anchors, find_difference
from ollama_proxy.domain.vectors import VectorSpace

_Floats = numpy.typing.NDArray[numpy.float32]
_LEAST_ROOM = 8
#: So many of the nearest are looked at more closely.
_MOST_NEAR = 8


class Likeness(msgspec.Struct, frozen=True):
    """A prompt from before: the key of its answer, and the cosine of the angle between the two vectors."""

    key: bytes
    similarity: float


class _Frame:
    """The prompts of one frame and space: a row each in a matrix that grows."""

    def __init__(self, dimensions: int) -> None:
        self.matrix: _Floats = numpy.empty((_LEAST_ROOM, dimensions), numpy.float32)
        self.rows: list[tuple[bytes, Anchors]] = []

    def add(self, vector: _Floats, key: bytes, anchors: Anchors) -> None:
        place = len(self.rows)
        if place == len(self.matrix):
            self.matrix = numpy.concatenate([self.matrix, numpy.empty_like(self.matrix)])
        self.matrix[place] = vector
        self.rows.append((key, anchors))

    def drop(self, key: bytes) -> None:
        place = next((place for place, row in enumerate(self.rows) if row[0] == key), None)
        if place is not None:
            last = len(self.rows) - 1
            self.matrix[place] = self.matrix[last]
            self.rows[place] = self.rows[last]
            self.rows.pop()


class Meanings:
    """Bounded by a number of prompts; those that came or were found longest ago go first.

    A frame is what two requests must have in common before their prompts are compared (`find_frame`): prompts of
    different frames, or with vectors of different spaces, never meet.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._frames: dict[tuple[bytes, VectorSpace], _Frame] = {}
        #: The frame of each key, in the order in which they go.
        self._order: OrderedDict[bytes, tuple[bytes, VectorSpace]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._order)

    def add(self, frame: bytes, space: VectorSpace, vector: Sequence[float], key: bytes, anchors: Anchors) -> None:
        """Remember a prompt, and the key of its answer."""
        self.drop(key)
        place = (frame, space)
        found = self._frames.get(place)
        if found is None:
            found = self._frames[place] = _Frame(len(vector))
        found.add(_normalise(vector), key, anchors)
        self._order[key] = place
        while len(self._order) > self._most:
            self.drop(next(iter(self._order)))

    def find(
        self, frame: bytes, space: VectorSpace, vector: Sequence[float], anchors: Anchors, threshold: float
    ) -> Likeness | None:
        """The prompt that is nearest, if it is near enough, and nothing is known that tells the two apart."""
        found = self._frames.get((frame, space))
        if found is None:
            return None
        count = len(found.rows)
        similarities = found.matrix[:count] @ _normalise(vector)
        near = similarities.argsort()[::-1][:_MOST_NEAR]
        for place in near.tolist():
            similarity = float(similarities[place])
            # Also false for what is no number.
            if not similarity >= threshold:
                return None
            key, others = found.rows[place]
            if not find_difference(anchors, others):
                self._order.move_to_end(key)
                return Likeness(key, min(1.0, similarity))
        return None

    def drop(self, key: bytes) -> None:
        """Forget a prompt: its answer is gone."""
        place = self._order.pop(key, None)
        if place is not None:
            frame = self._frames[place]
            frame.drop(key)
            if not frame.rows:
                del self._frames[place]


def _normalise(vector: Sequence[float]) -> _Floats:
    found = numpy.asarray(vector, numpy.float32)
    length = float(numpy.linalg.norm(found))
    return found / length if length > 0 else found

"""Where vectors lie: the one interface of all kinds of stores, and the words it is spoken in.

Texts, files and attributes are the catalogue's; an index knows numbers: of a passage, and of the group (one file in one
store) that it belongs to. What it holds can always be written again from the catalogue, so every call may be repeated.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import msgspec


class IndexProblem(Exception):
    """An index that cannot do its work now; the text says which, why, and what helps. With `final` it does not help to
    wait."""

    def __init__(self, told: str, *, final: bool = False) -> None:
        super().__init__(told)
        self.final = final


class Point(msgspec.Struct, frozen=True):
    """One passage's vector."""

    id: int
    group: int
    vector: Sequence[float]


class Near(msgspec.Struct, frozen=True):
    """A passage and the cosine of the angle between its vector and the one that was asked for, from -1 to 1."""

    id: int
    cosine: float


class Index(Protocol):
    """One place for vectors. A collection is named by a short word of letters, digits and `_`."""

    async def put(self, collection: str, dimensions: int, points: Sequence[Point]) -> None:
        """Add points, in the place of those with the same ids; the collection is made where it is not there.

        Raises `IndexProblem`, for vectors of another length as well; then it may hold some of them.
        """

    async def search(
        self,
        collection: str,
        vector: Sequence[float],
        most: int,
        only: Collection[int] | None,
        without: Collection[int],
    ) -> Sequence[Near]:
        """The nearest points, nearest first, of groups in `only` (None for all) and not in `without`. Nothing for a
        collection that is not there. Raises `IndexProblem`."""

    async def delete(self, collection: str, groups: Collection[int]) -> None:
        """Delete all points of some groups. Raises `IndexProblem`."""

    async def count(self, collection: str) -> int:
        """How many points there are. Raises `IndexProblem`."""

    async def drop(self, collection: str) -> None:
        """Delete a collection. Raises `IndexProblem`."""

    async def check(self) -> str:
        """Its version, if it serves. Raises `IndexProblem`."""

    async def close(self) -> None:
        """Let go of files and connections."""

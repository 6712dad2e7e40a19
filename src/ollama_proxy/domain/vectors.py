"""Texts as vectors, and passages found by them: what rooms ask of each other for both.

A vector means something only among those of its own space. Whoever keeps vectors keeps their space beside them, and
asks for more of that space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from .annotations import NO_ANNOTATIONS, Annotations
from .caller import ANYBODY, Caller


class VectorSpace(msgspec.Struct, frozen=True):
    """Whose vectors may be compared: those of the same weights, cut to the same length.

    `model` is the canonical name, `digest` that of its weights as the backends tell it; "" where none tells, which is
    no other model's space all the same.
    """

    model: str
    digest: str
    dimensions: int


class Vectors(msgspec.Struct, frozen=True):
    """One vector for each text, in the order of the texts, all of one space, and what they took.

    `joules` is the sum over all parts, None where one of them is not known, of kind `energy_kind`; vectors that were
    kept from earlier cost nothing. `tokens` is None where a backend did not count. `backends` are the ids of those that
    did the work, in the order of their first text.
    """

    vectors: tuple[tuple[float, ...], ...]
    space: VectorSpace
    joules: float | None
    energy_kind: str
    tokens: int | None
    backends: tuple[str, ...]


class EmbedWish(msgspec.Struct, frozen=True):
    """For whom, and how: limits, keys and books are those of an ordinary request.

    `way_in` is what ledger and log call it. `keeps` says that the vectors will be kept: their server is asked once more
    whether it has the weights that it was taken to have. `space` is that of vectors which are kept already: nothing
    else is answered then. `dimensions` cuts vectors short where the model can; None for its own length.
    """

    way_in: str
    caller: Caller = ANYBODY
    annotations: Annotations = NO_ANNOTATIONS
    space: VectorSpace | None = None
    dimensions: int | None = None
    keeps: bool = False


class Embedder(Protocol):
    """Turns texts into vectors."""

    async def embed(self, texts: Sequence[str], model: str, wish: EmbedWish) -> Vectors:
        """Vectors of some texts, however many; `model` "" for the default. Cancelling the wait ends the work.

        Raises `ProxyError`: for an empty text, a model that nobody has, limits that exclude all, vectors that only
        another space than the one wished for could give, and (`keeps`) a server that was given other weights meanwhile.
        """

    async def space_of(self, model: str, wish: EmbedWish) -> VectorSpace:
        """The space that `embed` would answer in now. It may embed a word to learn of it. Raises `ProxyError`."""


class Passage(msgspec.Struct, frozen=True):
    """A piece of a kept text that was found, the best first.

    `score` is higher for better, and comparable within one answer only. `start` and `end` count characters of the text
    of `file_name`.
    """

    text: str
    score: float
    file_id: str
    file_name: str
    start: int
    end: int
    attributes: Mapping[str, str | float | bool] = {}


class Search(msgspec.Struct, frozen=True):
    """What is looked for in one store; `filters` as in OpenAI's vector stores, None for none."""

    store: str
    query: str
    most: int = 8
    filters: Mapping[str, object] | None = None
    #: Passages of a lower score are left out.
    least_score: float = 0.0
    rerank: bool = False


class Found(msgspec.Struct, frozen=True):
    """Passages, and what finding them took; energy as in `Vectors`."""

    passages: tuple[Passage, ...]
    joules: float | None
    energy_kind: str


class Retriever(Protocol):
    """Finds passages in kept texts."""

    async def retrieve(self, search: Search, wish: EmbedWish) -> Found:
        """The passages of a store that fit best; the store is named by its id or its name.

        `wish.space` is not looked at: a store knows its own. Raises `ProxyError`; `NOT_FOUND` for a store that is not
        there for this caller.
        """

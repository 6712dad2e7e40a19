"""A search in one store: by meaning, by words, or both as one ranking."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from ollama_proxy.domain.annotations import NO_ANNOTATIONS, Annotations
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.library import Hit, Query, Store
from ollama_proxy.domain.vectors import Embedder, EmbedWish, Vectors, VectorSpace
from ollama_proxy.vectors.catalogue import lookup
from ollama_proxy.vectors.catalogue.database import Catalogue
from ollama_proxy.vectors.catalogue.lookup import Scope
from ollama_proxy.vectors.catalogue.stores import collection_of
from ollama_proxy.vectors.fusion import fuse
from ollama_proxy.vectors.index import Index, IndexProblem, Near

_log = logging.getLogger(__name__)
_NO_RANKER = "none"
_WAY_IN = "vector store search"
#: Each ranking is looked at so many times as deep as the answer, and at least so deep.
_DEEPER = 4
_LEAST_DEPTH = 40


class Reranker(Protocol):
    """Reads passages and says how well they answer."""

    @property
    def is_there(self) -> bool:
        """Whether it can be asked."""

    async def score(self, query: str, texts: Sequence[str], caller: Caller) -> Sequence[float]:
        """Of each text, from 0 to 1. Raises `ProxyError`."""


class Searcher:
    """Searches, over the catalogue and the indices."""

    def __init__(
        self, catalogue: Catalogue, index_of: Callable[[Store], Index], embedder: Embedder, reranker: Reranker | None
    ) -> None:
        self._catalogue = catalogue
        self._reranker = reranker
        self._index_of = index_of
        self._embedder = embedder

    async def search(
        self, store: Store, query: Query, caller: Caller, annotations: Annotations = NO_ANNOTATIONS
    ) -> tuple[Sequence[Hit], Vectors | None]:
        """The best passages, and the vectors of the query, None where none were needed. Raises `ProxyError`."""
        depth = max(_LEAST_DEPTH, _DEEPER * query.most)
        scope = await self._catalogue.run(lookup.find_scope, store, query.filters)
        empty = not store.dimensions or (scope.only is not None and not scope.only)
        if empty:
            return (), None
        made: Vectors | None = None
        rankings: list[list[int]] = []
        weights: list[float] = []
        cosines: dict[int, float] = {}
        if query.dense > 0:
            wish = EmbedWish(_WAY_IN, caller, annotations, VectorSpace(store.model, store.digest, store.dimensions))
            made = await self._embedder.embed(list(query.texts), store.model, wish)
            for near in await asyncio.gather(*(self._near(store, one, depth, scope) for one in made.vectors)):
                rankings.append([one.id for one in near])
                weights.append(query.dense)
                for one in near:
                    cosines[one.id] = max(one.cosine, cosines.get(one.id, -1.0))
        if query.text > 0:
            for text in query.texts:
                found = await self._catalogue.run(lookup.find_by_words, store, text, depth, query.filters)
                rankings.append(found)
                weights.append(query.text)
        scores = _score(rankings, weights, cosines, hybrid=query.text > 0)
        if self._reranker is not None and self._reranker.is_there and query.ranker != _NO_RANKER and scores:
            hits = await self._rerank(self._reranker, store, query, scores, caller)
        else:
            hits = await self._catalogue.run(lookup.read_hits, store, dict([*scores.items()][: query.most]))
        return [hit for hit in hits if hit.score >= query.least_score], made

    async def _rerank(
        self, reranker: Reranker, store: Store, query: Query, scores: dict[int, float], caller: Caller
    ) -> Sequence[Hit]:
        """The best by a model that reads them; by their ranks where no such model answers."""
        deep = dict([*scores.items()][: max(_DEEPER * query.most, query.most)])
        hits = await self._catalogue.run(lookup.read_hits, store, deep)
        try:
            told = await reranker.score("\n".join(query.texts), [hit.text for hit in hits], caller)
        except ProxyError as error:
            if error.kind is ErrorKind.PERMISSION_DENIED:
                raise
            _log.warning("passages are not reranked: %s", error)
            return hits[: query.most]
        scored = [msgspec.structs.replace(hit, score=score) for hit, score in zip(hits, told, strict=True)]
        return sorted(scored, key=lambda hit: -hit.score)[: query.most]

    async def _near(self, store: Store, vector: Sequence[float], depth: int, scope: Scope) -> Sequence[Near]:
        try:
            return await self._index_of(store).search(collection_of(store), vector, depth, scope.only, scope.without)
        except IndexProblem as error:
            raise ProxyError(ErrorKind.BACKEND_FAILED, f"{store.backend or 'embedded'}: {error}") from None


def _score(
    rankings: list[list[int]], weights: list[float], cosines: dict[int, float], *, hybrid: bool
) -> dict[int, float]:
    """Cosines where only meaning counts, else the places in all rankings; from 0 to 1, best first."""
    if hybrid:
        return fuse(rankings, weights)
    return {one: max(0.0, cosine) for one, cosine in sorted(cosines.items(), key=lambda pair: (-pair[1], pair[0]))}

"""Passages for whoever asks inside the proxy: pipelines, and requests that name a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.library import Query
from ollama_proxy.domain.vectors import EmbedWish, Found, Passage, Search

if TYPE_CHECKING:
    from ollama_proxy.vectors.library import VectorLibrary


class LibraryRetriever:
    """`Retriever` over the library."""

    def __init__(self, library: VectorLibrary) -> None:
        self._library = library

    async def retrieve(self, search: Search, wish: EmbedWish) -> Found:
        if not search.query.strip():
            raise ProxyError(ErrorKind.INVALID_REQUEST, "there is no text to look up")
        ranker = "auto" if search.rerank else "none"
        query = Query((search.query,), search.most, search.filters, search.least_score, ranker)
        hits, made = await self._library.find(wish.caller, search.store, query, wish.annotations)
        passages = tuple(
            Passage(hit.text, hit.score, hit.file, hit.name, hit.start, hit.end, hit.attributes) for hit in hits
        )
        if made is None:
            return Found(passages, 0.0, "modelled")
        return Found(passages, made.joules, made.energy_kind)

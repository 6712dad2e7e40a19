"""The places for vectors that a configuration names, each made when it is first needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ollama_proxy.app.upstreams.registry import INDICES, load_kind
from ollama_proxy.config.schema import Backend, Config
from ollama_proxy.config.vector_endpoint import parse_vector_endpoint
from ollama_proxy.domain.library import Store
from ollama_proxy.vectors.index import Index, IndexProblem

EMBEDDED = ""


class Indices:
    """Indices by the id of their backend; "" is the embedded one."""

    def __init__(self, config: Config, folder: Path) -> None:
        self._folder = folder
        self._made: dict[tuple[str, str], Index] = {}
        self.adopt(config)

    def adopt(self, config: Config) -> None:
        """Another configuration is in force."""
        self._entries = {one.id: one for one in config.backends if one.enabled and one.type == "vectordb"}
        self._memory_bytes = round(config.vectors.memory_mb * 1e6)

    @property
    def usual(self) -> str:
        """Where new stores go if nothing is said."""
        return next(iter(self._entries), EMBEDDED)

    def of(self, store: Store) -> Index:
        """Where a store's vectors lie. Raises `IndexProblem` for a backend that is not configured any more."""
        if store.backend == EMBEDDED:
            return self._keep((EMBEDDED, ""), lambda: self._build("embedded", self._folder, self._memory_bytes))
        entry = self._entries.get(store.backend)
        if entry is None:
            told = f"the store {store.id} lies in {store.backend}, and no enabled backend of type vectordb is called so"
            raise IndexProblem(told)
        return self._keep((entry.id, entry.endpoint), lambda: build_index(entry))

    def _keep(self, key: tuple[str, str], build: Callable[[], Index]) -> Index:
        if key not in self._made:
            self._made[key] = build()
        return self._made[key]

    def _build(self, kind: str, *arguments: Any) -> Index:
        index: Index = load_kind(INDICES, kind)(*arguments)
        return index

    async def close(self) -> None:
        """Let go of all of them."""
        for index in self._made.values():
            await index.close()
        self._made.clear()


def build_index(entry: Backend) -> Index:
    """The index of one backend of type vectordb."""
    endpoint = parse_vector_endpoint(entry.endpoint)
    secret = os.environ.get(entry.api_key_env, "") if entry.api_key_env else ""
    index: Index = load_kind(INDICES, endpoint.kind)(endpoint, secret)
    return index

"""The library of a running proxy: opened when it is first used, or when there is work left from before."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ollama_proxy.app.retrieval.indices import EMBEDDED, Indices
from ollama_proxy.app.retrieval.pause import why_to_pause
from ollama_proxy.app.retrieval.reranker import ServiceReranker
from ollama_proxy.app.retrieval.retriever import LibraryRetriever
from ollama_proxy.config.schema import Config
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.library import Chunking
from ollama_proxy.domain.ports import Service
from ollama_proxy.domain.vectors import Embedder
from ollama_proxy.vectors.catalogue.database import Catalogue
from ollama_proxy.vectors.ingest import Ingest, IngestRules
from ollama_proxy.vectors.library import LibraryRules, VectorLibrary
from ollama_proxy.vectors.shelf import Shelf


class VectorRoom:
    """Everything about vector stores, over whoever makes vectors."""

    def __init__(
        self,
        config: Config,
        embedder: Embedder,
        on_mains: Callable[[], bool],
        caller_of: Callable[[str], Caller | None],
        environ: Mapping[str, str],
        service: Service,
    ) -> None:
        """`caller_of` is the key of a name; files are read at the expense of the key that brought them."""
        self._config = config
        folder = find_folder(config, environ)
        self._catalogue = Catalogue(folder / "catalogue.sqlite")
        self._indices = Indices(config, folder / "vectors.sqlite")
        shelf = Shelf(folder / "files")
        self._ingest = Ingest(
            self._catalogue,
            shelf,
            self._indices.of,
            embedder,
            time.time,
            IngestRules(config.vectors.ingest.target, config.vectors.ingest.batch),
            lambda: why_to_pause(self._config.vectors.ingest, on_mains),
            caller_of,
        )
        self._library = VectorLibrary(
            *(self._catalogue, shelf, self._indices.of, embedder, self._ingest, time.time, self._rules()),
            ServiceReranker(service, lambda: self._config.vectors.rerank_model),
        )

    @property
    def library(self) -> VectorLibrary | None:
        """None while it is switched off."""
        return self._library if self._config.vectors.enabled else None

    @property
    def retriever(self) -> LibraryRetriever | None:
        """None while it is switched off."""
        return LibraryRetriever(self._library) if self._config.vectors.enabled else None

    def _rules(self) -> LibraryRules:
        vectors = self._config.vectors
        backend = vectors.backend or self._indices.usual
        return LibraryRules(
            max_file_bytes=round(vectors.max_file_mb * 1e6),
            max_owner_bytes=round(vectors.max_mb_per_key * 1e6),
            backend=EMBEDDED if backend == "embedded" else backend,
            model=vectors.embedding_model,
            chunking=Chunking(vectors.chunk_tokens, vectors.chunk_overlap_tokens),
        )

    def adopt(self, config: Config) -> None:
        """Go by another configuration. The folder is the first one's."""
        self._config = config
        self._indices.adopt(config)
        self._library.rules = self._rules()
        self._ingest.rules = IngestRules(config.vectors.ingest.target, config.vectors.ingest.batch)
        self.resume()

    def resume(self) -> None:
        """Go on with what was left, if there has ever been anything."""
        if self._config.vectors.enabled and self._catalogue.path.exists():
            self._ingest.wake()

    async def close(self) -> None:
        """End the job where it is, and let go of all files."""
        await self._ingest.stop()
        await self._indices.close()
        await self._catalogue.close()


def find_folder(config: Config, environ: Mapping[str, str]) -> Path:
    """Where everything lies."""
    if config.vectors.folder:
        return Path(config.vectors.folder)
    state = environ.get("XDG_STATE_HOME", "")
    base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return base / "ollama-proxy" / "vectors"


def build_room(
    config: Config,
    embedder: Embedder,
    on_mains: Callable[[], bool],
    caller_of: Callable[[str], Caller | None],
    service: Service,
) -> VectorRoom:
    """The room of this process."""
    return VectorRoom(config, embedder, on_mains, caller_of, os.environ, service)

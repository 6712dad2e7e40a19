"""A request that is held until something it needs is there; its client may leave meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from ollama_proxy.domain.ports import Ticket
from ollama_proxy.net.task import spawn


class Deferred:
    """The ticket of a request that is submitted when `what` has come, however that went."""

    def __init__(self, what: Coroutine[Any, Any, None], submit: Callable[[], Ticket]) -> None:
        self._submit = submit
        self._ticket: Ticket | None = None
        self._paused = False
        self._wait = spawn(self._go_on(what), "a request waits")

    async def _go_on(self, what: Coroutine[Any, Any, None]) -> None:
        await what
        self._ticket = self._submit()
        if self._paused:
            self._ticket.pause()

    def cancel(self) -> None:
        """The client has gone."""
        if self._ticket is not None:
            self._ticket.cancel()
        else:
            self._wait.cancel()

    def pause(self) -> None:
        """The client reads too slowly."""
        self._paused = True
        if self._ticket is not None:
            self._ticket.pause()

    def resume(self) -> None:
        """The client reads again."""
        self._paused = False
        if self._ticket is not None:
            self._ticket.resume()

"""A request that is held until something it needs is there; its client may leave meanwhile."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from ollama_proxy.domain.ports import Ticket
from ollama_proxy.net.task import spawn


class Deferred:
    """The ticket of a request whose own comes later; None comes where it has ended without."""

    def __init__(self, coming: Coroutine[Any, Any, Ticket | None], name: str) -> None:
        """`name` is for the log."""
        self._ticket: Ticket | None = None
        self._paused = False
        self._wait = spawn(self._go_on(coming), name)

    async def _go_on(self, coming: Coroutine[Any, Any, Ticket | None]) -> None:
        self._ticket = await coming
        if self._paused and self._ticket is not None:
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

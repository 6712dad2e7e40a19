"""The whole way out of a server in one call, for those that have nothing to do in between."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Draining(Protocol):
    """A server, or several behind one socket."""

    def begin_drain(self) -> None:
        """Take nothing new, and close each connection when what it carries has ended."""

    async def wait_idle(self) -> None:
        """Wait until no connection is left."""

    def abort(self) -> None:
        """Close what is left."""


async def drain(server: Draining, grace_s: float) -> None:
    """Take nothing new, wait for what runs, then close what is left."""
    server.begin_drain()
    try:
        async with asyncio.timeout(grace_s):
            await server.wait_idle()
    except TimeoutError:
        server.abort()

"""Leaving well: not ready at once, let what runs end within the grace period, a last word to the rest."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection

from ollama_proxy.app.process.ports import Ports
from ollama_proxy.app.requests.job import Job
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.http1.limits import HttpLimits

_log = logging.getLogger(__name__)

#: Whoever connected the moment before the ports were closed gets so long to be heard.
_LAST_CALL_S = 0.05
#: Where there is a successor, connections that clients keep may carry one more request, whose answer says that it was
#: the last: were they closed before, a request on its way to them would be reset. Those that carry none are closed when
#: they would have been in any case, so nobody waits for longer than this.
_FAREWELL_S = HttpLimits().idle_s + 5.0
#: A connection in its TLS handshake is not seen before that is over.
_HANDSHAKES_S = 1.0
#: Errors that are told at the very end get so long to reach their clients.
_LAST_WORDS_S = 1.0


class Departure:
    """The way out; `hurry` cuts short whatever it waits for."""

    def __init__(self, ports: Ports, running: Collection[Job]) -> None:
        self._ports = ports
        self._running = running
        self._hurried = asyncio.Event()
        self.begun = False
        #: Whether a successor serves at the same addresses.
        self.followed = False

    @property
    def is_leaving(self) -> bool:
        """Whether new clients should go elsewhere."""
        return self.begun and not self.followed

    def hurry(self) -> None:
        """Wait for nobody any more."""
        self._hurried.set()

    async def leave(self, delay_s: float, grace_s: float) -> None:
        """Say that it is over, serve on for `delay_s`, then take nothing new and wait `grace_s` at most.

        Who is `followed` accepts no more already, and lets clients move to the successor one by one, each with the
        next request on a connection it has kept: the grace period begins when none is left.
        """
        self.begun = True
        self._ports.announce(followed=self.followed)
        if self.followed:
            await self._wait(_HANDSHAKES_S)
            await self._wait_idle(_FAREWELL_S)
        else:
            await self._wait(delay_s)
            self._ports.stop_listening()
            await self._wait(_LAST_CALL_S)
        self._ports.begin_drain()
        await self._wait_idle(grace_s)
        if self._running:
            _log.warning("%d requests were not over within the grace period", len(self._running))
            for job in list(self._running):
                told = "this proxy is stopping and could wait no longer; ask again"
                job.break_off(ProxyError(ErrorKind.NO_HEALTHY_BACKEND, told, retry_after_s=1.0))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self._ports.wait_idle()
        self._ports.abort()

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurried.wait()

    async def _wait_idle(self, grace_s: float) -> None:
        idle = asyncio.ensure_future(self._ports.wait_idle())  # noqa: TID251  # owned here: awaited or cancelled below
        hurried = asyncio.ensure_future(self._hurried.wait())  # noqa: TID251  # owned here: cancelled below
        try:
            await asyncio.wait({idle, hurried}, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            idle.cancel()
            hurried.cancel()

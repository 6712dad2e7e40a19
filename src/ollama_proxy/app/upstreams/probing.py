"""Keeps the fleet's picture fresh: every backend is probed at the same time, the sick ones more often."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping

from ollama_proxy.domain.device import Health
from ollama_proxy.domain.ports import Backend, ProbeError, ProbeReport
from ollama_proxy.fleet.state import Fleet

_log = logging.getLogger(__name__)

Finding = ProbeReport | ProbeError

#: A backend that is not healthy is looked at this often: so a failure is confirmed and a recovery seen soon.
SICK_INTERVAL_S = 2.0
#: Asked for fresh lists within this time, the last ones are fresh enough.
_FRESH_S = 1.0
#: Probes on request may hold a client back for this long.
_REFRESH_TIMEOUT_S = 2.0
#: A server that is busy says at least in this time what it is.
_ASK_AFTER_S = 2.0


class Prober:
    """Probes all backends in rounds."""

    def __init__(
        self,
        fleet: Fleet,
        backends: Mapping[str, Backend],
        interval_s: float,
        timeout_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._fleet = fleet
        self._backends = backends
        self.interval_s = interval_s
        self.timeout_s = timeout_s
        self._clock = clock
        self._probed_s: dict[str, float] = {}
        self._under_way: dict[str, asyncio.Future[None]] = {}
        #: What has changed since its last probe began.
        self._outdated: set[str] = set()
        #: Who had nothing to say when it was asked last.
        self._silent: set[str] = set()

    async def run(self) -> None:
        """Probe for ever: the healthy every interval, the others more often."""
        while True:
            await asyncio.sleep(min(SICK_INTERVAL_S, self.interval_s))
            now_s = self._clock()
            self._fleet.age(now_s)
            due = [
                name for name in list(self._backends) if now_s - self._probed_s.get(name, -1e9) >= self._wait_s(name)
            ]
            await self._probe_many(due, self.timeout_s)

    def _wait_s(self, name: str) -> float:
        view = self._fleet.find(name)
        healthy = view is not None and view.health is Health.HEALTHY
        # A little less than the interval, so that a round that comes a moment early is not skipped.
        return 0.95 * (self.interval_s if healthy else min(SICK_INTERVAL_S, self.interval_s))

    async def probe_all(self) -> None:
        """One round over all backends."""
        await self._probe_many(list(self._backends), self.timeout_s)

    async def refresh(self, changed: Collection[str] = ()) -> None:
        """One round for a client that wants fresh lists; over those that serve, and bounded.

        With names: over those, whose models may have changed up to now, and however fresh their lists look.
        """
        for name in changed:
            self._outdated.add(name)
            self._probed_s.pop(name, None)
        now_s = self._clock()
        due = [
            view.id
            for view in self._fleet.view().backends
            if view.health.serves and now_s - self._probed_s.get(view.id, -1e9) > _FRESH_S
            if not changed or view.id in changed
        ]
        await self._probe_many(due, min(_REFRESH_TIMEOUT_S, self.timeout_s))

    async def look_anew(self, name: str) -> bool:
        """Ask a backend what it has now, not a moment earlier; whether it said so. Those that want it at the same time
        share the probes."""
        self._outdated.add(name)
        await self._probe_once(name, self.timeout_s)
        return name not in self._silent

    async def _probe_many(self, names: list[str], timeout_s: float) -> None:
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(self._probe_once(name, timeout_s), name=f"probe {name}")

    async def _probe_once(self, name: str, timeout_s: float) -> None:
        """Probe, or wait for the probe that is under way, unless it began before the last change."""
        while (running := self._under_way.get(name)) is not None:
            await asyncio.wait([running])
            if name not in self._outdated:
                return
        done = self._under_way[name] = asyncio.get_running_loop().create_future()
        try:
            await self.probe(name, timeout_s)
        finally:
            del self._under_way[name]
            done.set_result(None)

    async def probe(self, name: str, timeout_s: float) -> None:
        """Ask one backend and book what it said."""
        backend = self._backends.get(name)
        if backend is None or self._fleet.find(name) is None:
            return
        self._outdated.discard(name)
        found = await self.ask(backend, timeout_s)
        # Meanwhile a reload may have put another server in its place.
        if self._backends.get(name) is backend:
            self.book(name, found)

    async def ask_after(self, name: str) -> bool:
        """Whether a backend that is silent says anything when it is asked about itself; what it says is booked."""
        backend = self._backends.get(name)
        if backend is None:
            return False
        found = await self.ask(backend, _ASK_AFTER_S)
        if isinstance(found, ProbeReport) and self._backends.get(name) is backend:
            self.book(name, found)
        return isinstance(found, ProbeReport)

    async def ask(self, backend: Backend, timeout_s: float) -> Finding:
        """What a backend says of itself, or why it says nothing; it need not be in the fleet."""
        try:
            return await backend.probe(timeout_s)
        except ProbeError as error:
            return error
        except Exception:  # noqa: BLE001  # the root of a probe: what trips over one backend must not end the others'
            _log.exception("the probe of %s failed", backend.spec.id)
            return ProbeError("its answer could not be read")

    def book(self, name: str, found: Finding) -> None:
        """Take in what a backend of the fleet has said."""
        before = self._fleet.find(name)
        if before is None:
            return
        if isinstance(found, ProbeError):
            self._silent.add(name)
            self._fleet.probe_failed(name, str(found), int(time.time()), hard=found.hard)
        else:
            self._silent.discard(name)
            self._fleet.probed(name, found, int(time.time()))
        if name not in self._outdated:
            self._probed_s[name] = self._clock()
        self._tell(name, before.health)

    def _tell(self, name: str, before: Health) -> None:
        after = self._fleet.find(name)
        if after is None or after.health is before or before is Health.UNKNOWN:
            return
        if after.health.serves:
            _log.info("backend %s is %s again", name, after.health.value)
        else:
            _log.warning("backend %s is %s: %s", name, after.health.value, after.message)

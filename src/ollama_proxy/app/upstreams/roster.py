"""Who is behind the proxy: the backends by id, what the fleet knows of them, and who asks them how they are."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping

from ollama_proxy.app.generation import Generation, Succession
from ollama_proxy.app.upstreams.probing import Finding, Prober
from ollama_proxy.config.schema import Config
from ollama_proxy.domain.ports import Backend
from ollama_proxy.fleet.state import Fleet
from ollama_proxy.net.task import spawn


class Roster:
    """Backends that come and go: with a configuration, and the embedded model by itself."""

    def __init__(self, generation: Generation, clock: Callable[[], float]) -> None:
        config = generation.config
        self.fleet = Fleet(config.health.unhealthy_threshold)
        self.backends: dict[str, Backend] = {}
        for backend in generation.backends.values():
            self._add(backend)
        self.prober = Prober(
            fleet=self.fleet,
            backends=self.backends,
            interval_s=_probe_interval_s(config),
            timeout_s=config.health.timeout_seconds,
            clock=clock,
        )

    def _add(self, backend: Backend) -> None:
        self.backends[backend.spec.id] = backend
        self.fleet.add(backend.spec, backend.capabilities)

    async def join(self, backend: Backend) -> None:
        """One more is ready."""
        self._add(backend)
        await self.prober.probe(backend.spec.id, self.prober.timeout_s)

    def leave(self, name: str) -> None:
        """One is gone."""
        gone = self.backends.pop(name, None)
        self.fleet.remove(name)
        if gone is not None:
            spawn(gone.close(), f"close the pool of {name}")

    async def ask(self, now: Generation, who: Succession) -> Mapping[str, Finding]:
        """What those say of themselves that are new, or described anew, while nobody asks them anything else yet."""
        names = sorted(who.joined | who.renewed)
        limit_s = now.config.health.timeout_seconds
        found = await asyncio.gather(*(self.prober.ask(now.backends[name], limit_s) for name in names))
        return dict(zip(names, found, strict=True))

    def exchange(self, now: Generation, who: Succession, found: Mapping[str, Finding]) -> None:
        """Put a generation in the place of the one before; `found` is what `ask` has found."""
        for name in who.left:
            del self.backends[name]
            self.fleet.remove(name)
        for name, backend in now.backends.items():
            if name in who.joined:
                self._add(backend)
            elif name in who.renewed:
                self.backends[name] = backend
                self.fleet.renew(backend.spec, backend.capabilities)
        config = now.config
        self.fleet.arrange(now.backends, config.health.unhealthy_threshold)
        self.prober.interval_s, self.prober.timeout_s = _probe_interval_s(config), config.health.timeout_seconds
        for name, one in found.items():
            self.prober.book(name, one)

    async def close(self) -> None:
        """Drop idle connections."""
        for backend in self.backends.values():
            await backend.close()


def _probe_interval_s(config: Config) -> float:
    """Without health checks the healthy are left alone; the others still have to be found again."""
    return config.health.interval_seconds if config.health.enabled else math.inf

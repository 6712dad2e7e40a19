"""Probes in rounds: what trips over one backend does not end the others'."""

from __future__ import annotations

import asyncio
from typing import Any

from ollama_proxy.app.upstreams.probing import Prober
from ollama_proxy.domain.call import Need
from ollama_proxy.domain.device import BackendSpec, Health, ModelFacts
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.fleet.state import Fleet
from ollama_proxy.net.task import spawn


class Probed:
    """A backend that can only be probed; `fault` is what it raises instead."""

    capabilities = frozenset((Need.GENERATE,))

    def __init__(self, name: str, fault: Exception | None = None) -> None:
        self.spec = BackendSpec(name, "ollama", name, "cpu")
        self.fault = fault
        self.probes = 0

    async def probe(self, timeout_s: float) -> ProbeReport:
        self.probes += 1
        if self.fault is not None:
            raise self.fault
        return ProbeReport({"m:1b": ModelFacts("m:1b")})


def test_a_fault_of_ours_in_one_probe_leaves_the_others_going(caplog: Any) -> None:
    async def run() -> None:
        fleet, backends = Fleet(), {name: Probed(name) for name in ("bad", "good")}
        backends["bad"].fault = KeyError("bug of ours")
        for backend in backends.values():
            fleet.add(backend.spec, backend.capabilities)
        prober = Prober(fleet, backends, 1.0, 1.0, lambda: 0.0)  # type: ignore[arg-type]
        for _ in range(2):
            await prober.probe_all()
        assert [backend.probes for backend in backends.values()] == [2, 2]
        bad, good = fleet.view().backends
        assert (bad.health, good.health) == (Health.UNHEALTHY, Health.HEALTHY)
        assert bad.message == "its answer could not be read"

    asyncio.run(run())
    assert "bug of ours" in caplog.text


class Slow(Probed):
    """A backend whose answers wait, and then say what was true when they were asked for."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.models = ["m:1b"]
        self.go_on = asyncio.Event()
        self.asked = asyncio.Event()

    async def probe(self, timeout_s: float) -> ProbeReport:
        self.probes += 1
        found = {name: ModelFacts(name) for name in self.models}
        self.asked.set()
        await self.go_on.wait()
        return ProbeReport(found)


def test_a_change_is_seen_by_the_next_refresh_whatever_is_fresh_or_under_way() -> None:
    async def run() -> None:
        fleet, backend, other = Fleet(), Slow("a"), Probed("b")
        for one in (backend, other):
            fleet.add(one.spec, one.capabilities)
        prober = Prober(fleet, {"a": backend, "b": other}, 1.0, 5.0, lambda: 100.0)  # type: ignore[arg-type,dict-item]
        backend.go_on.set()
        await prober.probe_all()
        await prober.refresh()
        assert (backend.probes, other.probes) == (1, 1)

        backend.models.append("new:1")
        await prober.refresh(("a",))
        assert (backend.probes, other.probes) == (2, 1)
        assert "new:1" in (fleet.look("a").models or {})

        # A probe that began before the change is not believed.
        backend.go_on.clear()
        backend.asked.clear()
        early = spawn(prober.probe_all(), "a round")
        await backend.asked.wait()
        backend.models.append("newer:1")
        late = spawn(prober.refresh(("a",)), "a refresh")
        await asyncio.sleep(0)
        backend.go_on.set()
        await asyncio.gather(early, late)
        assert backend.probes == 4
        assert "newer:1" in (fleet.look("a").models or {})

    asyncio.run(run())

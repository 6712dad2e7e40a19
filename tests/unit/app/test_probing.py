"""Probes in rounds: what trips over one backend does not end the others'."""

from __future__ import annotations

import asyncio
from typing import Any

from ollama_proxy.app.probing import Prober
from ollama_proxy.domain.call import Need
from ollama_proxy.domain.device import BackendSpec, Health, ModelFacts
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.fleet.state import Fleet


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

"""What the status pages ask for and set: `domain.ports.Control`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast, get_args

from ollama_proxy.app.energy.desk import EnergyDesk
from ollama_proxy.app.reload import Reloader
from ollama_proxy.app.requests.dispatch import Dispatcher
from ollama_proxy.app.steering import Steering
from ollama_proxy.domain.device import Calibration, FleetView
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.metering import MeterStatus
from ollama_proxy.domain.ports import QueuePlace
from ollama_proxy.energy.ledger.summary import Accounting as AccountingRule
from ollama_proxy.energy.ledger.summary import By
from ollama_proxy.observability.metrics import Metrics


class ControlDesk:
    """Looks into the rooms, and passes on what is set."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        energy: EnergyDesk,
        steering: Steering,
        metrics: Metrics,
        reloader: Reloader,
        is_leaving: Callable[[], bool],
    ) -> None:
        self._dispatcher = dispatcher
        self._energy = energy
        self._steering = steering
        self._metrics = metrics
        self._reloader = reloader
        self._is_leaving = is_leaving

    def fleet(self) -> FleetView:
        return self._dispatcher.view()

    def meters(self) -> tuple[MeterStatus, ...]:
        return self._energy.accounting.meters()

    async def thermal(self) -> dict[str, dict[str, object]]:
        return await self._energy.climate.read()

    def queue(self) -> tuple[QueuePlace, ...]:
        return self._dispatcher.queue()

    async def ledger(self, by: str, since: str, until: str, accounting: str) -> dict[str, object]:
        for name, word, words in (("by", by, get_args(By)), ("accounting", accounting, get_args(AccountingRule))):
            if word not in words:
                raise ProxyError(ErrorKind.INVALID_REQUEST, f"{name}: expected one of {', '.join(words)}")
        rule = cast(AccountingRule, accounting)
        return await asyncio.to_thread(self._energy.sum_up, cast(By, by), since, until, rule)

    def calibrations(self) -> dict[str, Calibration]:
        return self._dispatcher.fleet_state.calibrations()

    def mode(self) -> tuple[str, str, str]:
        return self._steering.mode, self._steering.effective_mode, self._steering.description

    def set_mode(self, name: str) -> None:
        self._steering.set_mode(name)
        self._dispatcher.policy = self._steering.policy

    def metrics(self) -> tuple[bytes, str]:
        return self._metrics.render()

    @property
    def is_leaving(self) -> bool:
        return self._is_leaving()

    async def reload(self) -> tuple[str, ...]:
        return await self._reloader.reload("asked for")

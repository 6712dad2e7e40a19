"""What `/thermal` shows: temperatures, fans, throttling and power of each class of device on this machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ollama_proxy.domain.metering import Domain
from ollama_proxy.energy.meters.nvml_cards import CardState, NvmlCards
from ollama_proxy.energy.meters.sampler import Sampler
from ollama_proxy.energy.meters.thermal import DEVICE_CLASSES, ThermalSensor, ThermalState

_FRESH_S = 1.0
#: The domain whose power is that of a class. An NPU has none of its own.
_POWER: dict[str, tuple[Domain, ...]] = {"igpu": ("graphics",), "nvidia": ("card",), "cpu": ("package", "apu")}

Page = dict[str, dict[str, object]]


class Climate:
    """Looks at the sensors when somebody asks, at most once a second, in a thread: some drivers take their time."""

    def __init__(
        self,
        root: Path,
        sampler: Sampler | None,
        is_active: Callable[[], bool],
        *,
        enabled: bool = True,
        clock: Callable[[], float] = time.monotonic,
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        self._sensor = ThermalSensor(root)
        self._cards = NvmlCards(root)
        self._sampler = sampler
        self._is_active = is_active
        self._enabled = enabled
        self._clock = clock
        self._unix_clock = unix_clock
        self._read_s = float("-inf")
        self._page: Page = {name: _describe(ThermalState(), None, None) for name in DEVICE_CLASSES}
        self._lock = asyncio.Lock()
        #: What the latest look has found, by class of device.
        self.states: dict[str, ThermalState] = {}

    async def read(self) -> Page:
        """By class of device, under the names of the contract; None for what is not known."""
        async with self._lock:
            if self._enabled and self._clock() - self._read_s >= _FRESH_S:
                self._page = await asyncio.to_thread(self._look, self._is_active())
                self._read_s = self._clock()
        return self._page

    def _look(self, active: bool) -> Page:
        cards: Sequence[CardState] = self._cards.read_state(self._clock(), active)
        found = self._sensor.by_class(cards)
        self.states = found
        at = datetime.fromtimestamp(self._unix_clock(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {name: _describe(found.get(name, ThermalState()), self._find_watts(name), at) for name in DEVICE_CLASSES}

    def _find_watts(self, device: str) -> float | None:
        """The sum of what meters of this machine tell of a class; None when one of them tells nothing now."""
        if self._sampler is None or device not in _POWER:
            return None
        sources = [
            one
            for one in self._sampler.sources()
            if one.domain in _POWER[device] and device in one.hardware and one.kind != "emulated"
        ]
        told = [self._sampler.watts(one.id) for one in sources]
        known = [one for one in told if one is not None]
        return sum(known) if known and len(known) == len(told) else None


def _describe(state: ThermalState, watts: float | None, updated_at: str | None) -> dict[str, object]:
    figures: dict[str, object] = {
        "Temperature": state.temperature_c,
        "FanSpeed": state.fan_rpm,
        "FanPercent": state.fan_percent,
        "PowerDraw": watts,
        "Utilization": state.utilization_percent,
        "Throttling": state.throttling,
    }
    known = any(value is not None for value in figures.values())
    return {**figures, "UpdatedAt": updated_at if known else None}

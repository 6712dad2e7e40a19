"""What meters would show of an emulated machine: counters in their own steps, with their wraps and errors.

The world knows its joules exactly; a meter shows them in quanta, late, and sometimes wrongly scaled. `Sensors` moves
the world's clock and stops it where a counter is updated, so each counter holds the truth of its last update.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from ollama_proxy.lab.simulation.battery import Battery, BatteryModel
from ollama_proxy.lab.simulation.events import Event
from ollama_proxy.lab.simulation.physics import World

#: RAPL counts in 2^-14 J, which Linux rounds down to 61.035 microjoules, in 32 bits.
_RAPL_STEP_J = 2.0**-14
_RAPL_STEP_NJ = 61_035
_RAPL_STEPS = 2**32
RAPL_RANGE_UJ = (_RAPL_STEPS - 1) * _RAPL_STEP_NJ // 1000


class SensorModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Periods of the counters, the error of the platform's meter, where RAPL's counters stand at 0 s."""

    rapl_update_s: float = 0.001
    nvml_update_s: float = 0.1
    psys_scale: float = 1.0
    rapl_start_j: float = 0.0
    battery: BatteryModel = BatteryModel()


class Sensors:
    """The meters of one machine. Its clock is moved by `advance` here, not by the world's own."""

    def __init__(self, world: World, model: SensorModel | None = None) -> None:
        self.world = world
        self.model = model or SensorModel()
        self.battery = Battery(self.model.battery, self._platform_j(), self._platform_w())
        devices = world.devices()
        self._package = [one.name for one in devices if one.on_package]
        self._by_hardware = {
            kind: [one.name for one in devices if one.hardware == kind] for kind in ("cpu", "igpu", "npu", "nvidia")
        }
        self._rapl_j: dict[str, float] = {}
        self._nvml_j = 0.0
        self.nvml_w = 0.0
        self._update_rapl()
        self._update_nvml()

    def advance(self, to_s: float) -> list[Event]:
        """Move the world to `to_s`, counters updated at their last step before it; the world's events."""
        updates: tuple[tuple[float, Callable[[], None]], ...] = (
            (self.battery.model.update_s, self._update_battery),
            (self.model.nvml_update_s, self._update_nvml),
            (self.model.rapl_update_s, self._update_rapl),
        )
        due = [(_last_step(to_s, period_s), update) for period_s, update in updates]
        events: list[Event] = []
        for at_s, update in sorted(due, key=lambda one: one[0]):
            if at_s >= self.world.now_s:
                events += self.world.advance(at_s)
                update()
        return events + self.world.advance(to_s)

    def plug(self, *, online: bool) -> None:
        """Plug the mains in or out, now."""
        self.battery.plug(self._platform_j(), online=online)

    def rapl_uj(self, zone: str) -> int:
        """Microjoules of zone `package-0`, `core`, `uncore` or `psys`; wraps behind `RAPL_RANGE_UJ`."""
        steps = int((self.model.rapl_start_j + self._rapl_j[zone]) / _RAPL_STEP_J)
        return steps % _RAPL_STEPS * _RAPL_STEP_NJ // 1000

    def nvml_mj(self) -> int:
        """Millijoules of the graphics cards since the driver was loaded (0 s)."""
        return int(self._nvml_j * 1000)

    def npu_busy_us(self) -> int:
        """Microseconds that the NPU has worked; the kernel counts them as they pass."""
        return int(sum(self.world.busy_s(name) for name in self._by_hardware["npu"]) * 1e6)

    def has(self, hardware: str) -> bool:
        """Whether there is a device of this kind."""
        return bool(self._by_hardware[hardware])

    def is_asleep(self, hardware: str) -> bool:
        """Whether all devices of this kind are suspended: reading their meters would wake them."""
        return all(self.world.state(name) == "asleep" for name in self._by_hardware[hardware])

    def package_c(self) -> float | None:
        """The package's temperature; None if nothing is on it."""
        return self.world.temperature_c(self._package[0]) if self._package else None

    def _update_rapl(self) -> None:
        floor_j = self.world.host.package_floor_w * self.world.now_s
        self._rapl_j = {
            "package-0": floor_j + self._joules(self._package),
            "core": self._joules(self._on_package("cpu")),
            "uncore": self._joules(self._on_package("igpu")),
            "psys": self._platform_j() * self.model.psys_scale,
        }

    def _update_nvml(self) -> None:
        self._nvml_j = self._joules(self._by_hardware["nvidia"])
        self.nvml_w = sum(self.world.power_w(name) for name in self._by_hardware["nvidia"])

    def _update_battery(self) -> None:
        self.battery.update(self._platform_j(), self._platform_w())

    def _on_package(self, hardware: str) -> list[str]:
        return [name for name in self._by_hardware[hardware] if name in self._package]

    def _joules(self, names: list[str]) -> float:
        return sum(sum(self.world.device_joules(name)) for name in names)

    def _platform_j(self) -> float:
        world = self.world
        return world.host.platform_floor_w * world.now_s + world.joules_dynamic + world.joules_standby

    def _platform_w(self) -> float:
        return self.world.host.platform_floor_w + self.world.power_w()


def _last_step(now_s: float, period_s: float) -> float:
    """The last multiple of a period that is not after `now_s`, rounding forgiven."""
    return min(now_s, math.floor(now_s / period_s + 1e-9) * period_s)

"""Emulated meters as a folder of files, laid out as Linux lays out /sys, for readers that take a root path."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ollama_proxy.lab.simulation.nvml_library import CARD_ADDRESS
from ollama_proxy.lab.simulation.sensors import RAPL_RANGE_UJ, Sensors

_RAPL = Path("sys/devices/virtual/powercap/intel-rapl")
_POWERCAP = Path("sys/class/powercap")
_SUPPLY = Path("sys/class/power_supply")
_NPU = Path("sys/bus/pci/drivers/intel_vpu/0000:00:0b.0")
_CARD = Path("sys/bus/pci/devices") / CARD_ADDRESS
_ZONE = Path("sys/class/thermal/thermal_zone0")
#: Folder of each zone, and its name; children lie in their parent's folder.
_ZONES = {
    "intel-rapl:0": "package-0",
    "intel-rapl:0/intel-rapl:0:0": "core",
    "intel-rapl:0/intel-rapl:0:1": "uncore",
    "intel-rapl:1": "psys",
}


class SensorFiles:
    """The files of one machine's meters below a root. `write` shows what the sensors show at that moment."""

    def __init__(self, sensors: Sensors, root: Path) -> None:
        """Lays out the tree and fills it. Raises `OSError` where it cannot."""
        self._sensors = sensors
        self._root = root
        self._written: dict[Path, str] = {}
        (root / _POWERCAP).mkdir(parents=True, exist_ok=True)
        self.write()
        for folder in ("", *_ZONES):
            link = root / _POWERCAP / ((_RAPL / folder).name)
            if not link.is_symlink():
                link.symlink_to(os.path.relpath(root / _RAPL / folder, link.parent), target_is_directory=True)

    def write(self) -> None:
        """Bring every file up to date; a reader sees the old text or the new one, never half of it."""
        for path, text in self._texts():
            if self._written.get(path) != text:
                _replace(self._root / path, text + "\n")
                self._written[path] = text

    def _texts(self) -> Iterator[tuple[Path, str]]:
        yield from self._rapl()
        yield from self._supply()
        sensors = self._sensors
        if sensors.has("npu"):
            yield _NPU / "npu_busy_time_us", str(sensors.npu_busy_us())
        if sensors.has("nvidia"):
            yield _CARD / "vendor", "0x10de"
            yield _CARD / "class", "0x030000"
            yield _CARD / "power" / "control", "auto"
            yield _CARD / "power" / "runtime_status", "suspended" if sensors.is_asleep("nvidia") else "active"
        temperature_c = sensors.package_c()
        if temperature_c is not None:
            yield _ZONE / "type", "x86_pkg_temp"
            yield _ZONE / "temp", str(int(temperature_c) * 1000)

    def _rapl(self) -> Iterator[tuple[Path, str]]:
        host = self._sensors.world.host
        for folder, zone in _ZONES.items():
            yield _RAPL / folder / "name", zone
            yield _RAPL / folder / "max_energy_range_uj", str(RAPL_RANGE_UJ)
            yield _RAPL / folder / "energy_uj", str(self._sensors.rapl_uj(zone))
        package = _RAPL / "intel-rapl:0"
        yield package / "constraint_0_name", "long_term"
        yield package / "constraint_0_power_limit_uw", str(round(host.package_sustained_w * 1e6))
        yield package / "constraint_0_time_window_us", str(round(host.burst_s * 1e6))
        yield package / "constraint_1_name", "short_term"
        yield package / "constraint_1_power_limit_uw", str(round(host.package_burst_w * 1e6))

    def _supply(self) -> Iterator[tuple[Path, str]]:
        battery = self._sensors.battery
        yield _SUPPLY / "AC" / "type", "Mains"
        yield _SUPPLY / "AC" / "online", str(int(battery.online))
        figures = {
            "type": "Battery",
            "present": "1",
            "status": battery.status,
            "capacity": str(int(battery.share * 100)),
            "energy_full": str(round(battery.model.full_wh * 1e6)),
            "energy_now": str(round(battery.shown_wh * 1e6)),
            "power_now": str(round(battery.shown_w * 1e6)),
            "voltage_now": str(round(battery.volts * 1e6)),
        }
        for name, text in figures.items():
            yield _SUPPLY / "BAT0" / name, text


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.new")
    half.write_text(text, encoding="ascii")
    half.replace(path)

"""Temperatures and evidence of throttling, by the class of device that the contract knows.

Thermal zones are known by `type`, hwmon sensors by chip and label: the order of both changes from boot to boot.
`cpu*/thermal_throttle/package_throttle_total_time_ms` says that speed *was* cut, which no temperature does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from ollama_proxy.domain.metering import Source
from ollama_proxy.energy.meters import sysfs
from ollama_proxy.energy.meters.fan import FanSensor
from ollama_proxy.energy.meters.nvml_cards import CardState

_ZONES = "sys/class/thermal"
_HWMON = "sys/class/hwmon"
_CPUS = "sys/devices/system/cpu"
DEVICE_CLASSES = ("npu", "igpu", "nvidia", "cpu")
#: Zone types, and chips with the labels that stand for the whole chip, in the order of trust.
_ZONE_CLASSES = {"x86_pkg_temp": "cpu", "TCPU": "cpu", "B0D4": "cpu", "cpu-thermal": "cpu", "cpu_thermal": "cpu"}
_CHIP_CLASSES = {
    ("coretemp", "Package id"): "cpu",
    ("k10temp", "Tctl"): "cpu",
    ("zenpower", "Tdie"): "cpu",
    ("nouveau", ""): "nvidia",
    ("intel_vpu", ""): "npu",
}
_FAN_CLASSES = {"nouveau": "nvidia"}
#: What no sensor of a running machine shows; broken ones do.
_PLAUSIBLE_C = (-40.0, 150.0)
_MAX_NUMBER = 33


class Temperature(msgspec.Struct, frozen=True):
    """One sensor, in degrees Celsius. `device` is the class of device it stands for; empty where there is none."""

    source: str
    device: str
    name: str
    celsius: float
    critical_c: float | None = None


class ThermalState(msgspec.Struct, frozen=True):
    """What is known of one class of device; None where nobody tells."""

    temperature_c: float | None = None
    fan_rpm: float | None = None
    fan_percent: float | None = None
    utilization_percent: float | None = None
    throttling: bool | None = None
    #: At which a device of the class switches itself off.
    critical_c: float | None = None


class ThermalSensor:
    """Zones, hwmon temperatures and throttle counters; it remembers the counters to tell whether they move."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._throttled_ms: float | None = None

    def describe(self) -> tuple[Source, ...]:
        """Every temperature as a source, for the doctor."""
        return tuple(
            Source(
                id=one.source,
                meter="thermal",
                domain="other",
                covers=f"temperature of {one.name}" + (f" (stands for {one.device})" if one.device else ""),
            )
            for one in self.read()
        )

    def read(self) -> tuple[Temperature, ...]:
        """Every temperature that makes sense."""
        return (*self._read_zones(), *self._read_chips())

    def read_throttled_ms(self) -> float | None:
        """Milliseconds for which the hottest package was throttled since boot; None where the kernel tells none."""
        found = []
        for folder in (self._root / _CPUS).glob("cpu[0-9]*/thermal_throttle"):
            number = sysfs.read_number(folder / "package_throttle_total_time_ms")
            if number is None:
                number = sysfs.read_number(folder / "core_throttle_total_time_ms")
            if number is not None:
                found.append(number)
        return max(found, default=None)

    def by_class(self, cards: Sequence[CardState] = ()) -> dict[str, ThermalState]:
        """What is known of each class of device; throttling since the call before.

        `cards` are what NVIDIA cards tell of themselves (`NvmlCards.read_state`), which sysfs does not.
        """
        hottest: dict[str, float] = {}
        critical: dict[str, float] = {}
        for one in self.read():
            if one.device:
                hottest[one.device] = max(one.celsius, hottest.get(one.device, one.celsius))
            if one.device and one.critical_c is not None:
                critical[one.device] = min(one.critical_c, critical.get(one.device, one.critical_c))
        throttled_ms, before_ms = self.read_throttled_ms(), self._throttled_ms
        self._throttled_ms = throttled_ms
        throttling = None if throttled_ms is None or before_ms is None else throttled_ms > before_ms
        found = {}
        fans = {_FAN_CLASSES[fan.chip]: fan for fan in FanSensor(self._root).read() if fan.chip in _FAN_CLASSES}
        for device in DEVICE_CLASSES:
            fan = fans.get(device)
            found[device] = ThermalState(
                temperature_c=hottest.get(device),
                fan_rpm=fan.rpm if fan else None,
                fan_percent=fan.percent if fan else None,
                throttling=throttling if device == "cpu" else None,
                critical_c=critical.get(device),
            )
        if cards:
            found["nvidia"] = _join_cards(cards)
        return found

    def _read_zones(self) -> Iterator[Temperature]:
        for folder in sysfs.list_folder(self._root / _ZONES):
            kind = sysfs.read_text(folder / "type")
            celsius = _celsius(folder / "temp")
            if kind is None or celsius is None or not folder.name.startswith("thermal_zone"):
                continue
            device = _ZONE_CLASSES.get(kind, "")
            yield Temperature(f"thermal/{kind}/{folder.name}", device, kind, celsius, _critical_trip(folder))

    def _read_chips(self) -> Iterator[Temperature]:
        for folder in sysfs.list_folder(self._root / _HWMON):
            chip = sysfs.read_text(folder / "name")
            if chip is None or sysfs.is_suspended(folder / "device"):
                continue
            apu = sysfs.read_text(folder / "in1_label") == "vddnb"
            owner = sysfs.device_name(folder) or folder.name
            for number in range(1, _MAX_NUMBER):
                celsius = _celsius(folder / f"temp{number}_input")
                if celsius is None:
                    continue
                label = sysfs.read_text(folder / f"temp{number}_label") or ""
                name = f"{chip} {label}".strip()
                device = "igpu" if chip == "amdgpu" and apu and label == "edge" else _class_of(chip, label)
                critical_c = _celsius(folder / f"temp{number}_crit")
                yield Temperature(f"thermal/{chip}/{owner}/temp{number}", device, name, celsius, critical_c)


def thermal_by_class(root: Path = Path("/")) -> dict[str, ThermalState]:
    """One look; throttling is not known from one, keep a `ThermalSensor` for that."""
    return ThermalSensor(root).by_class()


def _join_cards(cards: Sequence[CardState]) -> ThermalState:
    """The worst of several cards."""
    throttling = [one.throttling for one in cards if one.throttling is not None]
    return ThermalState(
        temperature_c=max((one.temperature_c for one in cards if one.temperature_c is not None), default=None),
        fan_percent=max((one.fan_percent for one in cards if one.fan_percent is not None), default=None),
        utilization_percent=max(
            (one.utilization_percent for one in cards if one.utilization_percent is not None), default=None
        ),
        throttling=any(throttling) if throttling else None,
    )


def _class_of(chip: str, label: str) -> str:
    return next(
        (found for (name, start), found in _CHIP_CLASSES.items() if chip == name and label.startswith(start)), ""
    )


def _celsius(file: Path) -> float | None:
    number = sysfs.read_number(file)
    if number is None:
        return None
    return number / 1000 if _PLAUSIBLE_C[0] <= number / 1000 <= _PLAUSIBLE_C[1] else None


def _critical_trip(folder: Path) -> float | None:
    for number in range(_MAX_NUMBER):
        kind = sysfs.read_text(folder / f"trip_point_{number}_type")
        if kind is None:
            return None
        if kind == "critical":
            return _celsius(folder / f"trip_point_{number}_temp")
    return None

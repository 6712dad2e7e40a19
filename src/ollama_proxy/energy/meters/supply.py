"""Batteries and mains: does the machine run from its battery, and how fast does that empty?

Kernel: `Documentation/ABI/testing/sysfs-class-power`. A battery tells the energy set (`energy_now` uWh, `power_now` uW)
or the charge set (`charge_now` uAh, `current_now` uA, `voltage_now` uV). The sign of a current differs between drivers,
so the direction is taken from `status`. Values are seconds to tens of seconds old. Batteries of devices are left out.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ollama_proxy.domain.metering import DISCOVERED, MeterOptions, Reading, Source
from ollama_proxy.energy.meters import sysfs
from ollama_proxy.energy.meters.choice import is_picked, pick_sources

_FOLDER = "sys/class/power_supply"
_NO_FLOW = ("charging", "full", "not charging")
_UPDATE_S = 10.0
_MAINS = ("Mains", "USB", "Wireless")


class Battery(msgspec.Struct, frozen=True):
    """One battery; what it does not tell is None. `discharge_w` is negative while it fills."""

    name: str
    status: str
    percent: float | None
    energy_wh: float | None
    full_wh: float | None
    discharge_w: float | None


class PowerSupply(msgspec.Struct, frozen=True):
    """`on_battery` is None on machines that tell nothing of a supply; `percent` is of all batteries together."""

    on_battery: bool | None
    percent: float | None
    discharge_w: float | None
    batteries: tuple[Battery, ...]


class SupplyMeter:
    """W drawn from each battery: 0 while it fills or is full, absent when the driver does not tell."""

    min_period_s = 2.0
    blocks = False

    def __init__(self, root: Path = Path("/"), options: MeterOptions = DISCOVERED) -> None:
        self._root = root
        self._options = options

    def describe(self) -> tuple[Source, ...]:
        """Every battery of the machine."""
        found = []
        for folder in _folders(self._root, ("Battery",)):
            battery = _read_battery(folder)
            known = battery.discharge_w is not None or battery.status in _NO_FLOW
            covers = f"the whole machine, while it runs from battery {folder.name}"
            problem = "" if known else "the driver tells neither power nor current and voltage"
            found.append(
                Source(
                    id=self._source_id(folder.name),
                    meter="supply",
                    domain="battery",
                    covers=covers,
                    readable=known,
                    problem=problem,
                    backends=self._options.backends,
                    max_rate=self._options.max_watts or 1000.0,
                    update_s=_UPDATE_S,
                )
            )
        return pick_sources(found, self._options)

    def read(self, now_s: float, active: bool = True) -> tuple[Reading, ...]:
        """Watts of each battery."""
        found = []
        for battery in read_supply(self._root).batteries:
            source = self._source_id(battery.name)
            watts = 0.0 if battery.status in _NO_FLOW else battery.discharge_w
            if watts is not None and watts >= 0 and is_picked(source, self._options):
                found.append(Reading(source, "battery", now_s, watts=watts))
        return tuple(found)

    def _source_id(self, name: str) -> str:
        return f"{self._options.id or 'supply'}/{name}"


def read_supply(root: Path = Path("/")) -> PowerSupply:
    """The state of the supply, all batteries together."""
    batteries = tuple(_read_battery(folder) for folder in _folders(root, ("Battery",)))
    online = [sysfs.read_number(folder / "online") for folder in _folders(root, _MAINS)]
    told = [one for one in online if one is not None]
    states = {battery.status for battery in batteries}
    on_battery: bool | None = None
    if any(told):
        on_battery = False
    elif batteries and (told or "discharging" in states):
        on_battery = "discharging" in states or not states & set(_NO_FLOW)
    elif batteries and states & set(_NO_FLOW):
        on_battery = False
    flows = [battery.discharge_w for battery in batteries if battery.discharge_w is not None]
    complete = bool(flows) and len(flows) == len(batteries)
    return PowerSupply(on_battery, _join_percent(batteries), sum(flows) if complete else None, batteries)


def _folders(root: Path, types: tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(
        folder
        for folder in sysfs.list_folder(root / _FOLDER)
        if sysfs.read_text(folder / "type") in types and sysfs.read_text(folder / "scope") != "Device"
    )


def _read_battery(folder: Path) -> Battery:
    status = (sysfs.read_text(folder / "status") or "unknown").lower()
    volts = _scaled(folder / "voltage_now")
    watts = _magnitude(folder, volts)
    return Battery(
        name=folder.name,
        status=status,
        percent=sysfs.read_number(folder / "capacity"),
        energy_wh=_energy(folder, "now", volts),
        full_wh=_energy(folder, "full", volts),
        discharge_w=_direct(watts, status),
    )


def _magnitude(folder: Path, volts: float | None) -> float | None:
    """Watts that flow, without a direction."""
    watts = _scaled(folder / "power_now")
    if watts is not None:
        return abs(watts)
    amperes = _scaled(folder / "current_now")
    return None if amperes is None or volts is None else abs(amperes * volts)


def _direct(watts: float | None, status: str) -> float | None:
    if watts is None:
        return None
    if status == "discharging":
        return watts
    if status == "charging":
        return -watts
    return 0.0 if status in _NO_FLOW else None


def _energy(folder: Path, when: str, volts: float | None) -> float | None:
    """Wh; from a charge it takes the nominal voltage where there is one, which is nearer to the mean than today's."""
    energy = _scaled(folder / f"energy_{when}")
    if energy is not None:
        return energy
    charge = _scaled(folder / f"charge_{when}")
    nominal = _scaled(folder / "voltage_min_design") or volts
    return None if charge is None or nominal is None else charge * nominal


def _scaled(file: Path) -> float | None:
    number = sysfs.read_number(file)
    return None if number is None else number / 1e6


def _join_percent(batteries: tuple[Battery, ...]) -> float | None:
    """By energy where every battery tells it, else the plain mean of what is told."""
    if batteries and all(one.energy_wh is not None and one.full_wh for one in batteries):
        return 100 * sum(one.energy_wh or 0 for one in batteries) / sum(one.full_wh or 0 for one in batteries)
    told = [one.percent for one in batteries if one.percent is not None]
    return sum(told) / len(told) if told else None

"""RAPL counters of the processor package, its cores, its graphics, its memory and the platform.

Kernel: `Documentation/power/powercap/powercap.rst`. Zones are known by their `name` and the zone they stand in, never
by their number, which changes between machines. The same counter may be offered twice, by registers of the core (MSR)
and by memory-mapped ones (`-mmio`, `-tpmi`): one energy, so a name is taken once.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ollama_proxy.domain.metering import DISCOVERED, Domain, MeterOptions, Reading, Source
from ollama_proxy.energy.meters import sysfs
from ollama_proxy.energy.meters.choice import is_picked

_FOLDER = "sys/class/powercap"
_DOMAINS: dict[str, Domain] = {"core": "core", "uncore": "graphics", "dram": "dram", "psys": "platform"}
_COVERS = {
    "package": "processor package: cores, integrated graphics and NPU together",
    "core": "cores of the package",
    "graphics": "integrated graphics of the package",
    "dram": "memory beside the package",
    "platform": "the whole machine, as its board is wired: compare with the battery before trusting it",
}
_HARDWARE = {"package": ("cpu", "igpu", "npu"), "core": ("cpu",), "graphics": ("igpu",)}
#: No package, and no board that tells its platform's energy, draws more.
_MAX_WATTS = 1500.0
_ZONES = "/sys/devices/virtual/powercap/intel-rapl*"
_GROUP = "power-meters"

GRANT = (
    f'sudo groupadd -f {_GROUP} && sudo usermod -aG {_GROUP} "$USER" && '
    f"printf 'z {_ZONES}/*:*/energy_uj 0440 root {_GROUP}\\n"
    f"z {_ZONES}/*:*/*:*/energy_uj 0440 root {_GROUP}\\n' | "
    "sudo tee /etc/tmpfiles.d/power-meters.conf && sudo systemd-tmpfiles --create power-meters.conf"
)
UNMASK = (
    "podman run --security-opt unmask=/sys/devices/virtual/powercap …  (docker: --security-opt systempaths=unconfined)"
)


class _Zone(msgspec.Struct, frozen=True):
    source: Source
    file: Path


class PowercapMeter:
    """The zones under `/sys/class/powercap`, in J since some moment (1 ms old at most, 61 uJ steps on most chips)."""

    min_period_s = 0.0
    blocks = False

    def __init__(self, root: Path = Path("/"), options: MeterOptions = DISCOVERED) -> None:
        self._folder = root / _FOLDER
        self._options = options
        self._zones: tuple[_Zone, ...] = ()
        self._listed_s = float("-inf")

    def describe(self) -> tuple[Source, ...]:
        """Every zone, with the reason where one cannot be read."""
        self._zones = self._find_zones()
        return tuple(zone.source for zone in self._zones)

    def read(self, now_s: float, active: bool = True) -> tuple[Reading, ...]:
        """Joules of every zone that can be read."""
        if now_s - self._listed_s >= sysfs.LIST_EVERY_S:
            self._zones, self._listed_s = self._find_zones(), now_s
        found = []
        for zone in self._zones:
            microjoules = sysfs.read_number(zone.file)
            if microjoules is not None and microjoules >= 0:
                found.append(Reading(zone.source.id, zone.source.domain, now_s, joules=microjoules / 1e6))
        return tuple(found)

    def _find_zones(self) -> tuple[_Zone, ...]:
        folders = {folder.name: folder for folder in sysfs.list_folder(self._folder) if ":" in folder.name}
        paths: dict[str, str] = {}
        zones: list[_Zone] = []
        # Zones of the plain control type come first, so that theirs is the one that is taken.
        for name in sorted(folders, key=lambda one: (one.partition(":")[0] != "intel-rapl", one.count(":"), one)):
            path = _name_path(name, folders)
            if path in paths.values():
                continue
            paths[name] = path
            zones.append(self._describe_zone(path, folders[name]))
        platform = next((zone.source.id for zone in zones if zone.source.domain == "platform"), "")
        placed = sorted((_place(zone, platform) for zone in zones), key=lambda zone: zone.source.id)
        return tuple(zone for zone in placed if is_picked(zone.source.id, self._options))

    def _describe_zone(self, path: str, folder: Path) -> _Zone:
        word = path.rpartition("/")[2]
        domain = "package" if word.startswith("package") else _DOMAINS.get(word, "other")
        file = folder / "energy_uj"
        problem = sysfs.explain(file)
        remedy = GRANT if problem == "permission denied" else ""
        if problem == "not there" and not (folder / "name").exists():
            problem, remedy = "hidden by the container engine", UNMASK
        microjoules = sysfs.read_number(folder / "max_energy_range_uj")
        source = Source(
            id=f"{self._options.id or 'powercap'}/{path}",
            meter="powercap",
            domain=domain,
            covers=_COVERS.get(domain, f"zone {word}"),
            readable=not problem,
            problem=problem,
            remedy=remedy,
            hardware=_HARDWARE.get(domain, ()),
            backends=self._options.backends,
            range=microjoules / 1e6 if microjoules and microjoules > 0 else None,
            max_rate=self._options.max_watts or _MAX_WATTS,
            step=61e-6,
        )
        return _Zone(source, file)


def _name_path(name: str, folders: dict[str, Path]) -> str:
    """`package-0/core` for `intel-rapl:0:0`; the folder's own name where the zone does not tell one."""
    own = sysfs.read_text(folders[name] / "name") or name
    parent = name.rpartition(":")[0]
    return f"{_name_path(parent, folders)}/{own}" if parent in folders else own


def _place(zone: _Zone, platform: str) -> _Zone:
    """Say which other zone contains this one; memory stands beside its package, not in it."""
    parent = zone.source.id.rpartition("/")[0] if zone.source.id.count("/") > 1 else ""
    if zone.source.domain in ("package", "dram"):
        parent = platform
    return msgspec.structs.replace(zone, source=msgspec.structs.replace(zone.source, inside=parent))

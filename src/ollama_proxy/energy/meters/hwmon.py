"""Graphics cards that tell their energy or power through hwmon: Intel discrete cards, AMD cards and APUs.

Intel (`xe`, `i915`): `energy1_input` is the card, `energy2_input` its chip, both uJ; the driver has them for discrete
cards only. AMD (`amdgpu`): `power1_average` or `power1_input`, uW; on an APU the figure includes the processor. Every
read of these files wakes a sleeping device, so its runtime state is asked first.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from ollama_proxy.domain.metering import DISCOVERED, Domain, MeterOptions, Reading, Source
from ollama_proxy.energy.meters import sysfs
from ollama_proxy.energy.meters.choice import is_picked

FOLDER = "sys/class/hwmon"
_INTEL = ("xe", "i915")
_APU_COVERS = "AMD APU: processor and graphics in one figure; never add it to a package counter"
#: The management firmware averages over about this time.
_AMD_UPDATE_S = 0.1


class _Channel(msgspec.Struct, frozen=True):
    source: Source
    file: Path
    device: Path
    #: J or W of one step of the file.
    scale: float
    counts: bool


class HwmonMeter:
    """Energy counters (J) of Intel cards, power (W) of AMD cards and APUs."""

    min_period_s = 0.0
    blocks = False

    def __init__(self, root: Path = Path("/"), options: MeterOptions = DISCOVERED) -> None:
        self._folder = root / FOLDER
        self._options = options
        self._channels: tuple[_Channel, ...] = ()
        self._listed_s = float("-inf")

    def describe(self) -> tuple[Source, ...]:
        """Every card that tells energy or power."""
        self._channels = self._find_channels()
        return tuple(channel.source for channel in self._channels)

    def read(self, now_s: float, active: bool = True) -> tuple[Reading, ...]:
        """What cards say that are awake; a card that may fall asleep is left alone while nobody works."""
        if now_s - self._listed_s >= sysfs.LIST_EVERY_S:
            self._channels, self._listed_s = self._find_channels(), now_s
        found = []
        for channel in self._channels:
            if not sysfs.may_touch(channel.device, active):
                continue
            value = sysfs.read_number(channel.file)
            if value is None or value < 0:
                continue
            source, figure = channel.source, value * channel.scale
            if channel.counts:
                found.append(Reading(source.id, source.domain, now_s, joules=figure))
            else:
                found.append(Reading(source.id, source.domain, now_s, watts=figure))
        return tuple(found)

    def _find_channels(self) -> tuple[_Channel, ...]:
        found = [channel for folder in sysfs.list_folder(self._folder) for channel in self._find_in(folder)]
        return tuple(channel for channel in found if is_picked(channel.source.id, self._options))

    def _find_in(self, folder: Path) -> Iterator[_Channel]:
        name = sysfs.read_text(folder / "name")
        if name in _INTEL:
            for file, domain, covers in (
                ("energy1_input", "card", "Intel graphics card with its memory"),
                ("energy2_input", "gpu", "chip of the Intel graphics card"),
            ):
                if _is_listed(folder / file):
                    yield self._make(folder, file, domain, covers)  # type: ignore[arg-type]  # literals in a tuple
        elif name == "amdgpu":
            file = next((one for one in ("power1_average", "power1_input") if _is_listed(folder / one)), "")
            if file:
                # The driver offers the second voltage on APUs only.
                apu = sysfs.read_text(folder / "in1_label") == "vddnb"
                yield self._make(folder, file, "apu" if apu else "card", _APU_COVERS if apu else "AMD graphics card")

    def _make(self, folder: Path, file: str, domain: Domain, covers: str) -> _Channel:
        device = folder / "device"
        asleep = sysfs.is_suspended(device)
        problem = "" if asleep else sysfs.explain(folder / file)
        counts = file.startswith("energy")
        prefix = f"{self._options.id or 'hwmon'}/{sysfs.device_name(folder) or folder.name}"
        source = Source(
            id=f"{prefix}/{domain}",
            meter="hwmon",
            domain=domain,
            covers=covers + (" (asleep; it is not woken)" if asleep else ""),
            readable=not problem,
            problem=problem,
            remedy=f"sudo chmod a+r {folder / file}" if problem == "permission denied" else "",
            inside=f"{prefix}/card" if domain == "gpu" and _is_listed(folder / "energy1_input") else "",
            hardware=("cpu", "igpu", "npu") if domain == "apu" else (),
            backends=self._options.backends,
            max_rate=self._options.max_watts or 1000.0,
            update_s=0.001 if counts else _AMD_UPDATE_S,
        )
        return _Channel(source, folder / file, device, 1e-6, counts)


def _is_listed(file: Path) -> bool:
    return file.exists() or file.is_symlink()

"""Busy time of Intel NPUs. There is no counter of their energy; the busy time is what apportioning starts from.

Kernel: `drivers/accel/ivpu/ivpu_sysfs.c`. Asked more than once a second, the driver slows the submission of jobs. The
clock is `npu_current_frequency_mhz`, since Linux 7.2 also `freq/current_freq`.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from ollama_proxy.domain.metering import DISCOVERED, MeterOptions, Reading, Source
from ollama_proxy.energy.meters import sysfs
from ollama_proxy.energy.meters.choice import is_picked, pick_sources

_FOLDER = "sys/bus/pci/drivers/intel_vpu"
_BUSY = "npu_busy_time_us"
_CLOCKS = ("freq/current_freq", "npu_current_frequency_mhz")
_GROUP = 'sudo usermod -aG render "$USER"'
PERIOD_S = 1.0


class NpuState(msgspec.Struct, frozen=True):
    """What else an NPU tells: clock (0 is told as None: it sleeps then), memory in use."""

    device: str
    clock_mhz: float | None
    memory_bytes: int | None


class NpuMeter:
    """Seconds that each NPU was busy, read once a second at most."""

    min_period_s = PERIOD_S
    blocks = False

    def __init__(self, root: Path = Path("/"), options: MeterOptions = DISCOVERED) -> None:
        self._root = root
        self._options = options
        self._asked_s: float | None = None

    def describe(self) -> tuple[Source, ...]:
        """Every NPU; also whether this user may open it, which its model server has to."""
        return pick_sources([self._describe_device(device) for device in self._devices()], self._options)

    def read(self, now_s: float, active: bool = True) -> tuple[Reading, ...]:
        """Busy seconds since the driver was loaded; nothing when it was asked less than a second ago."""
        if self._asked_s is not None and now_s - self._asked_s < PERIOD_S:
            return ()
        self._asked_s = now_s
        found = []
        for device in self._devices():
            microseconds = sysfs.read_number(device / _BUSY)
            source = self._source_id(device)
            if microseconds is not None and microseconds >= 0 and is_picked(source, self._options):
                found.append(Reading(source, "npu_busy", now_s, busy_s=microseconds / 1e6))
        return tuple(found)

    def read_state(self) -> tuple[NpuState, ...]:
        """Clock and memory of each NPU, whichever generation of names the kernel has."""
        found = []
        for device in self._devices():
            clocks = (sysfs.read_number(device / name) for name in _CLOCKS)
            clock_mhz = next((value for value in clocks if value is not None), None)
            memory = sysfs.read_number(device / "npu_memory_utilization")
            found.append(NpuState(device.name, clock_mhz or None, None if memory is None else int(memory)))
        return tuple(found)

    def _devices(self) -> tuple[Path, ...]:
        return tuple(one for one in sysfs.list_folder(self._root / _FOLDER) if one.name.count(":") == 2)

    def _source_id(self, device: Path) -> str:
        return f"{self._options.id or 'npu'}/{device.name}"

    def _describe_device(self, device: Path) -> Source:
        problem = sysfs.explain(device / _BUSY)
        remedy = ""
        readable = not problem
        if problem == "not there":
            problem = "the kernel tells no busy time; Linux 6.11 or later does"
        elif readable and (closed := self._find_closed_node()):
            problem, remedy = (
                f"busy time can be read, but {closed} cannot be opened by a model server of this user",
                _GROUP,
            )
        return Source(
            id=self._source_id(device),
            meter="npu",
            domain="npu_busy",
            covers="seconds the NPU worked; its energy is part of the package and has no counter of its own",
            readable=readable,
            problem=problem,
            remedy=remedy,
            hardware=("npu",),
            backends=self._options.backends,
            max_rate=2.0,
            update_s=0.001,
        )

    def _find_closed_node(self) -> str:
        nodes = [one for one in sysfs.list_folder(self._root / "dev/accel") if one.name.startswith("accel")]
        closed = [one for one in nodes if not os.access(one, os.R_OK | os.W_OK, effective_ids=True)]
        return str(Path("/") / closed[0].relative_to(self._root)) if closed else ""

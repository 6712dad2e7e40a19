"""NVIDIA cards, through NVML (package `nvidia-ml-py`, optional, imported when a card is awake).

NVML: `nvmlDeviceGetTotalEnergyConsumption`, mJ since the driver was loaded, Volta and later; else
`nvmlDeviceGetPowerUsage`, mW, a mean over a second on most chips. The counter moves in steps of 20-100 ms. Asking keeps
a card from falling asleep and wakes one that does, so the card's PCI state is asked first, and the library is let go
while nobody works and the card may sleep.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from ollama_proxy.domain.metering import DISCOVERED, MeterOptions, Reading, Source
from ollama_proxy.energy.meters import sysfs
from ollama_proxy.energy.meters.choice import pick_sources

_FOLDER = "sys/bus/pci/devices"
_VENDOR = "0x10de"
_DISPLAY_CLASS = "0x03"
_PACKAGE = "nvidia-ml-py"
_COUNTER_S = 0.1
_POWER_S = 1.0
_ASLEEP = "asleep; it is not woken to be asked"


class NvmlMissingError(Exception):
    """The library or its driver cannot be used; the text says why."""


def load_nvml() -> ModuleType:
    """The official bindings. Raises `NvmlMissingError`; another package of the same module name is refused."""
    try:
        importlib.metadata.distribution(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise NvmlMissingError(f"the package {_PACKAGE} is not installed") from None
    return importlib.import_module("pynvml")


class NvmlMeter:
    """Energy (J) or power (W) of each NVIDIA card, one source a card by its PCI address."""

    min_period_s = 0.0
    blocks = False

    def __init__(
        self,
        root: Path = Path("/"),
        options: MeterOptions = DISCOVERED,
        load: Callable[[], Any] = load_nvml,
    ) -> None:
        self._root = root
        self._options = options
        self._load = load
        self._nvml: Any = None
        #: Cards whose driver has no energy counter.
        self._without_counter: set[str] = set()

    def describe(self) -> tuple[Source, ...]:
        """Every card on the PCI bus, also one that sleeps or lacks its library."""
        return pick_sources([self._describe_card(card) for card in self._cards()], self._options)

    def read(self, now_s: float, active: bool = True) -> tuple[Reading, ...]:
        """What cards say that are awake. Raises `NvmlMissingError` when a card is awake and nothing can ask it."""
        cards = [card for card in self._cards() if sysfs.may_touch(card, active)]
        if not cards:
            self._let_go()
            return ()
        nvml = self._open()
        wanted = {self._source_id(card) for card in cards}
        if self._options.devices:
            wanted &= {source.id for source in self.describe()}
        found = []
        for card in cards:
            if self._source_id(card) not in wanted:
                continue
            try:
                found.append(self._ask(nvml, card, now_s))
            except nvml.NVMLError:
                # Lost, in a reset, or split into instances: this card has no figure now, the others may.
                continue
        if not found:
            self._let_go()
        return tuple(found)

    def _ask(self, nvml: Any, card: Path, now_s: float) -> Reading:
        handle = nvml.nvmlDeviceGetHandleByPciBusId(card.name.encode())
        source = self._source_id(card)
        if card.name not in self._without_counter:
            try:
                millijoules = nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
            except nvml.NVMLError as error:
                if getattr(error, "value", None) != nvml.NVML_ERROR_NOT_SUPPORTED:
                    raise
                self._without_counter.add(card.name)
            else:
                return Reading(source, "card", now_s, joules=millijoules / 1e3)
        return Reading(source, "card", now_s, watts=nvml.nvmlDeviceGetPowerUsage(handle) / 1e3)

    def _open(self) -> Any:
        if self._nvml is None:
            nvml = self._load()
            try:
                nvml.nvmlInit()
            except nvml.NVMLError as error:
                raise NvmlMissingError(f"the NVIDIA driver does not answer: {error}") from None
            self._nvml = nvml
        return self._nvml

    def _let_go(self) -> None:
        if self._nvml is not None:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
            self._nvml = None

    def _cards(self) -> tuple[Path, ...]:
        return tuple(
            device
            for device in sysfs.list_folder(self._root / _FOLDER)
            if sysfs.read_text(device / "vendor") == _VENDOR
            and (sysfs.read_text(device / "class") or "").startswith(_DISPLAY_CLASS)
        )

    def _source_id(self, card: Path) -> str:
        return f"{self._options.id or 'nvml'}/{card.name}"

    def _describe_card(self, card: Path) -> Source:
        covers, problem, remedy = "NVIDIA card with its memory", "", ""
        if sysfs.is_suspended(card):
            covers += f" ({_ASLEEP})"
        else:
            problem, remedy = self._try(card)
        return Source(
            id=self._source_id(card),
            meter="nvml",
            domain="card",
            covers=covers,
            readable=not problem,
            problem=problem,
            remedy=remedy,
            hardware=("nvidia",),
            backends=self._options.backends,
            max_rate=self._options.max_watts or 1500.0,
            update_s=_POWER_S if card.name in self._without_counter else _COUNTER_S,
        )

    def _try(self, card: Path) -> tuple[str, str]:
        """What is wrong with a card that is awake, and what mends it."""
        try:
            nvml = self._open()
        except NvmlMissingError as error:
            missing = _PACKAGE in str(error)
            return str(error), f"pip install {_PACKAGE}" if missing else "nvidia-smi  (tells what ails the driver)"
        try:
            self._ask(nvml, card, 0.0)
        except nvml.NVMLError as error:
            return f"the driver answers: {error}", ""
        return "", ""

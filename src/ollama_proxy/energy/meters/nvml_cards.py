"""NVIDIA cards on the PCI bus, and the library that asks them, kept from waking anybody.

Asking keeps a card from falling asleep and wakes one that does, so the card's PCI state is asked first, and the library
is let go while nobody works and the card may sleep.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from ollama_proxy.energy.meters import sysfs

PACKAGE = "nvidia-ml-py"
_FOLDER = "sys/bus/pci/devices"
_VENDOR = "0x10de"
_DISPLAY_CLASS = "0x03"
#: NVML's reasons for lower clocks that mean heat or a lack of power: hardware slowdown, thermal (software, hardware),
#: power brake. A cap that somebody set (0x4) is no throttling.
_THROTTLE_BITS = 0x8 | 0x20 | 0x40 | 0x80
_TEMPERATURE_GPU = 0


class NvmlMissingError(Exception):
    """The library or its driver cannot be used; the text says why."""


class CardState(msgspec.Struct, frozen=True):
    """What a card tells besides its energy; None where it does not."""

    address: str
    temperature_c: float | None = None
    fan_percent: float | None = None
    utilization_percent: float | None = None
    throttling: bool | None = None


def load_nvml() -> ModuleType:
    """The official bindings. Raises `NvmlMissingError`; another package of the same module name is refused."""
    try:
        importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise NvmlMissingError(f"the package {PACKAGE} is not installed") from None
    return importlib.import_module("pynvml")


class NvmlCards:
    """The cards of one root, and one use of the library. Not for several threads: each makes its own."""

    def __init__(self, root: Path = Path("/"), load: Callable[[], Any] = load_nvml) -> None:
        self._folder = root / _FOLDER
        self._load = load
        self._nvml: Any = None
        self._cards: tuple[Path, ...] = ()
        self._listed_s = float("-inf")

    def find(self) -> tuple[Path, ...]:
        """Every card, as a folder of the PCI bus named by its address."""
        return tuple(
            device
            for device in sysfs.list_folder(self._folder)
            if sysfs.read_text(device / "vendor") == _VENDOR
            and (sysfs.read_text(device / "class") or "").startswith(_DISPLAY_CLASS)
        )

    def find_awake(self, now_s: float, active: bool) -> tuple[Path, ...]:
        """Those that may be asked now; without any, the library is let go."""
        if now_s - self._listed_s >= sysfs.LIST_EVERY_S:
            self._cards, self._listed_s = self.find(), now_s
        awake = tuple(card for card in self._cards if sysfs.may_touch(card, active))
        if not awake:
            self.let_go()
        return awake

    def open(self) -> Any:
        """The library. Raises `NvmlMissingError`."""
        if self._nvml is None:
            nvml = self._load()
            try:
                nvml.nvmlInit()
            except nvml.NVMLError as error:
                raise NvmlMissingError(f"the NVIDIA driver does not answer: {error}") from None
            self._nvml = nvml
        return self._nvml

    def let_go(self) -> None:
        """End the use of the library, so that cards may sleep."""
        if self._nvml is not None:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
            self._nvml = None

    def read_state(self, now_s: float, active: bool = True) -> tuple[CardState, ...]:
        """What the cards tell that may be asked; nothing when the library is missing."""
        cards = self.find_awake(now_s, active)
        try:
            return tuple(_read_card(self.open(), card.name) for card in cards)
        except NvmlMissingError:
            return ()


def _read_card(nvml: Any, address: str) -> CardState:
    try:
        handle = nvml.nvmlDeviceGetHandleByPciBusId(address.encode())
    except nvml.NVMLError:
        return CardState(address)

    def ask(function: str, *arguments: Any) -> Any:
        try:
            return getattr(nvml, function)(handle, *arguments)
        except nvml.NVMLError:
            return None

    utilization = ask("nvmlDeviceGetUtilizationRates")
    reasons = ask("nvmlDeviceGetCurrentClocksThrottleReasons")
    return CardState(
        address,
        temperature_c=ask("nvmlDeviceGetTemperature", _TEMPERATURE_GPU),
        fan_percent=ask("nvmlDeviceGetFanSpeed"),
        utilization_percent=None if utilization is None else utilization.gpu,
        throttling=None if reasons is None else bool(reasons & _THROTTLE_BITS),
    )

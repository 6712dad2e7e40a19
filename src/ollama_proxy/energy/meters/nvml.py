"""NVIDIA cards, through NVML (package `nvidia-ml-py`, optional, imported when a card is awake).

NVML: `nvmlDeviceGetTotalEnergyConsumption`, mJ since the driver was loaded, Volta and later; else
`nvmlDeviceGetPowerUsage`, mW, a mean over a second on most chips. The counter moves in steps of 20-100 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ollama_proxy.domain.metering import DISCOVERED, MeterOptions, Reading, Source
from ollama_proxy.energy.meters import sysfs
from ollama_proxy.energy.meters.choice import is_picked, pick_sources
from ollama_proxy.energy.meters.nvml_cards import PACKAGE, NvmlCards, NvmlMissingError, load_nvml

_COUNTER_S = 0.1
_POWER_S = 1.0
_MAX_WATTS = 1500.0


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
        self._options = options
        self._cards = NvmlCards(root, load)
        #: Addresses of cards whose driver has no energy counter.
        self._without_counter: set[str] = set()

    def describe(self) -> tuple[Source, ...]:
        """Every card on the PCI bus, also one that sleeps or lacks its library."""
        return pick_sources([self._describe_card(card) for card in self._cards.find()], self._options)

    def read(self, now_s: float, active: bool = True) -> tuple[Reading, ...]:
        """What cards say that are awake. Raises `NvmlMissingError` when a card is awake and nothing can ask it."""
        cards = self._cards.find_awake(now_s, active)
        wanted = [card for card in cards if is_picked(self._source_id(card), self._options)]
        if not wanted:
            return ()
        nvml = self._cards.open()
        found = []
        for card in wanted:
            try:
                found.append(self._ask(nvml, card, now_s))
            except nvml.NVMLError:
                # Lost, in a reset, or split into instances: this card has no figure now, the others may.
                continue
        if not found:
            self._cards.let_go()
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

    def _source_id(self, card: Path) -> str:
        return f"{self._options.id or 'nvml'}/{card.name}"

    def _describe_card(self, card: Path) -> Source:
        covers, problem, remedy = "NVIDIA card with its memory", "", ""
        if sysfs.is_suspended(card):
            covers += " (asleep; it is not woken)"
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
            max_rate=self._options.max_watts or _MAX_WATTS,
            update_s=_POWER_S if card.name in self._without_counter else _COUNTER_S,
        )

    def _try(self, card: Path) -> tuple[str, str]:
        """What is wrong with a card that is awake, and what mends it."""
        try:
            nvml = self._cards.open()
        except NvmlMissingError as error:
            missing = PACKAGE in str(error)
            return str(error), f"pip install {PACKAGE}" if missing else "nvidia-smi  (tells what ails the driver)"
        try:
            self._ask(nvml, card, 0.0)
        except nvml.NVMLError as error:
            return f"the driver answers: {error}", ""
        return "", ""

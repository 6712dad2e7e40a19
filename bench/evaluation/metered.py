"""The emulated machine with its meters, read as the proxy reads them, while it does again what a run did."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import msgspec

from ollama_proxy.energy.activity import Phase, RequestEnergy
from ollama_proxy.energy.apportioning import Apportioning
from ollama_proxy.energy.attribution import Attribution
from ollama_proxy.lab.simulation.devices import DEFAULT_DEVICES
from ollama_proxy.lab.simulation.physics import Ended, Event, FirstToken, World
from ollama_proxy.lab.simulation.run import Setting
from ollama_proxy.lab.simulation.sensors import RAPL_RANGE_UJ, Sensors
from ollama_proxy.lab.simulation.workload import Served

#: Five reads a second, each up to a tenth of one late.
_READ_S, _LATE_S = 0.2, 0.1
_AFTERWARDS_S = 60.0
_DEVICES = {one.hardware: one for one in DEFAULT_DEVICES}
#: Steps of the counters.
_STEP_S = {"nvidia": 0.1, "npu": 0.001, "igpu": 0.001, "cpu": 0.001}
_ZONES = {"cpu": "core", "igpu": "uncore"}
#: What the configuration says of the NPU, which has no zone: too little by a third.
_CONFIGURED_NPU_W = 2.0


class Truth(msgspec.Struct, frozen=True):
    """What the device really drew from a request's begin to its end, above what it draws when idle."""

    marginal_j: float


class MeteredMachine:
    """Replays requests and keeps the books of every device. By hardware: `books`, `energies`; `truths` by request."""

    def __init__(self, setting: Setting) -> None:
        self._world = World(setting.devices, setting.host, setting.seed)
        self._sensors = Sensors(self._world)
        self._dice = random.Random(setting.seed)
        self._apportioning = Apportioning({"npu": _CONFIGURED_NPU_W}, zone_kind="emulated")
        self.books = {
            name: Attribution(kind="emulated", floor_w=0.0 if name == "npu" else None, lag_s=_STEP_S[name])
            for name in _DEVICES
        }
        self.energies: dict[str, dict[int, RequestEnergy]] = {name: {} for name in _DEVICES}
        self.truths: dict[int, Truth] = {}
        #: What the package's counter has counted, wraps undone, and what of it is no device's.
        self.package_j = self.package_rest_j = 0.0
        self._running: dict[int, tuple[Served, str, float]] = {}
        self._package_s = self._card_s = 0.0
        self._package = self._read_package()
        self._card_j = self.card_j

    @property
    def card_j(self) -> float:
        """What the counter of the graphics card shows."""
        return self._sensors.nvml_mj() / 1000

    def replay(self, served: list[Served]) -> None:
        """Let every request begin when it did, on the device it did. In the order of their begins."""
        until_s = max(one.ended_s for one in served) + _AFTERWARDS_S
        reads = self._plan_reads(until_s)
        read_s = next(reads)
        upcoming = iter(served)
        one = next(upcoming, None)
        while read_s < math.inf or one is not None:
            to_s = min(self._world.next_s(), read_s, one.started_s if one else math.inf)
            for event in self._sensors.advance(max(to_s, self._world.now_s)):
                self._note(event)
            while one is not None and one.started_s <= self._world.now_s:
                self._begin(one)
                one = next(upcoming, None)
            if read_s <= self._world.now_s:
                self._read()
                read_s = next(reads)

    def _plan_reads(self, until_s: float) -> Iterator[float]:
        number = 1
        while number * _READ_S < until_s:
            yield number * _READ_S + self._dice.uniform(0.0, _LATE_S)
            number += 1
        yield math.inf

    # -- what the proxy knows of requests ------------------------------------------------

    def _begin(self, served: Served) -> None:
        arrival = served.arrival
        hardware = next(name for name, device in _DEVICES.items() if device.name == served.device)
        self._running[arrival.id] = served, hardware, sum(self._world.device_joules(served.device))
        now_s = self._world.now_s
        self.books[hardware].begin(str(arrival.id), now_s)
        self.books[hardware].phase(str(arrival.id), Phase.PREFILL, now_s)
        self._world.start(served.device, arrival.id, arrival.prompt_tokens, arrival.output_tokens, arrival.model)

    def _note(self, event: Event) -> None:
        if isinstance(event, FirstToken):
            self.books[self._running[event.job][1]].phase(str(event.job), Phase.DECODE, event.at_s)
        elif isinstance(event, Ended):
            served, hardware, before_j = self._running.pop(event.job)
            arrival = served.arrival
            self.books[hardware].end(str(event.job), event.at_s, arrival.prompt_tokens, arrival.output_tokens)
            full_j = sum(self._world.device_joules(served.device)) - before_j
            idle_j = _DEVICES[hardware].idle_w * (event.at_s - served.started_s)
            self.truths[event.job] = Truth(full_j - idle_j)

    # -- what it reads -------------------------------------------------------------------

    def _read(self) -> None:
        self._read_card()
        now_s, shown = self._world.now_s, self._read_package()
        seconds = now_s - self._package_s
        joules = {
            zone: (shown[zone] - self._package[zone]) % (RAPL_RANGE_UJ / 1e6)
            for zone in ("package-0", "core", "uncore")
        }
        busy_s = {"npu": shown["npu"] - self._package["npu"]}
        zones_j = {name: joules[zone] for name, zone in _ZONES.items()}
        split = self._apportioning.split(seconds, joules["package-0"], zones_j, busy_s)
        for name, share in split.shares.items():
            if share is not None:
                doubt_j = share.joules * _STEP_S[name] / seconds
                self.books[name].settle(self._package_s, now_s, share.joules, doubt_j, share.kind, share.scale_error)
        self.package_rest_j += split.rest_j
        self.package_j += joules["package-0"]
        self._package, self._package_s = shown, now_s
        for name, books in self.books.items():
            self.energies[name].update((int(request), energy) for request, energy in books.drain(now_s))

    def _read_card(self) -> None:
        """As long as it sleeps it is left alone: a read would wake it."""
        now_s = self._world.now_s
        if self._sensors.is_asleep("nvidia"):
            return
        joules, seconds = self.card_j - self._card_j, now_s - self._card_s
        self.books["nvidia"].settle(self._card_s, now_s, joules, joules * _STEP_S["nvidia"] / seconds)
        self._card_j, self._card_s = self.card_j, now_s

    def _read_package(self) -> dict[str, float]:
        sensors = self._sensors
        zones = {zone: sensors.rapl_uj(zone) / 1e6 for zone in ("package-0", "core", "uncore")}
        return {**zones, "npu": sensors.npu_busy_us() / 1e6}

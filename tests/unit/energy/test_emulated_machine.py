"""From counters to requests on the emulated laptop: its truth is found again, by meters that show no request.

The machine has what spoils a simple subtraction: a graphics card that sleeps, wakes and lingers, devices that share
memory and a power limit, counters that step. Truth is the dynamic energy of a request's own work.
"""

from __future__ import annotations

import random
from statistics import median

import pytest

from ollama_proxy.energy.activity import Phase, RequestEnergy
from ollama_proxy.energy.apportioning import Apportioning
from ollama_proxy.energy.attribution import Attribution, Balance
from ollama_proxy.lab.simulation.devices import DEFAULT_DEVICES, DEFAULT_HOST
from ollama_proxy.lab.simulation.events import Ended, Event, FirstToken, Started
from ollama_proxy.lab.simulation.physics import World
from ollama_proxy.lab.simulation.sensors import Sensors

REQUESTS = 60
NPU, IGPU, CARD, CPU = "ollama-npu", "ollama-igpu", "ollama-nvidia", "ollama-cpu"
NVML_STEP_S, RAPL_STEP_S = 0.1, 0.001


class Laptop:
    """Four devices at 40 % load, each with its books; counters are read some five times a second."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._world = World(DEFAULT_DEVICES, DEFAULT_HOST, seed)
        self._sensors = Sensors(self._world)
        self._apportioning = Apportioning({NPU: 0.0})
        self.asked = self._draw_requests()
        self.truth: dict[int, float] = {}
        self.energies: dict[int, RequestEnergy] = {}
        self.books = {
            NPU: Attribution(kind="apportioned", floor_w=0),
            IGPU: Attribution(floor_w=0),
            CARD: Attribution(floor_w=0, lag_s=NVML_STEP_S),
            CPU: Attribution(floor_w=0),
        }

    def _draw_requests(self) -> dict[int, tuple[float, str, int, int]]:
        """Arrival, device, prompt tokens, output tokens by number, in the order of arrival."""
        found = []
        for device in DEFAULT_DEVICES:
            at_s = 10.0
            for _ in range(REQUESTS):
                at_s += self._dice.expovariate(0.4 / device.service_s(400, 120))
                tokens = (1 + int(self._dice.lognormvariate(*shape)) for shape in ((5.4, 0.8), (4.3, 0.7)))
                found.append((at_s, device.name, *tokens))
        return dict(enumerate(sorted(found)))

    def run(self) -> None:
        """Until everything has ended and is settled."""
        waiting = list(self.asked.items())[::-1]
        last_s, last = 0.0, self._read()
        while len(self.energies) < len(self.asked):
            now_s = last_s + 0.2 + self._dice.uniform(0, 0.05)
            while waiting and waiting[-1][1][0] <= now_s:
                number, (at_s, device, prompt, output) = waiting.pop()
                self._hear(self._sensors.advance(at_s))
                self.books[device].begin(str(number), at_s)
                self._world.start(device, number, prompt, output)
            self._hear(self._sensors.advance(now_s))
            now = self._read()
            self._settle(last_s, now_s, {name: max(0.0, now[name] - last[name]) for name in now})
            last_s, last = now_s, now

    def _read(self) -> dict[str, float]:
        zones = {"package": "package-0", CPU: "core", IGPU: "uncore"}
        figures = {name: self._sensors.rapl_uj(zone) / 1e6 for name, zone in zones.items()}
        return {**figures, CARD: self._sensors.nvml_mj() / 1e3, NPU: self._sensors.npu_busy_us() / 1e6}

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            _, device, prompt, output = self.asked[event.job]
            books, name = self.books[device], str(event.job)
            match event:
                case Started():
                    books.phase(name, Phase.PREFILL, event.at_s)
                case FirstToken():
                    books.phase(name, Phase.DECODE, event.at_s)
                case Ended():
                    books.end(name, event.at_s, prompt, output)
                    self.truth[event.job] = event.joules

    def _settle(self, from_s: float, to_s: float, shown: dict[str, float]) -> None:
        for name, step_s in ((CARD, NVML_STEP_S), (CPU, RAPL_STEP_S), (IGPU, RAPL_STEP_S)):
            self.books[name].settle(from_s, to_s, shown[name], step_s * shown[name] / (to_s - from_s))
        zones_j = {CPU: shown[CPU], IGPU: shown[IGPU]}
        split = self._apportioning.split(to_s - from_s, shown["package"], zones_j, {NPU: shown[NPU]})
        if share := split.shares[NPU]:
            books = self.books[NPU]
            books.settle(from_s, to_s, share.joules, 0.01 * share.joules, share.kind, share.scale_error)
        for books in self.books.values():
            self.energies.update({int(name): energy for name, energy in books.drain(to_s)})


@pytest.fixture(scope="module", params=[1, 2])
def laptop(request: pytest.FixtureRequest) -> Laptop:
    laptop = Laptop(request.param)
    laptop.run()
    return laptop


@pytest.mark.parametrize(("device", "within"), [(CARD, 0.05), (IGPU, 0.05), (CPU, 0.05), (NPU, 0.15)])
def test_truth_is_found_again(laptop: Laptop, device: str, within: float) -> None:
    pairs = [
        (laptop.energies[number], laptop.truth[number])
        for number, (_, name, _, _) in laptop.asked.items()
        # The first ones on the NPU come before there is anything to apportion by.
        if name == device and laptop.energies[number].covered > 0.99
    ]
    assert len(pairs) > 0.9 * REQUESTS
    errors = sorted(abs((energy.marginal_j or 0) / joules - 1) for energy, joules in pairs)
    assert median(errors) < within / 2
    assert errors[int(0.9 * len(errors))] < 1.5 * within
    covered = sum(abs((energy.marginal_j or 0) - joules) <= energy.plus_minus_j for energy, joules in pairs)
    assert covered >= 0.9 * len(pairs)
    assert median(energy.plus_minus_j / (energy.marginal_j or 1) for energy, _ in pairs) < 0.15


def test_sums_are_the_meters(laptop: Laptop) -> None:
    for books in laptop.books.values():
        balance: Balance = books.balance
        parts = (balance.marginal_j, balance.floor_j, balance.other_j, balance.idle_j, balance.pending_j)
        assert sum(parts) == pytest.approx(balance.meter_j, rel=1e-9)

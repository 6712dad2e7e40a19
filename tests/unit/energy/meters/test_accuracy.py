"""The whole way from a counter in sysfs to joules of a request, against a device whose truth is known."""

from __future__ import annotations

import random

import pytest

from ollama_proxy.energy.meters.powercap import PowercapMeter
from ollama_proxy.energy.meters.sampler import Sampler
from tests.support.sysfs import FakeSysfs

SOURCE, FOLDER = "powercap/package-0", "intel-rapl:0"
RANGE_UJ = 2_000_000_000
STEP_UJ = 61
JITTER_S = 0.02


class Device:
    """Draws 5 W at rest and more in bursts; its counter wraps and moves in steps of 61 uJ."""

    def __init__(self, sysfs: FakeSysfs, dice: random.Random) -> None:
        self.now_s = 1000.0
        self.changes = [(self.now_s, 0.0, 5.0)]  # from when, joules until then, watts since
        self.requests: list[tuple[float, float]] = []
        self._sysfs = sysfs
        at_s = self.now_s + 5
        for _ in range(50):
            lasts_s = dice.uniform(0.3, 6.0)
            self._change(at_s, dice.uniform(20, 60))
            self._change(at_s + lasts_s, 5.0)
            self.requests.append((at_s, at_s + lasts_s))
            at_s += lasts_s + dice.uniform(0.25, 4.0)
        self.end_s = at_s + 5

    def _change(self, at_s: float, watts: float) -> None:
        self.changes.append((at_s, self.joules(at_s), watts))

    def joules(self, at_s: float) -> float:
        since_s, joules, watts = next(one for one in reversed(self.changes) if one[0] <= at_s)
        return joules + (at_s - since_s) * watts

    def show(self) -> None:
        microjoules = int(self.joules(self.now_s) * 1e6) // STEP_UJ * STEP_UJ
        self._sysfs.set(f"sys/class/powercap/{FOLDER}/energy_uj", microjoules % RANGE_UJ)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_requests_get_their_joules_within_what_is_stated(sysfs: FakeSysfs, seed: int) -> None:
    """50 requests, five looks a second that come a little late, some wraps; power changes once between two looks."""
    dice = random.Random(seed)
    sysfs.add_zone(FOLDER, "package-0", 0, RANGE_UJ)
    device = Device(sysfs, dice)
    sampler = Sampler([PowercapMeter(sysfs.root)], clock=lambda: device.now_s, active_period_s=0.2, points=8192)
    sampler.set_active(True)
    while device.now_s < device.end_s:
        device.show()
        device.now_s += sampler.sample() + dice.uniform(0, JITTER_S)
    assert sampler.gaps(SOURCE) == 0
    covered, relative = 0, []
    for from_s, to_s in device.requests:
        energy = sampler.joules_between(SOURCE, from_s, to_s)
        assert energy is not None
        truth = device.joules(to_s) - device.joules(from_s)
        covered += abs(energy.joules - truth) <= energy.uncertainty_j + 0.01
        relative.append(energy.uncertainty_j / truth)
    assert covered >= 0.95 * len(device.requests)
    assert sorted(relative)[len(relative) // 2] < 0.05
    first_s, last_s = sampler.span(SOURCE) or (0.0, 0.0)
    whole = sampler.joules_between(SOURCE, first_s, last_s)
    assert whole is not None
    assert whole.joules == pytest.approx(device.joules(last_s) - device.joules(first_s), rel=1e-4)

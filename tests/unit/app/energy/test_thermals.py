"""What sensors of this machine mean for the backends on it, and for nobody else."""

from __future__ import annotations

import asyncio

import pytest

from ollama_proxy.app.energy.climate import Climate
from ollama_proxy.app.energy.thermals import Thermals
from ollama_proxy.config.schema import Backend
from ollama_proxy.domain.call import Need
from ollama_proxy.domain.device import BackendSpec, Heat
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.energy.meters.profile import ProfileSensor
from ollama_proxy.fleet.rates import Observation
from ollama_proxy.fleet.state import Fleet
from tests.support.sysfs import FakeSysfs

HERE, ELSEWHERE = "http://127.0.0.1:1", "http://10.0.0.1:1"
ENTRIES = {
    "cpu": Backend(id="cpu", endpoint=HERE, hardware="cpu"),
    "npu": Backend(id="npu", endpoint=HERE, hardware="npu"),
    "nvidia": Backend(id="nvidia", endpoint=HERE, hardware="nvidia"),
    "far": Backend(id="far", endpoint=ELSEWHERE, hardware="cpu"),
}
COUNTER = "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_total_time_ms"


class Machine:
    """Four backends, three of them here, and a clock."""

    def __init__(self, sysfs: FakeSysfs) -> None:
        self.sysfs, self.now_s, self.cut_ms = sysfs, 100.0, 70
        sysfs.add_temperatures()
        sysfs.add_profile()
        self.fleet = Fleet()
        for name, entry in ENTRIES.items():
            self.fleet.add(BackendSpec(name, "ollama", name, entry.hardware, 10, 500, 20), frozenset((Need.GENERATE,)))
            self.fleet.probed(name, ProbeReport({}), 0)
        self.climate = Climate(sysfs.root, None, lambda: False, clock=lambda: self.now_s)
        self.profiles = ProfileSensor(sysfs.root)
        self.thermals = Thermals(self.fleet, self.climate, self.profiles, lambda: ENTRIES, lambda: self.now_s)

    def look(self, celsius: float, *, cut: bool = False) -> None:
        """Two seconds later."""
        self.now_s += 2
        self.cut_ms += 5 * cut
        self.sysfs.set("sys/class/hwmon/hwmon1/temp1_input", round(celsius * 1000))
        self.sysfs.set(COUNTER, self.cut_ms)
        asyncio.run(self.climate.read())
        self.thermals.take(self.climate.states, self.profiles.read().active)

    def answer(self, tokens_per_s: float, count: int) -> None:
        for _ in range(count):
            self.fleet.succeeded("cpu", "m:1b", Observation(0.5, tokens_per_s), self.now_s)
            self.now_s += 0.2

    def heat(self, name: str) -> Heat | None:
        return self.fleet.look(name).heat

    def doubt(self) -> float:
        self.fleet.age(self.now_s)
        return self.fleet.look("cpu").rates["m:1b"].decode_var


def test_what_shares_the_package_is_warned_of_its_heat() -> None:
    with FakeSysfs() as sysfs:
        machine = Machine(sysfs)
        for step in range(12):
            machine.look(70 + step)
        # 0.5 degrees a second, and its sensor calls 100 critical: 95 are reached in 28 s.
        for name in ("cpu", "npu"):
            heat = machine.heat(name)
            assert heat is not None
            assert heat.throttles_in_s == pytest.approx(28, rel=0.3)
        assert machine.heat("nvidia") is None
        assert machine.heat("far") is None
        for _ in range(12):
            machine.look(80)
        assert machine.heat("cpu") is None


def test_speeds_are_learned_anew_when_throttling_begins_and_ends() -> None:
    with FakeSysfs() as sysfs:
        machine = Machine(sysfs)
        machine.look(70)
        machine.answer(20.0, 30)
        sure = machine.doubt()
        machine.look(90, cut=True)
        machine.look(90, cut=True)
        assert machine.heat("cpu") == Heat(0.0, 1.5)
        assert machine.doubt() > sure + 0.05
        machine.answer(8.0, 4)
        machine.fleet.age(machine.now_s)
        assert machine.fleet.look("cpu").rates["m:1b"].decode_tps == pytest.approx(8.0, rel=0.1)
        machine.look(90, cut=True)
        # What is learned is of the throttled device now: not counted twice, and its slow-down is known from now on.
        assert machine.heat("cpu") is None
        sure = machine.doubt()
        for _ in range(6):
            machine.look(80)
        assert machine.doubt() > sure + 0.05
        machine.look(80, cut=True)
        machine.look(80, cut=True)
        heat = machine.heat("cpu")
        assert heat is not None
        assert 1.6 < heat.slowdown < 2.5


def test_another_power_profile_makes_less_certain() -> None:
    with FakeSysfs() as sysfs:
        machine = Machine(sysfs)
        machine.look(60)
        machine.answer(20.0, 30)
        sure = machine.doubt()
        machine.look(60)
        assert machine.doubt() == pytest.approx(sure, rel=0.01)
        sysfs.set("sys/firmware/acpi/platform_profile", "performance")
        machine.look(60)
        assert machine.doubt() > sure + 0.05


def test_without_sensors_nothing_is_said() -> None:
    with FakeSysfs() as sysfs:
        machine = Machine(sysfs)
        machine.thermals.take({}, None)
        assert all(machine.heat(name) is None for name in ENTRIES)

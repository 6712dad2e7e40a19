"""Temperatures, throttling, fans and the power profile."""

from __future__ import annotations

import pytest

from ollama_proxy.energy.meters.fan import FanSensor
from ollama_proxy.energy.meters.profile import Profile, ProfileSensor
from ollama_proxy.energy.meters.thermal import DEVICE_CLASSES, ThermalSensor, ThermalState, thermal_by_class
from tests.support.sysfs import FakeSysfs


def test_zones_are_known_by_type_and_nonsense_is_left_out(sysfs: FakeSysfs) -> None:
    sysfs.add_temperatures()
    found = {one.name: one for one in ThermalSensor(sysfs.root).read()}
    assert set(found) == {"iwlwifi_1", "x86_pkg_temp", "nvme", "coretemp Package id 0"}
    assert (found["x86_pkg_temp"].celsius, found["x86_pkg_temp"].critical_c) == (61.0, 105.0)
    assert [one.device for one in found.values()].count("cpu") == 2


def test_by_class_takes_the_hottest_and_leaves_unknown_absent(sysfs: FakeSysfs) -> None:
    sysfs.add_temperatures()
    found = thermal_by_class(sysfs.root)
    assert tuple(found) == DEVICE_CLASSES
    assert found["cpu"] == ThermalState(temperature_c=63.0, throttling=None, critical_c=100.0)
    assert found["npu"] == found["igpu"] == found["nvidia"] == ThermalState()


def test_throttling_is_a_counter_that_moves(sysfs: FakeSysfs) -> None:
    sysfs.add_temperatures()
    sensor = ThermalSensor(sysfs.root)
    seen = [sensor.by_class()["cpu"].throttling, sensor.by_class()["cpu"].throttling]
    sysfs.set("sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_total_time_ms", 95)
    seen += [sensor.by_class()["cpu"].throttling, sensor.by_class()["cpu"].throttling]
    assert seen == [None, False, True, False]


def test_an_apu_tells_the_temperature_of_its_graphics(sysfs: FakeSysfs) -> None:
    sysfs.add_amd_apu()
    assert thermal_by_class(sysfs.root)["igpu"].temperature_c == 48.0


def test_a_sleeping_card_is_not_asked_for_its_temperature(sysfs: FakeSysfs) -> None:
    sysfs.add_intel_card(status="suspended")
    assert ThermalSensor(sysfs.root).read() == ()
    assert FanSensor(sysfs.root).read() == ()


def test_fans_tell_turns_and_drive(sysfs: FakeSysfs) -> None:
    sysfs.add_temperatures()
    (fan,) = FanSensor(sysfs.root).read()
    assert (fan.chip, fan.rpm) == ("thinkpad", 2400.0)
    assert fan.percent == pytest.approx(50.2, abs=0.1)


@pytest.mark.parametrize("fault", ["vanish", "fail", "empty"])
def test_a_file_at_fault_is_left_out(sysfs: FakeSysfs, fault: str) -> None:
    sysfs.add_temperatures()
    getattr(sysfs, fault)("sys/class/thermal/thermal_zone1/temp")
    assert "x86_pkg_temp" not in {one.name for one in ThermalSensor(sysfs.root).read()}


def test_the_profile_of_the_firmware(sysfs: FakeSysfs) -> None:
    assert ProfileSensor(sysfs.root).read() == Profile(None)
    sysfs.add_profile()
    assert ProfileSensor(sysfs.root).read() == Profile("low-power", ("low-power", "balanced", "performance"))


def test_the_profile_of_the_newer_class(sysfs: FakeSysfs) -> None:
    sysfs.set("sys/class/platform-profile/platform-profile-0/profile", "balanced")
    sysfs.set("sys/class/platform-profile/platform-profile-0/choices", "balanced performance")
    assert ProfileSensor(sysfs.root).read() == Profile("balanced", ("balanced", "performance"))

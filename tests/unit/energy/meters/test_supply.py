"""Batteries and mains: both sets of files, both signs, several batteries, no mice."""

from __future__ import annotations

import pytest

from ollama_proxy.energy.meters.supply import SupplyMeter, read_supply
from tests.support.sysfs import FakeSysfs

BASE = "sys/class/power_supply"


def test_energy_set_and_charge_set_give_watts_and_watt_hours(sysfs: FakeSysfs) -> None:
    sysfs.add_supplies()
    supply = read_supply(sysfs.root)
    first, second = supply.batteries
    assert (first.name, first.discharge_w, first.energy_wh) == ("BAT0", 12.0, 25.0)
    # 0.5 A at 12 V whatever the sign; 2 Ah at the nominal 10 V.
    assert (second.name, second.discharge_w, second.energy_wh) == ("BAT1", 6.0, 20.0)
    assert supply.on_battery is True
    assert supply.discharge_w == 18.0
    assert supply.percent == pytest.approx(100 * 45 / 75)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_direction_comes_from_the_status(sysfs: FakeSysfs, sign: int) -> None:
    sysfs.add_supplies(online=1, status="Charging")
    sysfs.set(f"{BASE}/BAT1/current_now", sign * 500_000)
    supply = read_supply(sysfs.root)
    assert [battery.discharge_w for battery in supply.batteries] == [-12.0, -6.0]
    assert supply.on_battery is False
    # A battery that fills gives nothing: that is a true zero.
    assert [reading.watts for reading in SupplyMeter(sysfs.root).read(1.0)] == [0.0, 0.0]


def test_what_is_not_told_is_absent(sysfs: FakeSysfs) -> None:
    sysfs.add_supplies()
    sysfs.vanish(f"{BASE}/BAT1/current_now")
    supply = read_supply(sysfs.root)
    assert supply.batteries[1].discharge_w is None
    assert supply.discharge_w is None
    assert [reading.source for reading in SupplyMeter(sysfs.root).read(1.0)] == ["supply/BAT0"]
    assert [source.readable for source in SupplyMeter(sysfs.root).describe()] == [True, False]


def test_an_unknown_status_tells_no_direction(sysfs: FakeSysfs) -> None:
    sysfs.add_supplies(status="Unknown")
    assert read_supply(sysfs.root).discharge_w is None
    assert SupplyMeter(sysfs.root).read(1.0) == ()


def test_a_desktop_has_no_battery_and_knows_nothing(sysfs: FakeSysfs) -> None:
    supply = read_supply(sysfs.root)
    assert (supply.on_battery, supply.percent, supply.batteries) == (None, None, ())
    assert SupplyMeter(sysfs.root).describe() == ()


@pytest.mark.parametrize(
    ("status", "expected"), [("Discharging", True), ("Charging", False), ("Full", False), ("Unknown", None)]
)
def test_without_mains_in_the_list_the_batteries_tell(sysfs: FakeSysfs, status: str, expected: bool | None) -> None:
    sysfs.add_supplies(status=status)
    sysfs.path(f"{BASE}/AC/type").unlink()
    assert read_supply(sysfs.root).on_battery is expected

"""RAPL zones: by name, once, with what stands in the way said."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_proxy.domain.metering import MeterOptions
from ollama_proxy.energy.meters.powercap import GRANT, UNMASK, PowercapMeter
from tests.support.sysfs import FakeSysfs, as_nobody

ZONES = "sys/class/powercap"


def test_zones_are_known_by_name_and_counted_once(sysfs: FakeSysfs) -> None:
    sysfs.add_packages()
    meter = PowercapMeter(sysfs.root)
    found = {source.id: source for source in meter.describe()}
    assert {name: source.domain for name, source in found.items()} == {
        "powercap/package-0": "package",
        "powercap/package-0/core": "core",
        "powercap/package-0/uncore": "graphics",
        "powercap/package-1": "package",
        "powercap/package-1/core": "core",
        "powercap/package-1/dram": "dram",
        "powercap/psys": "platform",
    }
    joules = {reading.source: reading.joules for reading in meter.read(1.0)}
    # The zone of the plain control type, not the same energy by MMIO.
    assert joules["powercap/package-0"] == 2.0
    assert joules["powercap/package-1/core"] == 0.4
    assert joules["powercap/package-0/uncore"] == 0.3


def test_a_source_says_what_contains_it(sysfs: FakeSysfs) -> None:
    sysfs.add_packages()
    inside = {source.id: source.inside for source in PowercapMeter(sysfs.root).describe()}
    assert inside["powercap/package-0/core"] == "powercap/package-0"
    assert inside["powercap/package-1/dram"] == "powercap/psys"
    assert inside["powercap/package-1"] == "powercap/psys"
    assert inside["powercap/psys"] == ""


def test_memory_mapped_zones_serve_where_there_are_no_others(sysfs: FakeSysfs) -> None:
    sysfs.add_zone("intel-rapl-mmio:0", "package-0", 7_000_000)
    assert [reading.joules for reading in PowercapMeter(sysfs.root).read(1.0)] == [7.0]


def test_a_zone_that_only_the_second_type_has_is_added(sysfs: FakeSysfs) -> None:
    sysfs.add_packages()
    sysfs.add_zone("intel-rapl-mmio:0:0", "dram", 5_000_000)
    joules = {reading.source: reading.joules for reading in PowercapMeter(sysfs.root).read(1.0)}
    assert joules["powercap/package-0/dram"] == 5.0
    assert joules["powercap/package-0"] == 2.0


def test_a_missing_permission_is_a_state_with_its_command(sysfs: FakeSysfs) -> None:
    sysfs.add_packages()
    sysfs.forbid(f"{ZONES}/intel-rapl:1/energy_uj")
    with as_nobody():
        meter = PowercapMeter(sysfs.root)
        found = {source.id: source for source in meter.describe()}
        read = {reading.source for reading in meter.read(1.0)}
    source = found["powercap/package-0"]
    assert (source.readable, source.problem, source.remedy) == (False, "permission denied", GRANT)
    assert "systemd-tmpfiles" in GRANT
    assert "powercap/package-0" not in read
    assert "powercap/package-1" in read


def test_zones_that_a_container_hides_are_told_as_such(sysfs: FakeSysfs) -> None:
    sysfs.path(ZONES).mkdir(parents=True)
    sysfs.path(f"{ZONES}/intel-rapl:0").symlink_to(sysfs.root / "masked")
    (source,) = PowercapMeter(sysfs.root).describe()
    assert (source.readable, source.remedy) == (False, UNMASK)


@pytest.mark.parametrize("fault", ["vanish", "fail", "empty"])
def test_a_file_at_fault_hides_its_own_figure_only(sysfs: FakeSysfs, fault: str) -> None:
    sysfs.add_packages()
    meter = PowercapMeter(sysfs.root)
    meter.describe()
    getattr(sysfs, fault)(f"{ZONES}/intel-rapl:1/energy_uj")
    read = {reading.source for reading in meter.read(1.0)}
    assert "powercap/package-0" not in read
    assert len(read) == 6
    assert not next(one for one in meter.describe() if one.id == "powercap/package-0").readable


def test_devices_pick_and_backends_are_passed_on(sysfs: FakeSysfs) -> None:
    sysfs.add_packages()
    options = MeterOptions(id="rapl", devices=("package-1",), backends=("cpu",))
    meter = PowercapMeter(sysfs.root, options)
    assert [(source.id, source.backends) for source in meter.describe()] == [("rapl/package-1", ("cpu",))]
    assert [reading.source for reading in meter.read(1.0)] == ["rapl/package-1"]


def test_a_machine_without_zones_has_none(tmp_path: Path) -> None:
    meter = PowercapMeter(tmp_path)
    assert meter.describe() == ()
    assert meter.read(1.0) == ()

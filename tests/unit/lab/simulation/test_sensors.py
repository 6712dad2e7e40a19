"""Emulated meters: their steps, wraps and errors, and the files that real readers find."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ollama_proxy.energy.meters.npu import NpuMeter
from ollama_proxy.energy.meters.nvml import NvmlMeter
from ollama_proxy.energy.meters.powercap import PowercapMeter
from ollama_proxy.energy.meters.supply import read_supply
from ollama_proxy.energy.meters.thermal import thermal_by_class
from ollama_proxy.lab.simulation.battery import BatteryModel
from ollama_proxy.lab.simulation.devices import DEFAULT_DEVICES, DEFAULT_HOST
from ollama_proxy.lab.simulation.nvml_library import CARD_ADDRESS, NvmlLibrary
from ollama_proxy.lab.simulation.physics import Ended, World
from ollama_proxy.lab.simulation.sensor_files import SensorFiles
from ollama_proxy.lab.simulation.sensors import RAPL_RANGE_UJ, SensorModel, Sensors

EXACT = [msgspec.structs.replace(one, noise=0, stall_probability=0) for one in DEFAULT_DEVICES]
NPU, IGPU, NVIDIA, CPU = EXACT
FLOOR_W, PACKAGE_W = DEFAULT_HOST.platform_floor_w, DEFAULT_HOST.package_floor_w
STEP_UJ = 62


def build(model: SensorModel | None = None) -> Sensors:
    return Sensors(World(EXACT, DEFAULT_HOST, 1), model)


def test_zones_hold_the_joules_of_their_devices() -> None:
    sensors = build()
    for job, device in enumerate((NPU, IGPU, CPU)):
        sensors.world.start(device.name, job, 300, 60)
    sensors.advance(100)
    world = sensors.world
    npu_j, igpu_j, cpu_j = (sum(world.device_joules(one.name)) for one in (NPU, IGPU, CPU))
    assert sensors.rapl_uj("core") / 1e6 == pytest.approx(cpu_j, rel=1e-5)
    assert sensors.rapl_uj("uncore") / 1e6 == pytest.approx(igpu_j, rel=1e-5)
    assert sensors.rapl_uj("package-0") / 1e6 == pytest.approx(npu_j + igpu_j + cpu_j + 100 * PACKAGE_W, rel=1e-5)


def test_rapl_moves_once_a_millisecond() -> None:
    sensors = build()
    seen = []
    for tenth in range(1, 31):
        sensors.advance(tenth * 1e-4)
        seen.append(sensors.rapl_uj("psys"))
    # psys draws 7.3 W: 7.3 mJ a millisecond, in steps of 61 uJ.
    assert [seen[index] for index in (8, 9, 18, 19, 29)] == pytest.approx([0, 7300, 7300, 14600, 21900], abs=STEP_UJ)


def test_rapl_wraps_where_it_says() -> None:
    sensors = build(SensorModel(rapl_start_j=RAPL_RANGE_UJ / 1e6 - 10))
    before = sensors.rapl_uj("psys")
    sensors.advance(3)
    after = sensors.rapl_uj("psys")
    assert after < 12.5e6 < before <= RAPL_RANGE_UJ
    assert after + RAPL_RANGE_UJ - before == pytest.approx(3 * (FLOOR_W + 0.3) * 1e6, rel=1e-4)


def test_nvml_moves_ten_times_a_second_even_when_work_begins_between() -> None:
    sensors = build()
    sensors.advance(10.05)
    sensors.world.start(NVIDIA.name, 1, 1500, 650)
    seen = [0]
    for step in range(1, 200):
        sensors.advance(10.05 + step * 0.02)
        seen.append(sensors.nvml_mj())
    assert seen == sorted(seen)
    moved = [index for index in range(1, 200) if seen[index] != seen[index - 1]]
    assert {index % 5 for index in moved} == {3}
    # 1 s at 10 W since 10.05, shown in tenths: half a tenth first.
    assert seen[3] == 500
    assert seen[8] == 1500


def test_a_counter_holds_its_last_update_whatever_the_others_periods() -> None:
    sensors = build(SensorModel(nvml_update_s=0.3))
    sensors.world.start(NVIDIA.name, 1, 0, 65 * 20)
    sensors.advance(5.05)
    assert sensors.nvml_mj() == pytest.approx(1000 * (10 + 3.8 * 55), abs=2)


def test_the_events_are_those_of_the_world() -> None:
    sensors = build()
    sensors.world.start(IGPU.name, 1, 300, 22)
    plain = World(EXACT, DEFAULT_HOST, 1)
    plain.start(IGPU.name, 1, 300, 22)
    told, expected = sensors.advance(100), plain.advance(100)
    assert [type(one) for one in told] == [type(one) for one in expected]
    assert isinstance(told[-1], Ended)
    assert told[-1].at_s == pytest.approx(expected[-1].at_s)


def test_the_platform_counter_may_be_wrong_by_a_factor() -> None:
    right, wrong = build(), build(SensorModel(psys_scale=0.8))
    for sensors in (right, wrong):
        sensors.advance(50)
    assert wrong.rapl_uj("psys") == pytest.approx(0.8 * right.rapl_uj("psys"), rel=1e-5)
    assert wrong.rapl_uj("package-0") == right.rapl_uj("package-0")


def test_the_battery_drains_by_what_the_platform_uses_and_shows_it_every_five_seconds() -> None:
    sensors = build(SensorModel(battery=BatteryModel(full_wh=1, online=False)))
    sensors.advance(4.9)
    assert sensors.battery.shown_wh == 1
    sensors.advance(100)
    assert sensors.battery.shown_wh == pytest.approx(1 - 7.3 * 100 / 3600)
    assert sensors.battery.shown_w == pytest.approx(7.3)
    assert sensors.battery.status == "Discharging"
    sensors.plug(online=True)
    sensors.advance(200)
    assert sensors.battery.shown_wh == pytest.approx(1 - 7.3 * 100 / 3600)
    assert (sensors.battery.status, sensors.battery.shown_w) == ("Not charging", 0)
    sensors.plug(online=False)
    sensors.advance(1000)
    assert (sensors.battery.shown_wh, sensors.battery.shown_w) == (0, 0)


# -- read by the product's own meters ------------------------------------------------


def test_real_readers_find_the_emulated_machine(tmp_path: Path) -> None:
    sensors = build(SensorModel(battery=BatteryModel(online=False, negative_when_discharging=True)))
    files = SensorFiles(sensors, tmp_path)
    powercap, npu = PowercapMeter(tmp_path), NpuMeter(tmp_path)
    domains = {one.id: one.domain for one in powercap.describe()}
    assert sorted(domains.values()) == ["core", "graphics", "package", "platform"]
    assert all(one.readable for one in (*powercap.describe(), *npu.describe()))
    before = {one.domain: one.joules for one in powercap.read(0)}
    sensors.world.start(NPU.name, 1, 150, 100)
    sensors.world.start(CPU.name, 2, 45, 60)
    sensors.advance(60)
    files.write()
    passed = {one.domain: (one.joules or 0) - (before[one.domain] or 0) for one in powercap.read(60)}
    assert passed["core"] == pytest.approx(CPU.energy_j(45, 60), rel=1e-4)
    package_j = CPU.energy_j(45, 60) + NPU.energy_j(150, 100) + 60 * (PACKAGE_W + IGPU.idle_w)
    assert passed["package"] == pytest.approx(package_j, rel=1e-4)
    assert passed["platform"] == pytest.approx(package_j + 60 * (FLOOR_W - PACKAGE_W), rel=1e-4)
    assert npu.read(60)[0].busy_s == pytest.approx(NPU.service_s(150, 100), abs=1e-5)
    supply = read_supply(tmp_path)
    assert supply.on_battery is True
    assert supply.discharge_w == pytest.approx(7.3)
    assert thermal_by_class(tmp_path)["cpu"].temperature_c == pytest.approx(sensors.package_c(), abs=1)


def test_the_card_is_read_when_it_is_awake_and_left_alone_when_it_sleeps(tmp_path: Path) -> None:
    sensors = build()
    files = SensorFiles(sensors, tmp_path)
    meter = NvmlMeter(tmp_path, load=lambda: NvmlLibrary(sensors))
    assert meter.read(0) == ()
    sensors.world.start(NVIDIA.name, 1, 1500, 650)
    sensors.advance(30)
    files.write()
    (reading,) = meter.read(30)
    assert reading.joules == pytest.approx(sum(sensors.world.device_joules(NVIDIA.name)), abs=0.1 * 60)
    sensors.advance(300)
    files.write()
    assert meter.read(300) == ()
    library = NvmlLibrary(sensors)
    with pytest.raises(library.NVMLError):
        library.nvmlDeviceGetPowerUsage(library.nvmlDeviceGetHandleByPciBusId(CARD_ADDRESS.encode()))


def test_a_file_is_written_when_its_text_changes(tmp_path: Path) -> None:
    sensors = build()
    files = SensorFiles(sensors, tmp_path)
    name = tmp_path / "sys/class/powercap/intel-rapl:0/name"
    energy = tmp_path / "sys/class/powercap/intel-rapl:0:0/energy_uj"
    written = name.stat().st_mtime_ns, energy.read_text()
    sensors.world.start(CPU.name, 1, 45, 6)
    sensors.advance(1)
    files.write()
    assert name.stat().st_mtime_ns == written[0]
    assert energy.read_text() != written[1]
    assert not list(tmp_path.rglob(".*.new"))


def test_devices_that_are_not_there_have_no_files(tmp_path: Path) -> None:
    SensorFiles(Sensors(World([CPU], DEFAULT_HOST, 1)), tmp_path)
    assert not (tmp_path / "sys/bus/pci").exists()
    SensorFiles(Sensors(World([NVIDIA], DEFAULT_HOST, 1)), tmp_path / "b")
    assert not (tmp_path / "b/sys/class/thermal").exists()

"""What /thermal shows of a machine of files."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ollama_proxy.app.energy.climate import Climate
from ollama_proxy.energy.meters.powercap import PowercapMeter
from ollama_proxy.energy.meters.sampler import Sampler
from tests.support.sysfs import FakeSysfs

NAMES = ["Temperature", "FanSpeed", "FanPercent", "PowerDraw", "Utilization", "Throttling", "UpdatedAt"]


class Now:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def build(root: Path, now: Now, sampler: Sampler | None = None, *, enabled: bool = True) -> Climate:
    return Climate(root, sampler, lambda: False, enabled=enabled, clock=now, unix_clock=lambda: 1_700_000_000.0)


def test_what_nobody_tells_is_null(tmp_path: Path) -> None:
    page = asyncio.run(build(tmp_path, Now()).read())
    assert {name: list(figures) for name, figures in page.items()} == dict.fromkeys(
        ("npu", "igpu", "nvidia", "cpu"), NAMES
    )
    assert all(value is None for figures in page.values() for value in figures.values())


def test_a_machine_with_sensors_and_a_meter() -> None:
    with FakeSysfs() as sysfs:
        sysfs.add_temperatures()
        sysfs.add_zone("intel-rapl:0", "package-0")
        now = Now()
        sampler = Sampler([PowercapMeter(sysfs.root)], clock=now)
        for step in range(20):
            now.now_s += 0.5
            sysfs.set("sys/class/powercap/intel-rapl:0/energy_uj", step * 6_000_000)
            sampler.sample()
        climate = build(sysfs.root, now, sampler)
        first = asyncio.run(climate.read())["cpu"]
        sysfs.set("sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_total_time_ms", 90)
        again = asyncio.run(climate.read())["cpu"]
        now.now_s += 1.0
        later = asyncio.run(climate.read())["cpu"]
    assert (first["Temperature"], first["Throttling"], first["PowerDraw"]) == (63.0, None, 12.0)
    assert first["UpdatedAt"] == "2023-11-14T22:13:20.000Z"
    assert again is first, "read once a second at most"
    assert later["Throttling"] is True


def test_switched_off_it_looks_at_nothing() -> None:
    with FakeSysfs() as sysfs:
        sysfs.add_temperatures()
        page = asyncio.run(build(sysfs.root, Now(), enabled=False).read())
    assert page["cpu"] == dict.fromkeys(NAMES)

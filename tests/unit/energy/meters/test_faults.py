"""Whatever happens to any file of a machine, no meter and no sensor raises, and every figure makes sense."""

from __future__ import annotations

import math
import random

import pytest

from ollama_proxy.app.upstreams.registry import SENSORS, load_kind
from ollama_proxy.energy.meters.hwmon import HwmonMeter
from ollama_proxy.energy.meters.npu import NpuMeter
from ollama_proxy.energy.meters.nvml import NvmlMeter
from ollama_proxy.energy.meters.powercap import PowercapMeter
from ollama_proxy.energy.meters.supply import SupplyMeter, read_supply
from ollama_proxy.energy.meters.thermal import thermal_by_class
from tests.support.sysfs import FakeSysfs
from tests.unit.energy.meters.test_nvml import CARD, FakeNvml

WORDS = ("", "-1", "nan", "inf", "1e400", "-9223372036854775808", "18446744073709551615", "\x00\xff", "words", "[]")


@pytest.mark.parametrize("seed", range(12))
def test_no_fault_of_files_is_an_error(sysfs: FakeSysfs, seed: int) -> None:
    sysfs.add_packages()
    sysfs.add_intel_card()
    sysfs.add_amd_apu()
    sysfs.add_nvidia()
    sysfs.add_npu(renamed=bool(seed % 2))
    sysfs.add_supplies()
    sysfs.add_temperatures()
    sysfs.add_profile()
    nvml = FakeNvml()
    nvml.energy[CARD] = 1000
    meters = [kind(sysfs.root) for kind in (PowercapMeter, HwmonMeter, NpuMeter, SupplyMeter)]
    meters.append(NvmlMeter(sysfs.root, load=lambda: nvml))
    dice = random.Random(seed)
    files = sorted(str(one.relative_to(sysfs.root)) for one in sysfs.root.rglob("*") if one.is_file())
    for turn, file in enumerate(dice.sample(files, len(files) // 2)):
        if turn % 4:
            sysfs.set(file, dice.choice(WORDS))
        else:
            getattr(sysfs, dice.choice(("vanish", "fail", "empty")))(file)
        if turn % 10:
            continue
        for meter in meters:
            sources = {source.id for source in meter.describe()}
            readings = meter.read(100.0 * turn)
            assert {reading.source for reading in readings} <= sources
            figures = [(one.joules, one.watts, one.busy_s) for one in readings]
            assert all(math.isfinite(one) and one >= 0 for three in figures for one in three if one is not None)
        for name in SENSORS:
            load_kind(SENSORS, name)(sysfs.root).describe()
        thermal_by_class(sysfs.root)
        read_supply(sysfs.root)

"""Busy time of NPUs, in both generations of names, at a pace that costs nothing."""

from __future__ import annotations

import pytest

from ollama_proxy.energy.meters.npu import NpuMeter, NpuState
from tests.support.sysfs import FakeSysfs, as_nobody


@pytest.mark.parametrize("renamed", [False, True])
def test_busy_time_and_state_are_read_before_and_after_the_rename(sysfs: FakeSysfs, renamed: bool) -> None:
    sysfs.add_npu(renamed=renamed)
    meter = NpuMeter(sysfs.root)
    (reading,) = meter.read(1.0)
    assert (reading.busy_s, reading.joules, reading.watts) == (5.0, None, None)
    assert meter.read_state() == (NpuState("0000:00:0b.0", 1400.0, 1 << 30),)


def test_it_is_asked_once_a_second_at_most(sysfs: FakeSysfs) -> None:
    sysfs.add_npu()
    meter = NpuMeter(sysfs.root)
    assert [len(meter.read(at_s)) for at_s in (0.0, 0.2, 0.99, 1.0, 1.5, 2.1)] == [1, 0, 0, 1, 0, 1]


def test_a_clock_of_nought_is_a_sleeping_npu_and_not_told(sysfs: FakeSysfs) -> None:
    folder = sysfs.add_npu(renamed=True)
    sysfs.set(f"{folder}/freq/current_freq", 0)
    assert NpuMeter(sysfs.root).read_state()[0].clock_mhz is None


def test_an_old_kernel_is_told(sysfs: FakeSysfs) -> None:
    folder = sysfs.add_npu()
    sysfs.path(f"{folder}/npu_busy_time_us").unlink()
    (source,) = NpuMeter(sysfs.root).describe()
    assert not source.readable
    assert "6.11" in source.problem
    assert NpuMeter(sysfs.root).read(1.0) == ()


def test_a_closed_device_node_is_told_with_its_group(sysfs: FakeSysfs) -> None:
    sysfs.add_npu()
    sysfs.set("dev/accel/accel0", "")
    sysfs.forbid("dev/accel/accel0")
    with as_nobody():
        (source,) = NpuMeter(sysfs.root).describe()
    assert source.readable
    assert "/dev/accel/accel0" in source.problem
    assert "render" in source.remedy

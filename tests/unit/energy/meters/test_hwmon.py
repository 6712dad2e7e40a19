"""Cards of Intel and AMD: what is theirs, what includes the processor, and who is let sleep."""

from __future__ import annotations

import pytest

from ollama_proxy.energy.meters.hwmon import HwmonMeter
from tests.support.sysfs import FakeSysfs


def test_an_intel_card_counts_joules_of_card_and_chip(sysfs: FakeSysfs) -> None:
    sysfs.add_intel_card()
    meter = HwmonMeter(sysfs.root)
    card, chip = meter.describe()
    assert (card.id, chip.id, chip.inside) == ("hwmon/0000:03:00.0/card", "hwmon/0000:03:00.0/gpu", card.id)
    assert [reading.joules for reading in meter.read(1.0)] == [50.0, 40.0]


@pytest.mark.parametrize("file", ["power1_average", "power1_input"])
def test_an_apu_tells_watts_that_include_its_processor(sysfs: FakeSysfs, file: str) -> None:
    folder = sysfs.add_amd_apu()
    sysfs.path(f"{folder}/power1_average").unlink()
    sysfs.set(f"{folder}/{file}", 15_000_000)
    meter = HwmonMeter(sysfs.root)
    (source,) = meter.describe()
    assert source.domain == "apu"
    assert "processor" in source.covers
    assert source.hardware == ("cpu", "igpu", "npu")
    (reading,) = meter.read(1.0)
    assert (reading.watts, reading.joules) == (15.0, None)


def test_an_amd_card_is_no_apu(sysfs: FakeSysfs) -> None:
    folder = sysfs.add_amd_apu()
    sysfs.path(f"{folder}/in1_label").unlink()
    (source,) = HwmonMeter(sysfs.root).describe()
    assert (source.domain, source.hardware) == ("card", ())


def test_a_sleeping_card_is_not_read(sysfs: FakeSysfs) -> None:
    folder = sysfs.add_intel_card(status="suspended")
    sysfs.fail(f"{folder}/energy1_input")  # reading it would be an error
    meter = HwmonMeter(sysfs.root)
    assert all(source.readable and "asleep" in source.covers for source in meter.describe())
    assert meter.read(1.0) == ()


def test_a_card_that_may_sleep_is_left_alone_while_nobody_works(sysfs: FakeSysfs) -> None:
    sysfs.add_intel_card(control="auto")
    meter = HwmonMeter(sysfs.root)
    assert meter.read(1.0, active=False) == ()
    assert len(meter.read(2.0, active=True)) == 2


def test_a_card_that_never_sleeps_is_read_always(sysfs: FakeSysfs) -> None:
    sysfs.add_intel_card(control="on")
    assert len(HwmonMeter(sysfs.root).read(1.0, active=False)) == 2


def test_a_driver_that_answers_with_an_error_is_told(sysfs: FakeSysfs) -> None:
    folder = sysfs.add_intel_card()
    sysfs.fail(f"{folder}/energy1_input")
    card, chip = HwmonMeter(sysfs.root).describe()
    assert not card.readable
    assert "EIO" in card.problem
    assert chip.readable
    assert [reading.source for reading in HwmonMeter(sysfs.root).read(1.0)] == [chip.id]


def test_other_chips_are_no_meters(sysfs: FakeSysfs) -> None:
    sysfs.add_temperatures()
    assert HwmonMeter(sysfs.root).describe() == ()

"""NVIDIA cards: counted when awake, never woken, and every way in which the driver may fail."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ollama_proxy.domain.metering import MeterOptions
from ollama_proxy.energy.meters.nvml import NvmlMeter
from ollama_proxy.energy.meters.nvml_cards import CardState, NvmlCards, NvmlMissingError
from ollama_proxy.energy.meters.thermal import ThermalSensor, ThermalState
from tests.support.sysfs import FakeSysfs

NOT_SUPPORTED, LOST = 3, 15


class FakeNvmlError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"error {value}")
        self.value = value


class FakeNvml:
    """The calls of `pynvml` that are used, with what the driver says of each card: mJ, mW, or an error."""

    NVMLError = FakeNvmlError
    NVML_ERROR_NOT_SUPPORTED = NOT_SUPPORTED

    def __init__(self) -> None:
        self.energy: dict[str, Any] = {}
        self.power: dict[str, Any] = {}
        self.state: dict[str, Any] = {}
        self.calls: list[str] = []
        self.init_error: FakeNvmlError | None = None

    def nvmlInit(self) -> None:
        self.calls.append("init")
        if self.init_error:
            raise self.init_error

    def nvmlShutdown(self) -> None:
        self.calls.append("shutdown")

    def nvmlDeviceGetHandleByPciBusId(self, address: bytes) -> str:
        self.calls.append(address.decode())
        return address.decode()

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        return self._tell(self.energy.get(handle, FakeNvmlError(NOT_SUPPORTED)))

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return self._tell(self.power.get(handle, FakeNvmlError(NOT_SUPPORTED)))

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        return self._tell(self.state.get("temperature", FakeNvmlError(NOT_SUPPORTED)))

    def nvmlDeviceGetFanSpeed(self, handle: str) -> int:
        return self._tell(self.state.get("fan", FakeNvmlError(NOT_SUPPORTED)))

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(gpu=self._tell(self.state.get("busy", FakeNvmlError(NOT_SUPPORTED))))

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:
        return self._tell(self.state.get("reasons", FakeNvmlError(NOT_SUPPORTED)))

    @staticmethod
    def _tell(value: Any) -> int:
        if isinstance(value, Exception):
            raise value
        return int(value)


CARD, OTHER = "0000:01:00.0", "0000:02:00.0"


def make(sysfs: FakeSysfs, nvml: FakeNvml) -> NvmlMeter:
    return NvmlMeter(sysfs.root, load=lambda: nvml)


def test_the_counter_is_read_in_joules(sysfs: FakeSysfs) -> None:
    sysfs.add_nvidia()
    nvml = FakeNvml()
    nvml.energy[CARD] = 123_456
    meter = make(sysfs, nvml)
    (source,) = meter.describe()
    assert (source.id, source.readable, source.hardware) == (f"nvml/{CARD}", True, ("nvidia",))
    assert [reading.joules for reading in meter.read(1.0)] == [123.456]


def test_without_a_counter_power_is_read(sysfs: FakeSysfs) -> None:
    sysfs.add_nvidia()
    nvml = FakeNvml()
    nvml.power[CARD] = 41_500
    meter = make(sysfs, nvml)
    assert meter.describe()[0].update_s == 1.0
    assert [(reading.joules, reading.watts) for reading in meter.read(1.0)] == [(None, 41.5)]


def test_a_sleeping_card_is_never_touched(sysfs: FakeSysfs) -> None:
    sysfs.add_nvidia(status="suspended")
    nvml = FakeNvml()
    meter = make(sysfs, nvml)
    assert "asleep" in meter.describe()[0].covers
    assert meter.read(1.0) == ()
    assert nvml.calls == []


def test_beside_a_sleeping_card_the_other_is_read(sysfs: FakeSysfs) -> None:
    sysfs.add_nvidia(status="suspended")
    sysfs.add_nvidia(address=OTHER)
    nvml = FakeNvml()
    nvml.energy = {CARD: 1, OTHER: 2000}
    assert [reading.source for reading in make(sysfs, nvml).read(1.0)] == [f"nvml/{OTHER}"]
    assert CARD not in nvml.calls


def test_the_library_is_let_go_when_nobody_works(sysfs: FakeSysfs) -> None:
    sysfs.add_nvidia(control="auto")
    nvml = FakeNvml()
    nvml.energy[CARD] = 1000
    meter = make(sysfs, nvml)
    assert len(meter.read(1.0, active=True)) == 1
    assert meter.read(2.0, active=False) == ()
    assert nvml.calls[-1] == "shutdown"
    assert len(meter.read(3.0, active=True)) == 1
    assert nvml.calls.count("init") == 2


def test_a_card_that_never_sleeps_is_read_always(sysfs: FakeSysfs) -> None:
    sysfs.add_nvidia(control="on")
    nvml = FakeNvml()
    nvml.energy[CARD] = 1000
    assert len(make(sysfs, nvml).read(1.0, active=False)) == 1


def test_a_lost_card_does_not_hide_the_other(sysfs: FakeSysfs) -> None:
    sysfs.add_nvidia()
    sysfs.add_nvidia(address=OTHER)
    nvml = FakeNvml()
    nvml.energy = {CARD: FakeNvmlError(LOST), OTHER: 5000}
    meter = make(sysfs, nvml)
    assert [reading.source for reading in meter.read(1.0)] == [f"nvml/{OTHER}"]
    lost, good = meter.describe()
    assert (lost.readable, good.readable) == (False, True)
    assert "error 15" in lost.problem


def test_neither_counter_nor_power_is_no_figure(sysfs: FakeSysfs) -> None:
    sysfs.add_nvidia()
    meter = make(sysfs, FakeNvml())
    assert meter.read(1.0) == ()
    assert not meter.describe()[0].readable


def test_a_missing_driver_is_told(sysfs: FakeSysfs) -> None:
    sysfs.add_nvidia()
    nvml = FakeNvml()
    nvml.init_error = FakeNvmlError(9)
    meter = make(sysfs, nvml)
    (source,) = meter.describe()
    assert (source.readable, "nvidia-smi" in source.remedy) == (False, True)
    with pytest.raises(NvmlMissingError, match="driver does not answer"):
        meter.read(1.0)


def test_a_missing_package_is_told_with_its_command(sysfs: FakeSysfs) -> None:
    sysfs.add_nvidia()

    def load() -> Any:
        raise NvmlMissingError("the package nvidia-ml-py is not installed")

    (source,) = NvmlMeter(sysfs.root, load=load).describe()
    assert source.remedy == "pip install nvidia-ml-py"


def test_a_machine_without_a_card_loads_nothing(sysfs: FakeSysfs) -> None:
    sysfs.add_intel_card()
    nvml = FakeNvml()
    meter = make(sysfs, nvml)
    assert meter.describe() == ()
    assert meter.read(1.0) == ()
    assert nvml.calls == []


def test_a_card_tells_its_heat_and_what_it_does_not_tell_is_absent(sysfs: FakeSysfs) -> None:
    sysfs.add_nvidia()
    nvml = FakeNvml()
    nvml.state = {"temperature": 71, "busy": 93, "reasons": 0x20 | 0x4}
    cards = NvmlCards(sysfs.root, load=lambda: nvml)
    assert cards.read_state(1.0) == (CardState(CARD, 71, None, 93, True),)
    nvml.state["reasons"] = 0x4  # a cap that somebody set
    assert cards.read_state(2.0)[0].throttling is False
    nvidia = ThermalSensor(sysfs.root).by_class(cards.read_state(3.0))["nvidia"]
    assert nvidia == ThermalState(temperature_c=71, utilization_percent=93, throttling=False)


def test_the_heat_of_a_sleeping_card_is_not_asked_for(sysfs: FakeSysfs) -> None:
    sysfs.add_nvidia(status="suspended")
    nvml = FakeNvml()
    assert NvmlCards(sysfs.root, load=lambda: nvml).read_state(1.0) == ()
    assert nvml.calls == []


def test_devices_pick_a_card_and_leave_the_other_alone(sysfs: FakeSysfs) -> None:
    sysfs.add_nvidia()
    sysfs.add_nvidia(address=OTHER)
    nvml = FakeNvml()
    nvml.energy = {CARD: 1000, OTHER: 2000}
    meter = NvmlMeter(sysfs.root, MeterOptions(id="gpu", devices=(OTHER,)), load=lambda: nvml)
    assert [reading.source for reading in meter.read(1.0)] == [f"gpu/{OTHER}"]
    assert CARD not in nvml.calls


def test_a_card_that_is_plugged_in_later_is_found(sysfs: FakeSysfs) -> None:
    nvml = FakeNvml()
    nvml.energy[CARD] = 1000
    meter = make(sysfs, nvml)
    assert meter.read(0.0) == ()
    sysfs.add_nvidia()
    assert meter.read(1.0) == ()
    assert len(meter.read(31.0)) == 1

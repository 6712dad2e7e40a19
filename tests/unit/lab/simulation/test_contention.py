"""The bound that pays for waiting: what two devices lose together by hand, and below what any run needs."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest

from ollama_proxy.lab.simulation.bound import Charge, bound
from ollama_proxy.lab.simulation.contention import charge_waiting
from ollama_proxy.lab.simulation.device_model import DeviceModel, HostModel
from ollama_proxy.lab.simulation.devices import DEFAULT_DEVICES, DEFAULT_HOST
from ollama_proxy.lab.simulation.mix import DEFAULT_MIX, apply_mix
from ollama_proxy.lab.simulation.report import allow_like
from ollama_proxy.lab.simulation.run import Setting, run_policy
from ollama_proxy.lab.simulation.synthetic import generate
from ollama_proxy.lab.simulation.timing import time_as_drawn
from ollama_proxy.lab.simulation.workload import Arrival

#: Two of them want 160 of the pool's 100 gigabytes a second, so that each runs at 0.625 of its speed.
HOST = HostModel(memory_gb_s=100, gb_per_token=4, waiting_power_share=0.5)


def device(name: str, watts: float = 10.0, slots: int = 1) -> DeviceModel:
    return DeviceModel(
        name=name,
        hardware="npu",
        prefill_tps=1e9,
        decode_tps=20,
        overhead_s=0,
        prefill_w=watts,
        decode_w=watts,
        load_s=0,
        load_w=0,
        memory_gb=8,
        on_package=True,
        bandwidth_gb_s=0,
        slots=slots,
    )


def least(devices: list[DeviceModel], target_s: float, charge: Charge | None) -> float:
    """Joules of two requests of ten seconds' work, which come at once."""
    arrivals = [Arrival(number, 0.0, 0, 200, wish="balanced") for number in range(2)]
    return bound(arrivals, devices, {"balanced": target_s}, {"balanced": 0.0}, HOST, charge=charge).joules


def test_who_must_run_together_pays_for_waiting_and_who_need_not_does_not() -> None:
    devices = [device("a"), device("b")]
    charge = partial(charge_waiting, devices, HOST)
    # One after the other there is time enough for both.
    assert least(devices, 20.0, charge) == pytest.approx(200)
    # In 16 s of which both write at once for t, 2 x 0.625 t + (16 - t) = 20 s of work: t = 16. Each waits for 0.375 of
    # that time at half of its 10 W.
    assert least(devices, 16.0, None) == pytest.approx(200)
    assert least(devices, 16.0, charge) == pytest.approx(200 + 2 * 16 * 0.375 * 0.5 * 10, rel=1e-5)


def test_where_requests_run_at_once_or_memory_is_ample_nothing_is_added() -> None:
    several = [device("a", slots=2), device("b")]
    assert least(several, 16.0, partial(charge_waiting, several, HOST)) == least(several, 16.0, None)
    devices = [device("a"), device("b")]
    ample = msgspec.structs.replace(HOST, memory_gb_s=200)
    assert least(devices, 16.0, partial(charge_waiting, devices, ample)) == pytest.approx(200)


@pytest.mark.parametrize("policy", ["predictive", "shortest-expected-delay", "greenest"])
def test_no_run_needs_less_and_the_bound_is_no_lower_than_without(policy: str) -> None:
    arrivals = apply_mix(generate("conv", 120, 17.0, 3), DEFAULT_MIX, 3)
    setting = Setting(seed=3)
    run = run_policy(policy, arrivals, setting)
    served = [one.arrival for one in run.served]
    given = (served, DEFAULT_DEVICES, *allow_like(run), DEFAULT_HOST, time_as_drawn(3))
    without = bound(*given).joules
    charged = bound(*given, partial(charge_waiting, DEFAULT_DEVICES, DEFAULT_HOST)).joules
    assert without <= charged * (1 + 1e-9)
    assert charged <= run.joules

"""The clairvoyant bound is below every schedule there is, and not far below where a hand can tell the best one."""

import itertools
import math
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.lab.simulation.bound import InfeasibleError, bound, least_batch_share
from ollama_proxy.lab.simulation.devices import DEFAULT_DEVICES, DEFAULT_HOST
from ollama_proxy.lab.simulation.mix import DEFAULT_MIX, apply_mix
from ollama_proxy.lab.simulation.report import allow_like
from ollama_proxy.lab.simulation.run import Setting, run_policy
from ollama_proxy.lab.simulation.synthetic import generate
from ollama_proxy.lab.simulation.timing import time_as_drawn
from ollama_proxy.lab.simulation.workload import Arrival


class Machine(msgspec.Struct, frozen=True):
    """A device that needs `seconds` and `joules` for each token of output, and nothing else."""

    seconds: float
    joules: float
    slots: int = 1
    name: str = "machine"
    batch_exponent: float = 0.0  # several at once save nothing
    batch_power_share: float = 0.0
    bandwidth_gb_s: float = 1.0  # its own

    def service_s(self, prompt_tokens: int, output_tokens: int) -> float:
        return output_tokens * self.seconds

    def energy_j(self, prompt_tokens: int, output_tokens: int) -> float:
        return output_tokens * self.joules


FRUGAL = Machine(seconds=2.0, joules=1.0)
FAST = Machine(seconds=1.0, joules=5.0)


def due(at_s: float, output_tokens: int, deadline_s: float, number: int = 0) -> Arrival:
    return Arrival(number, at_s, 1, output_tokens, wish="deadline", deadline_s=deadline_s)


def best_by_hand(arrivals: Sequence[Arrival], machines: Sequence[Machine], late: int) -> float:
    """Least joules over all assignments, orders and choices of `late` requests that nobody waits for; inf if none."""
    slots = [machine for machine in machines for _ in range(machine.slots)]
    best = math.inf
    for places in itertools.product(range(len(slots)), repeat=len(arrivals)):
        joules = sum(slots[place].energy_j(1, one.output_tokens) for place, one in zip(places, arrivals, strict=True))
        if joules >= best:
            continue
        for order in itertools.permutations(range(len(arrivals))):
            free_s = [0.0] * len(slots)
            missed = 0
            for number in order:
                one, place = arrivals[number], places[number]
                free_s[place] = max(free_s[place], one.at_s) + slots[place].service_s(1, one.output_tokens)
                missed += free_s[place] > one.at_s + one.deadline_s + 1e-9
            if missed <= late:
                best = joules
                break
    return best


workloads = st.lists(
    st.builds(due, st.integers(0, 12).map(float), st.integers(1, 4), st.integers(2, 14).map(float)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(workloads, st.integers(1, 2), st.integers(0, 2))
def test_no_schedule_is_below_the_bound(arrivals: list[Arrival], slots: int, late: int) -> None:
    machines = (msgspec.structs.replace(FRUGAL, slots=slots), FAST)
    best = best_by_hand(arrivals, machines, late)
    if best == math.inf:
        return
    found = bound(arrivals, machines, {}, {"deadline": late / len(arrivals)})
    assert found.joules <= best + 1e-6
    assert found.joules == pytest.approx(sum(found.request_joules))
    assert sum(found.request_late) <= late + 1e-6
    assert found.joules >= sum(one.output_tokens for one in arrivals) * FRUGAL.joules - 1e-6


def test_alone_each_goes_where_it_is_cheapest_in_time() -> None:
    arrivals = [due(0, 4, 10), due(100, 4, 5), due(200, 4, 8)]
    found = bound(arrivals, (FRUGAL, FAST), {}, {"deadline": 0.0})
    assert found.request_joules == pytest.approx((4.0, 20.0, 4.0))
    assert found.request_late == (0.0, 0.0, 0.0)


def test_what_does_not_fit_into_a_window_goes_elsewhere() -> None:
    arrivals = [due(0, 4, 8), due(0, 4, 8)]
    assert bound(arrivals, (FRUGAL, FAST), {}, {"deadline": 0.0}).joules == pytest.approx(4.0 + 20.0)
    two_slots = msgspec.structs.replace(FRUGAL, slots=2)
    assert bound(arrivals, (two_slots, FAST), {}, {"deadline": 0.0}).joules == pytest.approx(8.0)


def test_a_long_job_fills_windows_it_does_not_fit_into() -> None:
    """It must run from 2 to 7 at least, which leaves a job due at 4 no room on the same device."""
    arrivals = [due(0, 4, 9), due(2, 1, 2)]
    assert bound(arrivals, (FRUGAL, FAST), {}, {"deadline": 0.0}).joules > 5.0 + 0.5


def test_late_requests_cost_least_and_are_limited_by_wish() -> None:
    arrivals = [due(0, 4, 5), due(100, 4, 5)]
    assert bound(arrivals, (FRUGAL, FAST), {}, {"deadline": 0.5}).joules == pytest.approx(4.0 + 20.0)
    critical = [msgspec.structs.replace(one, wish="critical", deadline_s=0.0) for one in arrivals]
    found = bound(arrivals + critical, (FRUGAL, FAST), {"critical": 5.0}, {"deadline": 1.0, "critical": 0.0})
    assert found.request_joules == pytest.approx((4.0, 4.0, 20.0, 20.0))


def test_without_target_each_costs_least() -> None:
    arrivals = [Arrival(0, 0.0, 1, 4), Arrival(1, 0.0, 1, 4), due(0, 1, 1)]
    assert bound(arrivals, (FRUGAL, FAST), {}, {"deadline": 0.0}).request_joules == pytest.approx((4.0, 4.0, 5.0))
    assert bound([], (FRUGAL, FAST), {}).joules == 0.0


class Memory(msgspec.Struct, frozen=True):
    memory_gb_s: float
    gb_per_token: float = 4.0


def test_devices_that_share_memory_cannot_all_decode_at_full_speed() -> None:
    """Half a token a second of 4 GB each: two devices at once want 4 GB/s."""
    pair = [msgspec.structs.replace(FRUGAL, name=name, bandwidth_gb_s=0.0) for name in ("a", "b")]
    arrivals = [due(0, 4, 8), due(0, 4, 8)]
    for memory_gb_s, least in ((4.0, 8.0), (2.0, 4.0 + 20.0)):
        found = bound(arrivals, (*pair, FAST), {}, {"deadline": 0.0}, Memory(memory_gb_s))
        assert found.joules == pytest.approx(least)
    apart = [pair[0], msgspec.structs.replace(pair[1], bandwidth_gb_s=256.0)]
    assert bound(arrivals, (*apart, FAST), {}, {"deadline": 0.0}, Memory(2.0)).joules == pytest.approx(8.0)


def test_what_can_be_read_before_or_behind_a_window_need_not_be_read_inside() -> None:
    """Both read 16 GB in 12 s: together 2.7 GB/s are enough, and with less one of them goes elsewhere."""
    pair = [msgspec.structs.replace(FRUGAL, name=name, bandwidth_gb_s=0.0) for name in ("a", "b")]
    arrivals = [due(0, 4, 12), due(0, 4, 12)]
    assert bound(arrivals, (*pair, FAST), {}, {"deadline": 0.0}, Memory(2.7)).joules == pytest.approx(8.0)
    assert bound(arrivals, (*pair, FAST), {}, {"deadline": 0.0}, Memory(2.6)).joules > 8.0


def test_a_batch_reads_the_weights_once() -> None:
    batching = Machine(seconds=1.0, joules=1.0, slots=2, batch_exponent=1.0, bandwidth_gb_s=0.0)
    arrivals = [due(0, 4, 4), due(0, 4, 4)]
    assert bound(arrivals, (batching,), {}, {"deadline": 0.0}, Memory(4.0)).joules == pytest.approx(4.0)
    with pytest.raises(InfeasibleError):
        bound(arrivals, (batching,), {}, {"deadline": 0.0}, Memory(3.9))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from((4.0, 12.0, 25.0)), st.sampled_from((20.0, 40.0, 100.0)))
def test_no_run_of_the_simulator_is_below_the_bound(seed: int, rate_per_min: float, memory_gb_s: float) -> None:
    """With noise and stalls, since the bound is told the same ones."""
    devices = [msgspec.structs.replace(one, noise=0.1, stall_probability=0.02) for one in DEFAULT_DEVICES]
    host = msgspec.structs.replace(DEFAULT_HOST, memory_gb_s=memory_gb_s)
    arrivals = apply_mix(generate("conv", 40, rate_per_min, seed), DEFAULT_MIX, seed)
    run = run_policy("predictive", arrivals, Setting(devices, host, seed))
    if all(one.device for one in run.served):
        assert run.joules >= bound(arrivals, devices, *allow_like(run), host, time_as_drawn(seed)).joules - 1e-6


def test_targets_that_nobody_can_meet_are_told() -> None:
    with pytest.raises(InfeasibleError):
        bound([due(0, 4, 1)], (FRUGAL, FAST), {}, {"deadline": 0.0})
    with pytest.raises(InfeasibleError):
        bound([due(0, 4, 4), due(0, 4, 4)], (FAST,), {}, {"deadline": 0.0})


def test_joules_of_a_batch_are_those_of_its_cheapest_size() -> None:
    batching = Machine(seconds=1.0, joules=1.0, slots=4, batch_exponent=0.8, batch_power_share=0.03)
    assert least_batch_share(batching) == pytest.approx(1.09 / 4**0.8)
    costly = Machine(seconds=1.0, joules=1.0, slots=4, batch_exponent=0.1, batch_power_share=0.5)
    assert least_batch_share(costly) == 1


def test_tighter_targets_never_cost_less() -> None:
    arrivals = apply_mix(generate("conv", 150, 8.0, 1), DEFAULT_MIX, 1)
    loose, tight = (bound(arrivals, DEFAULT_DEVICES, {"critical": target_s}) for target_s in (60.0, 20.0))
    assert loose.joules <= tight.joules + 1e-6
    assert sum(tight.request_late) <= 0.01 * len(arrivals) + 1e-6
    cheapest = sum(min(d.energy_j(a.prompt_tokens, a.output_tokens) for d in DEFAULT_DEVICES) for a in arrivals)
    assert loose.joules > cheapest

"""One simulated run: what it says of the power cap, and when it decides."""

import math

import msgspec
import pytest

from ollama_proxy.lab.simulation.devices import DEFAULT_DEVICES
from ollama_proxy.lab.simulation.run import Setting, Simulation, run_policy
from ollama_proxy.lab.simulation.workload import Arrival

CPU = msgspec.structs.replace(DEFAULT_DEVICES[3], noise=0, stall_probability=0)


def test_time_above_the_cap_is_summed_and_the_longest_stretch_told() -> None:
    arrivals = [Arrival(0, 0.0, 45, 6), Arrival(1, 50.0, 450, 60), Arrival(2, 100.0, 45, 6)]
    run = run_policy("greenest", arrivals, Setting((CPU,), cap_w=20.0))
    short_s, long_s = CPU.service_s(45, 6), CPU.service_s(450, 60)
    assert run.seconds_above_cap == pytest.approx(2 * short_s + long_s)
    assert run.longest_above_s == pytest.approx(long_s)


def test_requests_that_follow_each_other_are_one_stretch() -> None:
    arrivals = [Arrival(0, 0.0, 45, 6), Arrival(1, 0.0, 45, 6)]
    run = run_policy("greenest", arrivals, Setting((CPU,), cap_w=20.0))
    assert run.longest_above_s == pytest.approx(2 * CPU.service_s(45, 6))


def test_below_the_cap_there_is_none() -> None:
    run = run_policy("greenest", [Arrival(0, 0.0, 45, 6)], Setting((CPU,), cap_w=40.0))
    assert (run.seconds_above_cap, run.longest_above_s) == (0.0, 0.0)


class Quiet(Simulation):
    """Looks at nothing by itself."""

    def next_look_s(self) -> float:
        return math.inf


def test_it_is_decided_when_a_request_comes_or_ends_and_not_at_a_first_token() -> None:
    run = Quiet("predictive", Setting((CPU,))).run([Arrival(0, 0.0, 45, 600), Arrival(1, 0.5, 45, 6)])
    first, second = run.served
    assert first.arrival.at_s < second.arrival.at_s < first.first_token_s < first.ended_s == second.started_s
    assert len(run.decide_us) == 3


def test_who_waits_is_looked_at_now_and_then_though_nothing_happens() -> None:
    run = run_policy("predictive", [Arrival(0, 0.0, 45, 600), Arrival(1, 0.5, 45, 6)], Setting((CPU,)))
    assert len(run.decide_us) > 3

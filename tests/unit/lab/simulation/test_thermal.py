"""Heat in closed form against the same equations walked in small steps."""

from __future__ import annotations

import math

import pytest

from ollama_proxy.lab.simulation.device_model import HostModel, ThermalModel
from ollama_proxy.lab.simulation.thermal import Heat

HOST = HostModel(ambient_c=20, chassis_k_per_w=0.4, chassis_tau_s=300)
DIE = ThermalModel(die_k_per_w=1.2, die_tau_s=25, throttle_c=90, resume_c=80)


def build(idle_w: float) -> Heat:
    return Heat(HOST, [DIE], [idle_w], idle_w)


def walk(heat: Heat, seconds: float, step_s: float = 0.01) -> tuple[float, float]:
    """Die and chassis after `seconds`, by Euler's method."""
    die_c, chassis_c = heat.dies[0].temperature_c, heat.chassis_c
    end_c = HOST.ambient_c + HOST.chassis_k_per_w * heat.watts
    for _ in range(round(seconds / step_s)):
        die_c += (chassis_c + DIE.die_k_per_w * heat.dies[0].watts - die_c) / DIE.die_tau_s * step_s
        chassis_c += (end_c - chassis_c) / HOST.chassis_tau_s * step_s
    return die_c, chassis_c


@pytest.mark.parametrize(("before_w", "die_w", "others_w"), [(0, 50, 0), (60, 0, 0), (40, 5, 90), (5, 60, 40)])
def test_the_closed_form_is_the_solution(before_w: float, die_w: float, others_w: float) -> None:
    heat = build(before_w)
    heat.dies[0].watts, heat.watts = die_w, die_w + others_w
    expected_c = walk(heat, 120)
    heat.pass_time(120)
    assert (heat.dies[0].temperature_c, heat.chassis_c) == pytest.approx(expected_c, abs=0.02)


def test_an_idle_machine_begins_in_balance() -> None:
    heat = build(10)
    heat.dies[0].watts = 10
    before_c = heat.dies[0].temperature_c
    assert before_c == pytest.approx(20 + 4 + 12)
    heat.pass_time(1000)
    assert heat.dies[0].temperature_c == pytest.approx(before_c)


def test_a_die_that_cools_first_and_warms_up_later_is_not_missed() -> None:
    """Its own draw falls, but the chassis goes on warming: over the threshold after a dip."""
    heat = build(0)
    heat.dies[0].watts, heat.watts = 50, 50
    heat.pass_time(140)
    heat.dies[0].watts, heat.watts = 40, 150
    assert heat.dies[0].temperature_c < 90
    crossing_s = heat.next_crossing_s(math.inf)
    before_c = heat.dies[0].temperature_c
    heat.pass_time(5)
    assert heat.dies[0].temperature_c < before_c
    crossing_s -= 5
    heat.pass_time(crossing_s / 2)
    assert heat.dies[0].temperature_c < 90
    heat.pass_time(crossing_s / 2)
    assert heat.dies[0].temperature_c == pytest.approx(90, abs=1e-6)
    heat.dies[0].check_throttle()
    assert heat.dies[0].speed == 0.8


def test_hysteresis_holds_between_the_two_thresholds() -> None:
    heat = build(0)
    die = heat.dies[0]
    seen = []
    for die.temperature_c in (85, 90, 85, 80.5, 80, 85):
        die.check_throttle()
        seen.append(die.throttled)
    assert seen == [False, True, True, True, False, False]

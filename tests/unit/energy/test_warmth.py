"""When a device will be throttled: told in time by a slope, not by noise, and never against evidence."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from ollama_proxy.energy.warmth import Warmth

LIMIT_C = 95.0


def watch(celsius: Callable[[float], float], looks: int, cut: bool | None = None) -> Warmth:
    warmth = Warmth()
    for number in range(looks):
        warmth.take(celsius(2.0 * number), cut, LIMIT_C, 100 + 2.0 * number)
    return warmth


@pytest.mark.parametrize("slope", [0.1, 0.5, 1.0])
def test_a_device_that_gets_hotter_is_told_of_in_time(slope: float) -> None:
    dice = random.Random(1)
    warmth = watch(lambda s: 60 + slope * s + dice.choice((-0.5, 0.0, 0.5)), 16)
    assert warmth.throttles_in_s(LIMIT_C) == pytest.approx((35 - slope * 30) / slope, rel=0.3)
    assert not warmth.throttling


@pytest.mark.parametrize("slope", [0.0, -0.5])
def test_one_that_does_not_is_no_concern(slope: float) -> None:
    assert watch(lambda s: 80 + slope * s, 16).throttles_in_s(LIMIT_C) == math.inf


def test_readings_far_apart_say_nothing_of_the_slope() -> None:
    warmth = Warmth()
    for now_s, celsius in ((0.0, 50.0), (600.0, 80.0)):
        warmth.take(celsius, None, LIMIT_C, now_s)
    assert warmth.throttles_in_s(LIMIT_C) == math.inf


def test_evidence_goes_before_temperature() -> None:
    hot, cool = watch(lambda _: 99.0, 9, cut=False), watch(lambda _: 50.0, 9, cut=True)
    assert (hot.throttling, hot.throttles_in_s(LIMIT_C)) == (False, math.inf)
    assert (cool.throttling, cool.throttles_in_s(LIMIT_C)) == (True, 0.0)


def test_a_single_cut_is_none_and_a_pause_no_end() -> None:
    warmth, found = Warmth(), []
    for number, cut in enumerate((False, True, False, True, True, False, True, False, False, False, False, False)):
        warmth.take(90.0, cut, LIMIT_C, 2.0 * number)
        found.append(warmth.throttling)
    assert found == [False] * 4 + [True] * 7 + [False]


def test_where_only_the_temperature_tells_it_does_not_flap() -> None:
    warmth, found = Warmth(), []
    for number, celsius in enumerate((90.0, 96.0, 96.0, 96.0, 94.0, 94.0, 94.0, 90.0, 85.0, 85.0)):
        warmth.take(celsius, None, LIMIT_C, 60.0 * number)
        found.append(warmth.throttling)
    assert found == [False, True, True, True, True, True, True, False, False, False]


def test_without_a_sensor_there_is_nothing_to_tell() -> None:
    warmth = Warmth()
    warmth.take(None, None, LIMIT_C, 1.0)
    assert (warmth.throttling, warmth.throttles_in_s(LIMIT_C)) == (False, math.inf)

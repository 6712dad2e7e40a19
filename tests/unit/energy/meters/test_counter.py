"""Wraps, resets, gaps and nonsense, by example; the properties are in tests/properties/test_meters.py."""

from __future__ import annotations

import math

import pytest

from ollama_proxy.energy.meters.counter import Counter, Integrator, Point

RANGE_J = 262_143.0


def test_the_first_value_begins_at_nought() -> None:
    assert Counter().update(5000.0, 10.0) == Point(10.0, 0.0, gap=True)


def test_a_wrap_goes_on() -> None:
    counter = Counter(RANGE_J, max_rate=200.0)
    counter.update(RANGE_J - 10, 0.0)
    assert counter.update(18.0, 1.0) == Point(1.0, 28.0, gap=False)


def test_a_reset_is_a_gap_and_the_sum_goes_on_behind_it() -> None:
    counter = Counter(RANGE_J, max_rate=200.0)
    counter.update(100_000.0, 0.0)
    assert counter.update(5.0, 1.0) == Point(1.0, 0.0, gap=True)
    assert counter.update(33.0, 2.0) == Point(2.0, 28.0, gap=False)


def test_a_counter_without_a_range_never_wraps() -> None:
    counter = Counter(None, max_rate=200.0)
    counter.update(50.0, 0.0)
    point = counter.update(1.0, 1.0)
    assert point is not None
    assert point.gap


def test_an_impossible_jump_is_a_gap() -> None:
    counter = Counter(None, max_rate=200.0)
    counter.update(0.0, 0.0)
    assert counter.update(1e6, 1.0) == Point(1.0, 0.0, gap=True)
    assert counter.update(1e6 + 50, 2.0) == Point(2.0, 50.0, gap=False)


def test_a_pause_in_which_it_may_have_wrapped_unseen_is_a_gap() -> None:
    counter = Counter(1000.0, max_rate=100.0)
    counter.update(0.0, 0.0)
    assert counter.update(50.0, 11.0) == Point(11.0, 0.0, gap=True)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 1001.0])
def test_nonsense_is_no_point_and_spoils_nothing(value: float) -> None:
    counter = Counter(1000.0, max_rate=100.0)
    counter.update(10.0, 0.0)
    assert counter.update(value, 1.0) is None
    assert counter.update(30.0, 2.0) == Point(2.0, 20.0, gap=False)


def test_a_clock_that_stands_or_steps_back_is_no_point() -> None:
    counter = Counter()
    counter.update(10.0, 5.0)
    assert counter.update(20.0, 5.0) is None
    assert counter.update(20.0, 4.0) is None
    assert counter.update(20.0, math.nan) is None


def test_power_is_integrated_by_trapezoids() -> None:
    integrator = Integrator(longest_s=5.0)
    assert integrator.update(10.0, 0.0) == Point(0.0, 0.0, gap=True)
    assert integrator.update(20.0, 2.0) == Point(2.0, 30.0, gap=False, noise=10.0)
    assert integrator.update(20.0, 3.0) == Point(3.0, 50.0, gap=False, noise=10.0)


def test_a_pause_in_power_is_a_gap() -> None:
    integrator = Integrator(longest_s=1.0, max_watts=100.0)
    integrator.update(10.0, 0.0)
    assert integrator.update(500.0, 0.5) is None
    assert integrator.update(10.0, 9.0) == Point(9.0, 0.0, gap=True)

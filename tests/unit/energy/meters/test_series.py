"""Sums between any two moments, and what they may be off by."""

from __future__ import annotations

import pytest

from ollama_proxy.domain.metering import Energy, Reading, Source
from ollama_proxy.energy.meters.series import Series

RAPL = Source("rapl", "powercap", "package", "package", range=1000.0, max_rate=200.0, update_s=0.0)


def fill(series: Series, *values: tuple[float, float], period_s: float = 1.0) -> Series:
    for at_s, joules in values:
        series.add(Reading(series.source.id, series.source.domain, at_s, joules=joules), period_s)
    return series


def test_between_points_the_sum_is_a_straight_line() -> None:
    series = fill(Series(RAPL), *((at_s, 10.0 * at_s) for at_s in range(6)))
    assert series.between(1.5, 3.5) == Energy(20.0, 0.0)


def test_at_the_edge_of_what_is_known_more_is_doubted() -> None:
    series = fill(Series(RAPL), *((at_s, 10.0 * at_s) for at_s in range(6)))
    inside, edge = series.between(1, 3.5), series.between(1, 4.5)
    assert inside is not None
    assert edge is not None
    # Whether the power changed after 4.5 s, nobody has seen.
    assert (inside.uncertainty_j, edge.uncertainty_j) == (0.0, 2.5)


def test_uncertainty_grows_with_the_swing_of_power_and_is_nought_at_points() -> None:
    series = fill(Series(RAPL), (0, 0), (1, 10), (2, 60), (3, 70))
    assert series.between(1, 2) == Energy(50.0, 0.0)
    # 10 W beside 50 W: a quarter of the difference in the middle of the interval.
    assert series.between(1.5, 2) == Energy(25.0, pytest.approx(10.0))


def test_the_age_and_the_step_of_a_counter_count_at_both_ends() -> None:
    source = Source("nvml", "nvml", "card", "card", update_s=0.1, step=0.5)
    series = fill(Series(source), (0, 0), (1, 50), (2, 100), (3, 150))
    assert series.between(1, 2) == Energy(50.0, pytest.approx(2 * (5.0 + 0.5)))


def test_outside_of_what_is_known_there_is_nothing() -> None:
    series = fill(Series(RAPL), (1, 0), (2, 10))
    assert series.between(0.5, 2) is None
    assert series.between(1, 2.5) is None
    assert series.between(2, 1) is None
    assert Series(RAPL).between(0, 1) is None


def test_nothing_is_said_across_a_gap_but_on_both_sides() -> None:
    series = fill(Series(RAPL), (0, 500), (1, 510), (2, 3), (3, 13))
    assert series.gaps == 1
    assert series.between(0, 1) == Energy(10.0, 0.0)
    assert series.between(0.5, 2.5) is None
    assert series.between(1, 2) is None
    assert series.between(2, 3) == Energy(10.0, 0.0)


def test_a_frozen_counter_grows_stale_within_two_periods() -> None:
    series = fill(Series(RAPL), (0, 0), (1, 10), (2, 10), (3, 10))
    assert not series.is_stale(3.0)
    assert series.watts(3.0) == 10.0
    assert series.is_stale(3.1)
    assert series.watts(3.1) is None
    assert series.between(0, 2) is None
    # It moves again: what was counted meanwhile is spread over the pause, and doubted.
    energy = fill(series, (4, 40)).between(1, 2)
    assert energy is not None
    assert energy.joules == 10.0
    assert energy.uncertainty_j > 5.0


def test_watts_are_the_mean_of_about_a_second() -> None:
    series = fill(Series(RAPL), (0, 0), (0.5, 50), (1.0, 60), (1.5, 70), period_s=0.5)
    assert series.watts(1.5) == 20.0
    assert Series(RAPL).watts(0) is None
    assert fill(Series(RAPL), (0, 5)).watts(0) is None


def test_power_readings_are_integrated() -> None:
    plug = Source("plug", "http", "wall", "plug", update_s=1.0)
    series = Series(plug)
    for at_s, watts in ((0, 10), (1, 10), (2, 30)):
        series.add(Reading("plug", "wall", at_s, watts=watts), 1.0)
    energy = series.between(0, 2)
    assert energy is not None
    assert energy.joules == 30.0
    assert energy.uncertainty_j >= 10.0
    assert series.watts(2) == 30.0
    assert series.watts(4.1) is None


def test_the_first_look_after_a_slow_pace_is_no_gap() -> None:
    plug = Source("plug", "http", "wall", "plug", update_s=0.0)
    series = Series(plug)
    for at_s, period_s in ((0.0, 2.0), (2.0, 2.0), (3.9, 0.15), (4.05, 0.15)):
        series.add(Reading("plug", "wall", at_s, watts=10), period_s)
    assert series.gaps == 0
    series.add(Reading("plug", "wall", 6.0, watts=10), 0.15)
    assert series.gaps == 1


def test_busy_time_may_stand_still_without_being_stale() -> None:
    npu = Source("npu", "npu", "npu_busy", "busy", max_rate=2.0)
    series = Series(npu)
    for at_s in (0.0, 1.0, 2.0):
        series.add(Reading("npu", "npu_busy", at_s, busy_s=7.0), 1.0)
    energy = series.between(0.5, 2)
    assert energy is not None
    assert energy.joules == 0.0
    assert not series.is_stale(2.0)
    assert series.watts(2.0) is None


def test_memory_is_bounded() -> None:
    series = Series(RAPL, size=10)
    fill(series, *((float(at_s), float(at_s % 1000)) for at_s in range(500)))
    span = series.span
    assert span is not None
    assert 10 <= span[1] - span[0] <= 20

"""What devices of one package take from each other, in figures."""

from __future__ import annotations

import math

import pytest

from ollama_proxy.lab.simulation.device_model import HostModel
from ollama_proxy.lab.simulation.host import PackageLimiter, draw_of_waiting, limit_speeds, share_memory


@pytest.mark.parametrize(
    ("budget_w", "speeds"),
    [
        (43, [1, 1, 1]),
        (29.0, [0.5, 1, 1]),
        (20.6, [0.2, 1, 1]),
        (15, [0.2, (15 - 5.6 - 3) / 12, 1]),
        (11.0, [0.2, 0.2, 1]),
        (6, [0.2 * 6 / 8.6, 0.2 * 6 / 8.6, 0.2 * 6 / 8.6]),
        (0, [0, 0, 0]),
    ],
)
def test_the_first_gives_most_down_to_a_fifth_then_the_next(budget_w: float, speeds: list[float]) -> None:
    assert limit_speeds([28, 12, 3], budget_w) == pytest.approx(speeds)


def test_memory_that_is_enough_slows_nobody() -> None:
    assert share_memory(0, 100) == share_memory(100, 100) == 1
    assert share_memory(160, 100) == pytest.approx(0.625)


def test_who_waits_for_memory_draws_less_but_not_as_little_as_it_is_slow() -> None:
    assert draw_of_waiting(1, 0.5) == 1
    assert draw_of_waiting(0.5, 0.5) == 0.75
    assert draw_of_waiting(0.5, 0) == 0.5


def test_a_rested_package_bursts_and_a_spent_one_does_not() -> None:
    limiter = PackageLimiter(HostModel(), 2)
    assert limiter.cap_w == 64
    left_s = limiter.exhausted_in_s(64)
    assert left_s == pytest.approx(28 * math.log(62 / 19))
    limiter.pass_time(64, left_s)
    assert limiter.cap_w == 45
    assert limiter.exhausted_in_s(45) == math.inf
    limiter.pass_time(20, 10)
    assert limiter.cap_w == 64

"""The load generator's histogram against sorted lists."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.lab.histogram import Histogram


@given(st.lists(st.floats(0, 1e5), min_size=1), st.floats(0.001, 1))
def test_a_quantile_is_that_of_the_sorted_list_but_for_a_bucket(durations: list[float], share: float) -> None:
    histogram = Histogram()
    for duration_s in durations:
        histogram.record(duration_s)
    exact = sorted(round(one * 1e6) for one in durations)[max(1, math.ceil(len(durations) * share)) - 1] / 1e6
    found = histogram.quantile_s(share)
    assert found is not None
    assert exact - 1e-9 <= found <= exact * (1 + 1 / 128) + 1e-6


def test_nothing_has_no_quantiles() -> None:
    assert Histogram().quantile_s(0.5) is None
    assert Histogram().describe_ms([("p50", 0.5)]) == {}


def test_the_highest_is_exact() -> None:
    histogram = Histogram()
    for duration_s in (0.001, 123.456789, -1.0):
        histogram.record(duration_s)
    found = histogram.describe_ms([("p50", 0.5)])
    assert found["max"] == 123456.789
    assert 1.0 <= found["p50"] <= 1.0 * (1 + 1 / 128)

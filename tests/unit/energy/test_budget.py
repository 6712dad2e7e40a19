"""An energy budget by the hour."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.energy.budget import HourlyBudget


def test_without_a_limit_nothing_is_held_back() -> None:
    budget = HourlyBudget(0)
    budget.spend(1e12, 5.0)
    assert budget.wait_s(6.0) == 0


def test_what_is_spent_comes_back_after_an_hour() -> None:
    budget = HourlyBudget(1)
    budget.spend(3000, 100.0)
    assert budget.wait_s(100.0) == 0
    budget.spend(600, 400.0)
    # 3600 J are 1 Wh: spent. The first 3000 J are gone an hour after their minute.
    assert budget.wait_s(500.0) == pytest.approx(100 + 60 + 3600 - 500)
    assert budget.wait_s(3759.0) > 0
    assert budget.wait_s(3761.0) == 0
    assert budget.spent_wh(3761.0) == pytest.approx(600 / 3600)
    assert budget.spent_wh(99999.0) == 0


def test_unknown_joules_are_not_spent() -> None:
    budget = HourlyBudget(1)
    budget.spend(None, 0.0)
    assert budget.spent_wh(0.0) == 0


@given(st.lists(st.tuples(st.floats(0, 2000), st.floats(0, 5000)), max_size=40), st.floats(0.1, 5))
def test_whoever_waits_as_told_finds_something_left(history: list[tuple[float, float]], watt_hours: float) -> None:
    budget = HourlyBudget(watt_hours)
    now_s = 0.0
    for passed_s, joules in history:
        now_s += passed_s
        budget.spend(joules, now_s)
        wait_s = budget.wait_s(now_s)
        assert 0 <= wait_s <= 3661
        if wait_s:
            now_s += wait_s
            assert budget.wait_s(now_s) == 0


def test_another_limit_counts_what_was_spent_under_the_one_before() -> None:
    budget = HourlyBudget(1)
    budget.spend(3000, 0.0)
    assert not budget.wait_s(0.0)
    budget.change(0.5)
    assert budget.wait_s(0.0)
    budget.change(2)
    assert not budget.wait_s(0.0)
    assert budget.spent_wh(0.0) == 3000 / 3600

"""The budget of further attempts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.lifecycle.retry_budget import PER_S, SHARE, WINDOW_S, RetryBudget


def run(budget: RetryBudget, now_s: float, requests: int, wanted: int) -> int:
    """Further attempts that were allowed at a moment."""
    for _ in range(requests):
        budget.opened(now_s, again=False)
    done = 0
    while done < wanted and budget.allows(now_s):
        budget.opened(now_s, again=True)
        done += 1
    return done


def test_few_may_all_be_tried_again() -> None:
    budget = RetryBudget()
    assert all(run(budget, 1000 + second, 5, 5) == 5 for second in range(60))


def test_many_are_bounded_and_the_bound_comes_back() -> None:
    budget = RetryBudget()
    assert run(budget, 1000.0, 1000, 1000) == 210
    assert run(budget, 1005.0, 0, 1000) == 50
    assert run(budget, 1000.0 + 2 * WINDOW_S, 0, 1000) == 10


def test_a_steady_fleet_has_room_for_the_death_of_a_backend() -> None:
    budget = RetryBudget()
    for second in range(20):
        run(budget, 1000.0 + second, 20, 0)
    assert run(budget, 1020.0, 0, 1000) == PER_S * WINDOW_S + SHARE * 20 * 9


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 300), st.integers(0, 300)), max_size=40))
def test_calls_are_never_more_than_the_share_beyond_requests(steps: list[tuple[float, int, int]]) -> None:
    budget = RetryBudget()
    now_s = 1000.0
    done: list[tuple[float, int, int]] = []
    for passed_s, requests, wanted in steps:
        now_s += passed_s
        done.append((now_s, requests, run(budget, now_s, requests, wanted)))
        last = [one for one in done if int(one[0]) > int(now_s) - WINDOW_S]
        if done[-1][2]:
            assert sum(one[2] for one in last) <= SHARE * sum(one[1] for one in last) + PER_S * WINDOW_S

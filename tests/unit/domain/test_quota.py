"""What a key may use: never more within the span, and something left when it was promised."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.domain.quota import Allowance, Quota
from ollama_proxy.domain.window import Window


@given(
    st.lists(st.tuples(st.floats(0, 40), st.integers(1, 60)), max_size=60),
    st.integers(1, 100),
)
def test_a_window_never_lets_through_more_than_its_limit(tries: list[tuple[float, int]], limit: int) -> None:
    window, now_s, spent = Window(limit, 60.0), 0.0, []
    for pause_s, amount in tries:
        now_s += pause_s
        if window.wait_s(now_s, amount) == 0:
            window.spend(amount, now_s)
            spent.append((now_s, amount))
        # Whoever has spent nothing may spend any amount once.
        last = [one for at_s, one in spent if at_s > now_s - 60]
        assert sum(last) <= max(limit, *last, 0) if len(last) != 1 else True


@given(
    st.lists(st.tuples(st.floats(0, 40), st.integers(1, 60)), max_size=40),
    st.integers(1, 100),
    st.integers(1, 300),
)
def test_whoever_comes_back_when_told_is_let_in(tries: list[tuple[float, int]], limit: int, amount: int) -> None:
    window, now_s = Window(limit, 60.0), 0.0
    for pause_s, spent in tries:
        now_s += pause_s
        window.spend(spent, now_s)
    wait_s = window.wait_s(now_s, amount)
    assert 0 <= wait_s <= 61.01
    assert window.wait_s(now_s + wait_s, amount) == 0


def test_requests_and_tokens_a_minute() -> None:
    quota = Quota(Allowance(requests_per_minute=2, tokens_per_minute=100))
    assert quota.take(40, 0.0) is None
    assert quota.take(40, 1.0) is None
    excess = quota.take(40, 2.0)
    assert excess is not None
    assert excess.limit == "2 requests a minute"
    assert excess.wait_s == pytest.approx(59, abs=1.1)
    assert quota.take(40, 2.0 + excess.wait_s) is None
    # Ten tokens of prompt were reckoned with; thirty and sixty-one were counted.
    quota.settle(40, 30, 61, 63.0)
    excess = quota.take(40, 64.0)
    assert excess is not None
    assert excess.limit == "100 tokens a minute"


def test_a_prompt_that_is_larger_than_the_limit_passes_once_and_alone() -> None:
    quota = Quota(Allowance(tokens_per_minute=100))
    assert quota.take(4000, 0.0) is None
    assert quota.take(4, 1.0) is not None


def test_energy_an_hour_and_a_day() -> None:
    quota = Quota(Allowance(wh_per_hour=1, wh_per_day=2))
    quota.spend(3600, 0.0)
    excess = quota.take(0, 1.0)
    assert excess is not None
    assert excess.limit == "1 Wh an hour"
    quota.spend(3600, 3700.0)
    assert quota.take(0, 7400.0).limit == "2 Wh a day"  # type: ignore[union-attr]
    assert quota.take(0, 86400 + 3700.0 + 1500.0) is None


def test_requests_at_once() -> None:
    quota = Quota(Allowance(concurrent=1))
    assert quota.take(0, 0.0) is None
    excess = quota.take(0, 0.0)
    assert excess is not None
    assert (excess.limit, excess.wait_s) == ("1 requests at once", 1.0)
    quota.leave()
    assert quota.take(0, 0.0) is None


def test_what_is_refused_is_not_counted() -> None:
    quota = Quota(Allowance(requests_per_minute=5, concurrent=1))
    assert quota.take(0, 0.0) is None
    for _ in range(20):
        assert quota.take(0, 0.0) is not None
    quota.leave()
    assert [quota.take(0, 1.0) for _ in range(1)] == [None]

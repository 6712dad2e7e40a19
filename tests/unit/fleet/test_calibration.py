"""Do predictions come true: what was promised against what was kept, and by how much seconds were wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.fleet.calibration import Judge


def test_nothing_known_is_absent() -> None:
    found = Judge().look()
    assert (found.promises, found.ttft_error, found.e2e_error, found.requests) == ((), None, None, 0.0)


def test_promises_are_counted_by_their_chance() -> None:
    judge = Judge()
    for number in range(20):
        judge.keep_promise(0.95, kept=number % 4 != 0)
        judge.keep_promise(0.25, kept=number % 4 == 0)
    low, high = judge.look().promises
    assert low.promised == pytest.approx(0.25)
    assert low.kept == pytest.approx(0.25, abs=0.05)
    assert high.promised == pytest.approx(0.95)
    assert high.kept == pytest.approx(0.75, abs=0.05)
    assert 15 < low.requests <= 20


def test_twice_as_long_and_half_as_long_are_as_wrong() -> None:
    judge = Judge()
    judge.compare(1.0, 2.0, 10.0, 5.0)
    found = judge.look()
    assert found.ttft_error == pytest.approx(1.0)
    assert found.e2e_error == pytest.approx(1.0)


def test_old_errors_fade() -> None:
    judge = Judge()
    for _ in range(50):
        judge.compare(1.0, 4.0, 1.0, 4.0)
    for _ in range(700):
        judge.compare(1.0, 1.0, 1.0, 1.0)
    error = judge.look().e2e_error
    assert error is not None
    assert error < 0.01


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), *[st.floats(0, 1e9)] * 4), max_size=30))
def test_whatever_comes_shares_stay_shares(history: list[tuple[float, bool, float, float, float, float]]) -> None:
    judge = Judge()
    for chance, kept, *seconds in history:
        judge.keep_promise(chance, kept)
        judge.compare(*seconds)
    found = judge.look()
    for one in found.promises:
        assert -1e-9 <= one.promised <= 1 + 1e-9
        assert -1e-9 <= one.kept <= 1 + 1e-9
    assert found.e2e_error is None or found.e2e_error >= 0

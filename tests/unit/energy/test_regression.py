"""The joules of the next request: learned from those that ended, from wrong priors, through noise, stalls and drift."""

from __future__ import annotations

import random
from collections.abc import Iterator
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.energy.least_squares import dot, invert, multiply, solve_nonnegative
from ollama_proxy.energy.regression import MAX_PAIRS, Coefficients, Regression, Regressions, prior_from_config

TRUTH = Coefficients(5.0, 0.68, 4.7)


def cost(truth: Coefficients, n_prompt: int, n_output: int) -> float:
    return truth.fixed_j + truth.prefill_j * n_prompt + truth.decode_j * n_output


def conversations(seed: int, count: int) -> Iterator[tuple[int, int, float]]:
    """Prompt tokens, output tokens, joules with 3 % of noise and a stall now and then."""
    dice = random.Random(seed)
    for _ in range(count):
        n_prompt, n_output = int(dice.lognormvariate(6.9, 0.6)), 1 + int(dice.lognormvariate(4.8, 1))
        stall = 2.0 if dice.random() < 0.01 else 1.0
        yield n_prompt, n_output, cost(TRUTH, n_prompt, n_output) * dice.lognormvariate(0, 0.03) * stall


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("watts", [14, 28, 56])
def test_priors_that_are_wrong_are_corrected_within_thirty_requests(seed: int, watts: float) -> None:
    regression = Regression(prior_from_config(watts, 6))
    errors, within = [], 0
    for n_prompt, n_output, joules in conversations(seed, 200):
        told = regression.predict(n_prompt, n_output)
        assert told is not None
        errors.append(abs(told.joules / joules - 1))
        within += abs(told.joules - joules) <= 2 * told.sigma_j
        regression.learn(n_prompt, n_output, joules)
    assert median(errors[30:60]) < 0.10
    assert median(errors[60:]) < 0.04
    assert within / 200 > 0.9


def test_without_a_prior_nothing_is_said_before_three_requests() -> None:
    regression = Regression()
    for n_prompt, n_output in ((100, 10), (1000, 10), (100, 200)):
        assert regression.predict(10, 10) is None
        assert regression.coefficients is None
        regression.learn(n_prompt, n_output, cost(TRUTH, n_prompt, n_output))
    told = regression.predict(500, 100)
    assert told is not None
    assert told.joules == pytest.approx(cost(TRUTH, 500, 100))


def test_the_prior_is_what_is_told_at_first_with_its_doubt() -> None:
    told = Regression(prior_from_config(28, 6)).predict(0, 60)
    assert told is not None
    assert told.joules == pytest.approx(280)
    assert 0.25 < told.sigma_j / told.joules < 0.6


def test_no_prior_without_watts_or_speed() -> None:
    assert prior_from_config(0, 10) is None
    assert prior_from_config(10, 0) is None
    assert prior_from_config(30, 10, prefill_tps=100, overhead_s=0.5) == Coefficients(15, 0.3, 3)
    assert prior_from_config(30, 10) == Coefficients(0, 3 * (1 / 20), 3)


def test_a_drift_is_followed() -> None:
    regression = Regression(prior_from_config(28, 6))
    for n_prompt, n_output, joules in conversations(1, 200):
        regression.learn(n_prompt, n_output, joules)
    errors = []
    for n_prompt, n_output, joules in conversations(2, 200):
        told = regression.predict(n_prompt, n_output)
        assert told is not None
        errors.append(abs(told.joules / (1.6 * joules) - 1))
        regression.learn(n_prompt, n_output, 1.6 * joules)
    assert median(errors[:10]) > 0.3
    assert median(errors[100:]) < 0.05


def test_one_stall_is_no_new_device() -> None:
    regression = Regression(prior_from_config(28, 6))
    for n_prompt, n_output, joules in conversations(1, 100):
        regression.learn(n_prompt, n_output, joules)
    before = regression.predict(1000, 100)
    regression.learn(1000, 100, 10 * cost(TRUTH, 1000, 100))
    after = regression.predict(1000, 100)
    assert before is not None
    assert after is not None
    assert after.joules == pytest.approx(before.joules, rel=0.1)


def test_doubtful_figures_teach_less() -> None:
    sure, doubtful = Regression(prior_from_config(28, 6)), Regression(prior_from_config(28, 6))
    for _ in range(5):
        sure.learn(500, 50, 400)
        doubtful.learn(500, 50, 400, plus_minus_j=400)
    told_sure, told_doubtful = sure.predict(500, 50), doubtful.predict(500, 50)
    assert told_sure is not None
    assert told_doubtful is not None
    assert abs(told_sure.joules - 400) < abs(told_doubtful.joules - 400)


def test_equal_requests_for_long_do_not_make_others_absurd() -> None:
    """All of one shape: what other shapes cost is the prior's to say, and stays within reason."""
    dice = random.Random(3)
    regression = Regression(prior_from_config(28, 6))
    for _ in range(3000):
        regression.learn(512, 64, cost(TRUTH, 512, 64) * dice.lognormvariate(0, 0.05))
    alike, other = regression.predict(512, 64), regression.predict(16, 512)
    assert alike is not None
    assert other is not None
    assert alike.joules == pytest.approx(cost(TRUTH, 512, 64), rel=0.05)
    assert 0.3 < other.joules / cost(TRUTH, 16, 512) < 3
    assert other.sigma_j / other.joules > alike.sigma_j / alike.joules


@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 10_000), st.floats(0, 1e7)), max_size=40), st.booleans()
)
@settings(max_examples=100, deadline=None, database=None)
def test_predictions_are_never_negative_nor_shrink_with_tokens(
    requests: list[tuple[int, int, float]], with_prior: bool
) -> None:
    regression = Regression(prior_from_config(10, 10) if with_prior else None)
    for n_prompt, n_output, joules in requests:
        regression.learn(n_prompt, n_output, joules)
    small, large = regression.predict(10, 10), regression.predict(20, 20)
    assert (small is None) is (large is None)
    if small is not None and large is not None:
        assert 0 <= small.joules <= large.joules < 1e15
        assert 0 <= small.sigma_j < 1e15


@pytest.mark.parametrize("joules", [float("nan"), float("inf"), -1.0])
def test_figures_that_are_none_teach_nothing(joules: float) -> None:
    regression = Regression(prior_from_config(10, 10))
    before = regression.predict(10, 10)
    regression.learn(10, 10, joules)
    assert regression.predict(10, 10) == before


def test_what_was_learned_counts_less_after_a_restart_and_less_with_every_week() -> None:
    before = Regression(prior_from_config(56, 6))
    for row in conversations(1, 60):
        before.learn(*row)
    day = 86_400.0
    known = before.predict(1000, 200)
    told = [Regression.restore(before.save(), days * day).predict(1000, 200) for days in (0, 7, 70, 7000)]
    assert known is not None
    errors = [abs(one.joules / known.joules - 1) for one in told if one is not None]
    doubts = [known.sigma_j, *(one.sigma_j for one in told if one is not None)]
    assert errors[0] < 0.02
    assert errors[1] < 0.05
    assert doubts == sorted(doubts)
    # Who comes to a machine that has become another learns it sooner than if nothing had been forgotten.
    rows = [(n_prompt, n_output, 2 * joules) for n_prompt, n_output, joules in conversations(2, 12)]
    lasting, restored = before, Regression.restore(before.save(), 7 * day)
    for row in rows:
        lasting.learn(*row)
        restored.learn(*row)
    found = [one.predict(1000, 200) for one in (lasting, restored)]
    assert all(one is not None for one in found)
    assert found[1].joules > 1.05 * found[0].joules  # type: ignore[union-attr]


def test_pairs_are_apart_and_bounded() -> None:
    regressions = Regressions()
    kept = regressions.pair("a", "m", prior_from_config(10, 10))
    for number in range(2 * MAX_PAIRS):
        regressions.pair("b", str(number))
        assert regressions.pair("a", "m") is kept
    assert len(regressions) == MAX_PAIRS
    assert regressions.pair("b", "m") is not kept


systems = st.lists(st.lists(st.floats(-10, 10), min_size=3, max_size=3), min_size=3, max_size=8)


def test_terms_too_small_to_divide_by_are_nothing() -> None:
    assert invert([[1e-310, 0.0], [0.0, 1.0]]) is None
    assert solve_nonnegative([[1e-310, 0.0], [0.0, 2.0]], [1e-155, 4.0]) == [0.0, 2.0]


@given(systems, st.lists(st.floats(-10, 10), min_size=8, max_size=8))
@settings(max_examples=200, deadline=None, database=None)
def test_no_other_nonnegative_coefficients_fit_better(rows: list[list[float]], targets: list[float]) -> None:
    matrix = [[sum(row[i] * row[j] for row in rows) for j in range(3)] for i in range(3)]
    vector = [sum(row[i] * y for row, y in zip(rows, targets, strict=False)) for i in range(3)]
    if invert(matrix) is None:
        return

    def misfit(found: list[float]) -> float:
        return dot(found, multiply(matrix, found)) - 2 * dot(found, vector)

    found = solve_nonnegative(matrix, vector)
    assert min(found) >= 0
    for i in range(3):
        for step in (0.01, -0.01):
            other = [max(0.0, value + step * (i == j)) for j, value in enumerate(found)]
            assert misfit(found) <= misfit(other) + 1e-6

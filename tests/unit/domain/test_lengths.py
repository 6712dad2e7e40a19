"""Distributions of answer lengths, against sums over many small steps of the same distribution."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ollama_proxy.domain.lengths import BINS, EDGES, MOST_TOKENS, Lengths, bin_of, make_typical_lengths

weights = st.lists(st.sampled_from((0.0, 0.0, 0.1, 1.0, 30.0)), min_size=BINS, max_size=BINS).filter(any)
lengths = st.just(make_typical_lengths()) | weights.map(Lengths)
tokens = st.floats(0, 2 * MOST_TOKENS)
few = settings(max_examples=60, deadline=None)
_STEPS = 40


def spread(found: Lengths) -> list[tuple[float, float]]:
    """The distribution as points (tokens, share): each bin's weight evenly over its width."""
    total = sum(found.weights)
    return [
        (left + (right - left) * (step + 0.5) / _STEPS, weight / total / _STEPS)
        for weight, (left, right) in zip(found.weights, pairwise(EDGES), strict=True)
        for step in range(_STEPS)
        if weight
    ]


def moments(points: list[tuple[float, float]]) -> tuple[float, float]:
    share = sum(part for _, part in points)
    mean = sum(value * part for value, part in points) / share
    return mean, sum((value - mean) ** 2 * part for value, part in points) / share


@few
@given(lengths, st.sampled_from((0.0, 1.0, 7.5, 100.0, 3000.0, 1e6)))
def test_mean_and_variance_are_those_of_the_bins(found: Lengths, limit: float) -> None:
    mean, variance = moments([(min(value, limit or math.inf), share) for value, share in spread(found)])
    assert found.mean(limit) == pytest.approx(mean, rel=0.01)
    assert found.variance(limit) == pytest.approx(variance, rel=0.02, abs=1e-3 * mean * mean + 0.01)


@few
@given(lengths, tokens)
def test_the_share_within_is_what_lies_below(found: Lengths, within: float) -> None:
    below = sum(share for value, share in spread(found) if value <= within)
    widest = max(found.weights) / sum(found.weights) / _STEPS
    assert found.share_within(within) == pytest.approx(below, abs=widest + 1e-9)


@few
@given(lengths, st.floats(0, MOST_TOKENS), st.sampled_from((0.0, 10.0, 500.0)))
def test_what_is_left_is_the_rest_of_those_that_are_longer(found: Lengths, done: float, limit: float) -> None:
    most = limit or MOST_TOKENS
    assume(found.share_within(done) < 0.95)
    if done >= most:
        assert found.left(done, limit) == (0, 0)
        return
    rest = [(min(value, most) - done, share) for value, share in spread(found) if value > done]
    mean, variance = moments(rest)
    left, left_variance = found.left(done, limit)
    # A bin that `done` cuts is known to a step only.
    step = (EDGES[bin_of(done) + 1] - EDGES[bin_of(done)]) / _STEPS
    assert left == pytest.approx(mean, rel=0.05, abs=2 * step)
    assert left_variance == pytest.approx(variance, rel=0.15, abs=2 * step * (mean + step) + 0.01)


@given(lengths, tokens, tokens)
def test_shares_grow_from_nothing_to_all(found: Lengths, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 <= found.share_within(low) <= found.share_within(high) + 1e-8
    assert found.share_within(high) <= 1 + 1e-8
    assert found.share_within(0) == 0
    assert found.share_within(MOST_TOKENS) == 1


@given(lengths, st.floats(0.01, 2 * MOST_TOKENS), st.floats(0.01, 2 * MOST_TOKENS))
def test_a_higher_limit_is_never_a_shorter_answer(found: Lengths, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 < found.mean(low) <= found.mean(high) * (1 + 1e-9) <= found.mean() * (1 + 2e-9)
    assert found.mean(low) <= low * (1 + 1e-9)
    assert found.variance(low) >= 0


@given(lengths, tokens, st.sampled_from((0.0, 10.0, 500.0)))
def test_what_is_left_is_finite_and_not_beyond_the_limit(found: Lengths, done: float, limit: float) -> None:
    mean, variance = found.left(done, limit)
    most = limit or MOST_TOKENS
    assert 0 <= mean <= max(0.0, most - done) * (1 + 1e-6) + 1e-6
    assert 0 <= variance <= most * most


@given(lengths, st.sampled_from((0.0, 10.0, 500.0)))
def test_of_an_answer_that_has_not_begun_all_is_left(found: Lengths, limit: float) -> None:
    mean, variance = found.left(0, limit)
    assert mean == pytest.approx(found.mean(limit))
    assert variance == pytest.approx(found.variance(limit), rel=1e-6, abs=1e-6 * mean * mean)


@given(st.floats(0, 1e9))
def test_every_length_is_in_the_bin_whose_edges_hold_it(length: float) -> None:
    place = bin_of(length)
    assert 0 <= place < BINS
    assert length >= EDGES[place] * (1 - 1e-9)
    assert length <= EDGES[place + 1] * (1 + 1e-9) or place == BINS - 1


def test_edges_double_alike_up_to_the_longest() -> None:
    assert EDGES[0] == 0
    assert EDGES[-1] == pytest.approx(MOST_TOKENS)
    ratios = [right / left for left, right in pairwise(EDGES[1:])]
    assert ratios == pytest.approx([ratios[0]] * (BINS - 1))
    assert [bin_of(edge) for edge in EDGES[1:]] == list(range(BINS))


@pytest.mark.parametrize("wrong", [[0.0] * BINS, [1.0] * (BINS - 1), [1.0] * (BINS + 1), [1.0] * (BINS - 1) + [-0.5]])
def test_weights_that_are_none_are_refused(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        Lengths(wrong)


def test_distributions_are_equal_by_their_weights() -> None:
    one, other = Lengths([1.0] * BINS), Lengths([1.0] * BINS)
    assert one == other
    assert len({one, other, Lengths([2.0] * BINS)}) == 2
    assert one != "lengths"


def test_the_typical_answer_is_of_128_tokens() -> None:
    typical = make_typical_lengths()
    assert typical.share_within(128) == pytest.approx(0.5, abs=0.01)
    # Log-normal with sigma 1.1: mean = median e^(sigma^2 / 2), and 16 % are longer than e^sigma medians.
    assert typical.mean() == pytest.approx(128 * math.exp(1.1**2 / 2), rel=0.02)
    assert 1 - typical.share_within(128 * math.exp(1.1)) == pytest.approx(0.159, abs=0.01)
    assert list(accumulate(typical.weights))[-1] == pytest.approx(1, abs=1e-4)

"""The chance to keep a latency limit, against drawn waits, speeds and lengths."""

from __future__ import annotations

import bisect
import math
import random
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.domain.lengths import BINS, EDGES, Lengths, make_typical_lengths
from ollama_proxy.routing.chance import first_token_chance, last_token_chance

TYPICAL = make_typical_lengths()
_DRAWS = 4000

times_s = st.floats(0, 100)
variances = st.floats(0, 1.5)
lengths = st.one_of(
    st.just(TYPICAL),
    st.lists(st.sampled_from((0.0, 0.0, 1.0, 5.0)), min_size=BINS, max_size=BINS).filter(any).map(Lengths),
)
limits_tokens = st.sampled_from((0, 1, 30, 500, 10**6))


def draw_length(dice: random.Random, found: Lengths) -> float:
    ends = list(accumulate(found.weights))
    place = bisect.bisect_left(ends, dice.random() * ends[-1])
    return dice.uniform(EDGES[place], EDGES[place + 1])


def play(
    limit_s: float,
    wait: tuple[float, float],
    ttft: tuple[float, float],
    token: tuple[float, float] = (0.0, 0.0),
    limit_tokens: float = 0,
) -> float:
    """The share of drawn requests that are in time; each pair is (seconds, variance)."""
    dice = random.Random(7)
    kept = 0
    for _ in range(_DRAWS):
        total_s = max(0.0, dice.gauss(wait[0], math.sqrt(wait[1])))
        total_s += ttft[0] * math.exp(dice.gauss(0, math.sqrt(ttft[1])))
        if token[0]:
            tokens = min(draw_length(dice, TYPICAL), limit_tokens or math.inf)
            total_s += tokens * token[0] * math.exp(dice.gauss(0, math.sqrt(token[1])))
        kept += total_s <= limit_s
    return kept / _DRAWS


@pytest.mark.parametrize("limit_s", [0.3, 0.7, 1.0, 3.0, 6.0])
@pytest.mark.parametrize(("wait", "ttft"), [((0, 0), (0.5, 0.25)), ((2, 1), (0.5, 0.25)), ((2, 1), (2.0, 0.05))])
def test_first_tokens_come_as_often_as_said(
    limit_s: float, wait: tuple[float, float], ttft: tuple[float, float]
) -> None:
    assert first_token_chance(limit_s, *wait, *ttft) == pytest.approx(play(limit_s, wait, ttft), abs=0.03)


@pytest.mark.parametrize("limit_tokens", [0, 10, 200])
@pytest.mark.parametrize(
    ("limit_s", "wait", "ttft", "token"),
    [
        (1, (0, 0), (0.5, 0.05), (0.05, 0.1)),
        (6, (0, 0), (0.5, 0.25), (0.05, 0.1)),
        (12, (0, 0), (0.5, 0.01), (0.05, 0.0025)),
        (12, (2, 1), (0.5, 0.25), (0.05, 0.1)),
        (30, (8, 9), (0.5, 0.25), (0.05, 0.1)),
    ],
)
def test_answers_end_in_time_as_often_as_said(
    limit_s: float, wait: tuple[float, float], ttft: tuple[float, float], token: tuple[float, float], limit_tokens: int
) -> None:
    found = last_token_chance(limit_s, *wait, *ttft, *token, TYPICAL, limit_tokens)
    assert found == pytest.approx(play(limit_s, wait, ttft, token, limit_tokens), abs=0.03)


@given(times_s, times_s, times_s, variances, times_s, variances)
def test_the_chance_of_a_first_token_is_one_and_grows_with_the_limit(
    limit_s: float, more_s: float, wait_s: float, wait_var_s2: float, ttft_s: float, ttft_var: float
) -> None:
    found = first_token_chance(limit_s, wait_s, wait_var_s2, ttft_s, ttft_var)
    more = first_token_chance(limit_s + more_s, wait_s, wait_var_s2, ttft_s, ttft_var)
    assert 0 <= found <= more <= 1


@given(
    st.floats(-100, 100),
    times_s,
    times_s,
    variances,
    times_s,
    variances,
    st.floats(1e-4, 10),
    variances,
    lengths,
    limits_tokens,
)
def test_the_chance_of_an_end_is_one_and_grows_with_the_limit(
    limit_s: float,
    more_s: float,
    wait_s: float,
    wait_var_s2: float,
    ttft_s: float,
    ttft_var: float,
    s_per_token: float,
    decode_var: float,
    found: Lengths,
    limit_tokens: int,
) -> None:
    def chance(within_s: float) -> float:
        return last_token_chance(
            within_s, wait_s, wait_var_s2, ttft_s, ttft_var, s_per_token, decode_var, found, limit_tokens
        )

    less, more = chance(limit_s), chance(limit_s + more_s)
    assert 0 <= less <= 1
    assert 0 <= more <= 1
    # Sums of shares are exact to some 1e-9.
    assert less <= more + 1e-8


@given(st.floats(0, 100), times_s, variances, times_s, variances, st.floats(1e-4, 10), variances, limits_tokens)
def test_twice_as_quick_is_at_least_as_likely_in_time(
    limit_s: float,
    wait_s: float,
    wait_var_s2: float,
    ttft_s: float,
    ttft_var: float,
    s_per_token: float,
    decode_var: float,
    limit_tokens: int,
) -> None:
    def chance(factor: float) -> float:
        return last_token_chance(
            limit_s,
            wait_s * factor,
            wait_var_s2,
            ttft_s * factor,
            ttft_var,
            s_per_token * factor,
            decode_var,
            TYPICAL,
            limit_tokens,
        )

    assert chance(1.0) <= chance(0.5) + 1e-8
    first = first_token_chance(limit_s, wait_s, wait_var_s2, ttft_s, ttft_var)
    assert first <= first_token_chance(limit_s, wait_s / 2, wait_var_s2, ttft_s / 2, ttft_var) + 1e-12


def test_what_cannot_be_has_no_chance_however_little_is_known() -> None:
    """A wait that is known, and longer than the limit."""
    assert first_token_chance(1.0, 2.0, 0.0, 0.5, 1.0) == 0
    assert last_token_chance(1.0, 100.0, 0.0, 0.5, 1.0, 0.05, 1.25, TYPICAL, 0) < 1e-6


def test_what_is_certain_is_certain() -> None:
    assert first_token_chance(1.0, 0.0, 0.0, 1.0, 0.0) == 1
    assert first_token_chance(0.999, 0.0, 0.0, 1.0, 0.0) == 0
    assert last_token_chance(1.5, 0.0, 0.0, 1.0, 0.0, 0.05, 0.0, Lengths([0.0] * (BINS - 1) + [1.0]), 10) == 1
    assert last_token_chance(1.4, 0.0, 0.0, 1.0, 0.0, 0.05, 0.0, Lengths([0.0] * (BINS - 1) + [1.0]), 10) == 0

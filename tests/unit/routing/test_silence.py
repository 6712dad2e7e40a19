"""From when on silence is strange."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.domain.lengths import make_typical_lengths
from ollama_proxy.routing.silence import longest_before_first, longest_before_whole, longest_between

SECONDS = st.floats(0.001, 1000)
VARIANCES = st.floats(0, 4)


def test_sound_first_tokens_are_hardly_ever_overdue() -> None:
    dice = random.Random(7)
    limit_s = longest_before_first(1.0, 3.0, 0.09, guessed=False)
    late = sum(4.0 * dice.lognormvariate(0, 0.3) > limit_s for _ in range(20_000))
    assert late <= 20
    assert limit_s < 25


def test_sound_whole_answers_are_hardly_ever_overdue() -> None:
    dice = random.Random(7)
    limit_s = longest_before_whole(0.5, 0.04, 0.02, 0.04, make_typical_lengths(), 0)
    tokens = [dice.lognormvariate(4.852, 1.1) for _ in range(20_000)]
    late = sum(0.5 + each * 0.02 * dice.lognormvariate(0, 0.2) > limit_s for each in tokens)
    assert late <= 20


def test_a_limit_of_tokens_shortens_the_wait_for_a_whole_answer() -> None:
    lengths = make_typical_lengths()
    assert longest_before_whole(0.1, 0.01, 0.1, 0.01, lengths, 20) < longest_before_whole(
        0.1, 0.01, 0.1, 0.01, lengths, 0
    )


@given(SECONDS, SECONDS, VARIANCES, VARIANCES)
def test_slower_and_less_certain_backends_are_given_more_time(a_s: float, b_s: float, a: float, b: float) -> None:
    slow_s, quick_s, unsure, sure = max(a_s, b_s), min(a_s, b_s), max(a, b), min(a, b)
    for guessed in (False, True):
        slow = longest_before_first(slow_s, slow_s, unsure, guessed=guessed)
        assert slow >= longest_before_first(quick_s, quick_s, sure, guessed=guessed)
    assert longest_between(0.0, 0.1, slow_s, unsure) >= longest_between(0.0, 0.1, quick_s, sure)
    assert longest_between(slow_s, 0.1, 0.1, unsure) >= longest_between(quick_s, 0.1, 0.1, sure)


@pytest.mark.parametrize("guessed", [False, True])
def test_a_pause_of_the_host_is_never_strange(guessed: bool) -> None:
    assert longest_before_first(0.001, 0.0, 0.0, guessed=guessed) >= 3.0
    assert longest_between(0.0, 0.0, 0.001, 0.0) >= 10.0


def test_a_prompt_may_take_many_times_what_is_guessed() -> None:
    """Forty seconds at the 25 tokens a second of an old CPU, where 300 are guessed."""
    assert longest_before_first(0.5, 1000 / 300, 0.25, guessed=True) > 40

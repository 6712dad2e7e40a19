"""Learned speeds: from wrong priors, through noise, after a change, whatever a server claims."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.domain.device import BackendSpec, Rates
from ollama_proxy.fleet.rates import Learner, Observation

#: Configured: half a second to the first token, 10 tokens a second, 150 of a prompt.
SPEC = BackendSpec("a", "ollama", "A", "cpu", 20, 500, 10)
_APART_S = 5.0


class Device:
    """Shows noisy requests of a true speed to a learner."""

    def __init__(self, seed: int = 1, noise: float = 0.05) -> None:
        self.learner = Learner(SPEC, 0.0)
        self._dice = random.Random(seed)
        self._noise = noise
        self._now_s = 0.0

    def show(self, count: int, ttft_s: float = 0.5, decode_tps: float = 10.0) -> Rates:
        for _ in range(count):
            self._now_s += _APART_S
            seen = Observation(ttft_s * self._wobble(), decode_tps * self._wobble())
            self.learner.learn(seen, self._now_s)
        return self.learner.rates()

    def show_prompts(self, count: int, overhead_s: float, prefill_tps: float) -> Rates:
        for _ in range(count):
            self._now_s += _APART_S
            tokens = self._dice.choice((10, 500, 4000))
            ttft_s = (overhead_s + tokens / prefill_tps) * self._wobble()
            self.learner.learn(Observation(ttft_s, None, tokens), self._now_s)
        return self.learner.rates()

    def _wobble(self) -> float:
        return math.exp(self._dice.gauss(0, self._noise))


def test_before_any_request_the_configured_is_believed_and_doubted() -> None:
    rates = Learner(SPEC, 0.0).rates()
    assert rates.overhead_s == pytest.approx(0.5)
    assert rates.decode_tps == pytest.approx(10)
    assert rates.load_s is None
    assert rates.samples == rates.ttft_samples == rates.decode_samples == 0
    assert rates.ttft_var > 0.1
    assert rates.decode_var > 0.1


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_prior_wrong_by_two_is_right_after_ten_requests(factor: float, seed: int) -> None:
    rates = Device(seed).show(10, 0.5 * factor, 10 * factor)
    assert rates.overhead_s == pytest.approx(0.5 * factor, rel=0.1)
    assert rates.decode_tps == pytest.approx(10 * factor, rel=0.1)
    assert (rates.samples, rates.ttft_samples, rates.decode_samples) == (10, 10, 10)


@pytest.mark.parametrize("seed", range(5))
def test_overhead_and_reading_are_told_apart_by_prompts_of_different_lengths(seed: int) -> None:
    rates = Device(seed).show_prompts(30, overhead_s=0.25, prefill_tps=400.0)
    for tokens, share in ((10, 0.25), (500, 0.15), (4000, 0.1)):
        expected_s = 0.25 + tokens / 400
        assert rates.overhead_s + tokens / rates.prefill_tps == pytest.approx(expected_s, rel=share)


@pytest.mark.parametrize("seed", range(5))
def test_a_device_that_slows_down_is_followed_in_six_requests(seed: int) -> None:
    """A laptop's graphics on battery, a card that throttles: 2.2 times slower from one request to the next."""
    device = Device(seed)
    device.show(100)
    rates = device.show(6, 1.1, 10 / 2.2)
    assert rates.decode_tps == pytest.approx(10 / 2.2, rel=0.2)
    assert rates.overhead_s == pytest.approx(1.1, rel=0.2)
    settled = device.show(6, 1.1, 10 / 2.2)
    assert settled.decode_tps == pytest.approx(10 / 2.2, rel=0.1)


def test_a_single_outlier_moves_little() -> None:
    device = Device()
    before = device.show(50)
    after = device.show(1, 5.0, 1.0)
    assert after.decode_tps > before.decode_tps * 0.9
    assert after.overhead_s < before.overhead_s * 1.15


def test_slow_drift_is_followed() -> None:
    device, speed = Device(), 10.0
    for _ in range(200):
        speed *= 0.99
        device.show(1, decode_tps=speed)
    assert device.learner.rates().decode_tps == pytest.approx(speed, rel=0.15)


def test_noise_is_learned() -> None:
    """What the next request shows varies by as much as the last ones did."""
    quiet, loud = (Device(noise=noise).show(200) for noise in (0.03, 0.3))
    assert math.sqrt(quiet.decode_var) == pytest.approx(0.03, rel=0.7)
    assert math.sqrt(loud.decode_var) == pytest.approx(0.3, rel=0.5)
    assert math.sqrt(loud.ttft_var) == pytest.approx(0.3, rel=0.5)


def test_certainty_is_lost_with_time() -> None:
    device = Device()
    device.show(50)
    before = device.learner.rates().decode_var
    device.learner.learn(Observation(None, None), 3e6)
    assert device.learner.rates().decode_var > before + 0.1


def test_a_clock_that_goes_back_does_no_harm() -> None:
    device = Device()
    device.show(5)
    device.learner.learn(Observation(0.5, 10.0), 0.0)
    assert device.learner.rates().decode_tps == pytest.approx(10, rel=0.1)


def test_what_was_not_seen_is_not_learned() -> None:
    learner = Learner(SPEC, 0.0)
    for _ in range(20):
        learner.learn(Observation(None, 20.0), 0.0)
    rates = learner.rates()
    assert rates.overhead_s == pytest.approx(0.5)
    assert rates.decode_tps == pytest.approx(20, rel=0.05)
    assert (rates.samples, rates.ttft_samples, rates.decode_samples) == (20, 0, 20)
    # The first real first token is still the first, whatever else was seen before.
    learner.learn(Observation(1.0, None), 0.0)
    fresh = Learner(SPEC, 0.0)
    fresh.learn(Observation(1.0, None), 0.0)
    assert learner.rates().overhead_s == pytest.approx(fresh.rates().overhead_s)


def test_loading_is_known_once_it_was_seen() -> None:
    learner = Learner(SPEC, 0.0)
    learner.learn(Observation(0.5, 10.0, load_s=8.0), 0.0)
    assert learner.rates().load_s == pytest.approx(8)
    for _ in range(20):
        learner.learn(Observation(0.5, 10.0, load_s=2.0), 0.0)
    assert learner.rates().load_s == pytest.approx(2, rel=0.05)


speeds = st.none() | st.floats(0, 1e300)
usual = st.none() | st.floats(0.01, 1e3)


@settings(max_examples=200, deadline=None)
@given(st.lists(usual, max_size=40), st.floats(0.1, 1e4))
def test_decode_stays_between_the_prior_and_what_was_seen(seen: list[float | None], prior_tps: float) -> None:
    learner = Learner(BackendSpec("a", "ollama", "a", "cpu", max_tokens_per_second=prior_tps), 0.0)
    for place, one in enumerate(seen):
        learner.learn(Observation(None, one), float(place))
    values = [prior_tps, *(one for one in seen if one is not None)]
    assert min(values) * 0.999 <= learner.rates().decode_tps <= max(values) * 1.001


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(speeds, speeds, st.floats(-1e12, 1e300), speeds, st.floats(0, 1e12)), max_size=40),
    st.floats(0, 1e9),
    st.floats(0, 1e9),
)
def test_whatever_a_server_claims_the_rates_are_numbers(
    claims: list[tuple[float | None, float | None, float, float | None, float]], latency_ms: float, tps: float
) -> None:
    learner = Learner(BackendSpec("a", "ollama", "a", "cpu", 1, latency_ms, tps), 0.0)
    for ttft_s, decode_tps, prompt_tokens, load_s, now_s in claims:
        learner.learn(Observation(ttft_s, decode_tps, prompt_tokens, load_s), now_s)
    rates = learner.rates()
    for value in (rates.overhead_s, rates.prefill_tps, rates.decode_tps, rates.load_s or 1.0):
        assert 0 < value < math.inf
    assert 0 <= rates.ttft_var < 3
    assert 0 <= rates.decode_var < 3


def test_a_server_that_reads_less_than_nothing_is_believed_to_read_nothing() -> None:
    """Some count what they took from their cache in addition to the prompt, not in it."""
    learner = Learner(SPEC, 0.0)
    for _ in range(10):
        learner.learn(Observation(0.5, 10.0, -50_000.0), 0.0)
    assert learner.rates().overhead_s == pytest.approx(0.5, rel=0.05)

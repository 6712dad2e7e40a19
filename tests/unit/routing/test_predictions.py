"""What is predicted of a request on a backend: seconds by part, joules, and what is remembered of neither."""

from __future__ import annotations

import math

import msgspec
import pytest

from ollama_proxy.domain.decision import Decision, Estimate, RoutingRequest
from ollama_proxy.domain.device import BackendSpec, BackendView, FleetView, ModelFacts, Rates, Wait
from ollama_proxy.domain.lengths import BINS, MOST_TOKENS, Lengths, make_typical_lengths
from ollama_proxy.routing.decide import decide, expect_tokens
from ollama_proxy.routing.speeds import (
    DEFAULT_DECODE_TPS,
    DEFAULT_TTFT_S,
    LOAD_BYTES_PER_S,
    LOAD_FIXED_S,
    POWER_SHARE,
    UNKNOWN_WATTS,
    make_prior,
)
from tests.support.fleets import POLICY, SMALL, view, wants

PLAIN = BackendSpec("a", "ollama", "a", "cpu", 20, 500, 10)
IN_MEMORY = frozenset({SMALL})
#: Longer than any limit a test sets, so that an answer is as long as its limit.
LONG = Lengths([0.0] * (BINS - 1) + [1.0])


def estimate(held: BackendView, request: RoutingRequest, wait: Wait | None = None) -> Estimate:
    verdict = decide(request, FleetView(1, (held,), (wait,) if wait else ()), POLICY)
    assert isinstance(verdict, Decision), verdict
    return verdict.chosen.estimate


def long_answer(tokens: int, prompt_tokens: float = 0.0) -> RoutingRequest:
    return msgspec.structs.replace(wants(max_tokens=tokens), lengths=LONG, prompt_tokens=prompt_tokens)


def test_a_prediction_by_hand() -> None:
    found = estimate(view(PLAIN, loaded=IN_MEMORY), long_answer(10))
    assert (found.wait_s, found.load_s, found.ttft_s, found.e2e_s, found.joules) == (0.0, 0.0, 0.5, 1.5, 30.0)
    assert found.latency_ms == 500
    assert found.power_watts == 20
    assert found.chance is None


def test_a_prompt_is_read_at_its_own_speed_and_draw() -> None:
    spec = msgspec.structs.replace(PLAIN, prefill_tokens_per_second=200.0, prefill_watts=30.0)
    found = estimate(view(spec, loaded=IN_MEMORY), long_answer(10, prompt_tokens=100))
    assert found.prefill_s == pytest.approx(0.5 + 100 / 200)
    assert found.joules == pytest.approx(1.0 * 30 + 1.0 * 20)


@pytest.mark.parametrize("asked", [0, 1, 128, 100_000])
def test_output_length_is_what_answers_are_cut_at_the_callers_limit(asked: int) -> None:
    tokens = make_typical_lengths().mean(asked)
    assert estimate(view(PLAIN, loaded=IN_MEMORY), wants(max_tokens=asked)).e2e_s == pytest.approx(0.5 + tokens / 10)
    assert expect_tokens(wants(max_tokens=asked)) == tokens
    assert tokens <= (asked or MOST_TOKENS)


def test_learned_lengths_are_reckoned_with() -> None:
    short = Lengths([1.0] + [0.0] * (BINS - 1))
    request = msgspec.structs.replace(wants(), lengths=short)
    assert estimate(view(PLAIN, loaded=IN_MEMORY), request).decode_s == pytest.approx(short.mean() / 10)


def test_an_embedding_takes_its_first_token_only() -> None:
    request = msgspec.structs.replace(wants(), embed=True)
    assert estimate(view(PLAIN, loaded=IN_MEMORY), request).e2e_s == 0.5


def test_priors_left_out_are_stood_in_for() -> None:
    bare = view(BackendSpec("a", "ollama", "a", "cpu"), loaded=IN_MEMORY)
    found = estimate(bare, long_answer(20))
    assert found.e2e_s == pytest.approx(DEFAULT_TTFT_S + 20 / DEFAULT_DECODE_TPS)
    assert found.joules == pytest.approx(found.e2e_s * UNKNOWN_WATTS)
    assert found.power_watts == 0


@pytest.mark.parametrize(
    ("slots", "in_flight", "rounds"), [(1, 0, 0), (1, 1, 1), (1, 3, 3), (4, 3, 0), (4, 4, 0.25), (4, 7, 1.0)]
)
def test_waiting_uncounted_is_the_queue_before_over_the_slots(slots: int, in_flight: int, rounds: float) -> None:
    spec = msgspec.structs.replace(PLAIN, slots=slots)
    found = estimate(view(spec, in_flight=in_flight, loaded=IN_MEMORY), long_answer(10))
    assert found.wait_s == pytest.approx(rounds * (found.prefill_s + found.decode_s))


def test_a_counted_wait_is_taken_as_it_is_and_costs_no_joules() -> None:
    held = view(PLAIN, in_flight=1, loaded=IN_MEMORY)
    found = estimate(held, long_answer(10), Wait(3.25, 1.0))
    assert found.wait_s == 3.25
    assert found.joules == 30.0


@pytest.mark.parametrize(("slots", "in_flight", "together"), [(1, 0, 1), (4, 0, 1), (4, 1, 2), (4, 3, 4), (4, 9, 4)])
def test_requests_at_once_slow_each_other_and_share_the_device(slots: int, in_flight: int, together: int) -> None:
    spec = msgspec.structs.replace(PLAIN, slots=slots, parallel_exponent=0.7)
    found = estimate(view(spec, in_flight=in_flight, loaded=IN_MEMORY), long_answer(10))
    assert found.decode_s == pytest.approx(1.0 * together**0.3)
    assert found.joules == pytest.approx(30.0 * together**-0.7 * (1 + POWER_SHARE * (together - 1)))


def test_what_one_request_alone_costs_is_never_less_than_beside_others() -> None:
    spec = msgspec.structs.replace(PLAIN, slots=8)
    costs = [estimate(view(spec, in_flight=load, loaded=IN_MEMORY), long_answer(10)).joules for load in range(8)]
    assert costs == sorted(costs, reverse=True)


# -- loading -------------------------------------------------------------------


def test_a_model_that_is_not_in_memory_has_to_be_loaded() -> None:
    found = estimate(view(PLAIN), long_answer(10))
    assert found.load_s == pytest.approx(400_000_000 / LOAD_BYTES_PER_S + LOAD_FIXED_S)
    assert found.ttft_s == pytest.approx(found.load_s + 0.5)
    assert found.joules == pytest.approx(30.0 + 20 * found.load_s)


def test_a_configured_and_then_a_seen_load_time_win_over_the_size() -> None:
    spec = msgspec.structs.replace(PLAIN, load_seconds=7.0)
    assert estimate(view(spec), wants()).load_s == 7.0
    seen = {SMALL: Rates(0.5, 150.0, 10.0, load_s=2.5)}
    assert estimate(view(spec, rates=seen), wants()).load_s == 2.5


def test_a_server_that_does_not_tell_what_is_in_memory_loads_nothing() -> None:
    spec = msgspec.structs.replace(PLAIN, kind="openai", load_seconds=7.0)
    assert estimate(view(spec), wants()).load_s == 0


def test_a_model_of_unknown_size_is_not_guessed_at() -> None:
    held = view(PLAIN, models={SMALL: ModelFacts(SMALL)})
    assert estimate(held, wants()).load_s == 0


# -- what was learned ------------------------------------------------------------


def test_rates_of_another_model_do_not_count() -> None:
    held = view(PLAIN, rates={"other:1b": Rates(9, 9, 9)})
    assert estimate(held, wants()) == estimate(view(PLAIN), wants())


def test_a_stand_in_is_predicted_from_its_own_model() -> None:
    spec = msgspec.structs.replace(PLAIN, kind="openai", stand_in_model="tiny:1b")
    held = view(spec, "tiny:1b", rates={"tiny:1b": Rates(2.0, 50.0, 5.0)})
    assert estimate(held, wants()).ttft_s == 2.0


def test_a_renamed_model_is_predicted_from_what_it_is_there() -> None:
    held = view(PLAIN, models={SMALL: ModelFacts(SMALL, there="big:7b")}, rates={"big:7b": Rates(2.0, 50.0, 5.0)})
    assert estimate(held, wants()).ttft_s == 2.0


def test_absurd_rates_leave_every_sum_finite() -> None:
    for rates in (Rates(1e-300, 1e300, 1e300), Rates(1e300, 1e-300, 1e-300)):
        found = estimate(view(PLAIN, rates={SMALL: rates}, in_flight=100), wants())
        assert all(map(math.isfinite, (found.wait_s, found.e2e_s, found.joules)))
        assert isinstance(found.latency_ms, int)


def test_a_priors_first_token_is_the_configured_one_for_an_empty_prompt() -> None:
    prior = make_prior(PLAIN)
    assert (prior.overhead_s, prior.decode_tps, prior.samples) == (0.5, 10.0, 0)
    assert prior.prefill_tps > prior.decode_tps
    assert prior.load_s is None


def test_waking_a_device_that_sleeps_costs_time_and_joules() -> None:
    card = BackendSpec("a", "ollama", "a", "nvidia", 50, 100, 50)
    spec = msgspec.structs.replace(card, suspend_after_seconds=40, wake_seconds=1, wake_joules=280)
    estimates = []
    for asleep in (False, True):
        verdict = decide(wants(max_tokens=50), FleetView(1, (view(spec, asleep=asleep),)), POLICY)
        assert isinstance(verdict, Decision)
        estimates.append(verdict.chosen.estimate)
    awake, sleeping = estimates
    assert sleeping.e2e_s == pytest.approx(awake.e2e_s + 1)
    assert sleeping.joules == pytest.approx(awake.joules + 280)

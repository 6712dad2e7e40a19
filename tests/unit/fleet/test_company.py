"""How many ran at once, kept over time; and the exponent of requests at once, as it is believed."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.domain.device import BackendSpec, Rates
from ollama_proxy.fleet.company import ALONE, Company, Crowding, Occupancy
from ollama_proxy.fleet.rates import Learner, Observation

SPEC = BackendSpec("a", "openai", "A", "cpu", 20, 500, 10, slots=8, parallel_exponent=0.8)
EXPONENT = 0.3


def company_of(*spells: tuple[int, float]) -> Company:
    """That of a request which ran beside so many for so long, one after the other, itself counted."""
    occupancy, now_s = Occupancy(), 100.0
    for together, seconds in spells:
        occupancy.change(together, now_s)
        now_s += seconds
    occupancy.change(0, now_s)
    return occupancy.between(100.0, now_s)


def longer(spells: list[tuple[int, float]], exponent: float) -> float:
    """How many times longer it took than alone, as a logarithm: by speeds, second by second."""
    seconds = sum(each for _, each in spells)
    return -math.log(sum(each * together ** (exponent - 1) for together, each in spells) / seconds)


@given(st.lists(st.tuples(st.integers(1, 64), st.floats(0.1, 100.0)), min_size=1, max_size=8), st.floats(0, 1))
def test_a_mix_of_company_slows_as_its_seconds_say_whatever_the_exponent(
    spells: list[tuple[int, float]], exponent: float
) -> None:
    slowness, weight = Crowding(exponent).expect(company_of(*spells))
    assert slowness == pytest.approx(longer(spells, exponent), abs=0.11)
    assert weight >= 0
    if exponent in {0.0, 0.5, 1.0}:
        assert slowness == pytest.approx(longer(spells, exponent), abs=1e-6)


def test_any_interval_is_told_from_the_changes() -> None:
    occupancy = Occupancy()
    for together, at_s in ((1, 10.0), (2, 20.0), (4, 30.0), (4, 35.0), (1, 40.0), (0, 50.0)):
        occupancy.change(together, at_s)
    assert occupancy.between(12.0, 19.0) == occupancy.between(41.0, 80.0) == ALONE
    for from_s, until_s, together in ((22.0, 28.0, 2), (30.0, 40.0, 4), (33.0, 34.0, 4)):
        assert occupancy.between(from_s, until_s)[1] == pytest.approx(math.log(together))
    assert occupancy.between(25.0, 35.0)[1] == pytest.approx(-math.log(0.5 / 2 + 0.5 / 4))
    assert occupancy.between(35.0, 35.0) == occupancy.between(36.0, 35.0) == ALONE


def test_a_clock_that_stands_still_or_goes_back_and_endless_changes_do_no_harm() -> None:
    occupancy = Occupancy()
    for number in range(10_000):
        occupancy.change(2 + number % 2, number * 1.0)
        occupancy.change(3, 0.0)
    assert math.log(2) < occupancy.between(9_800.0, 9_990.0)[1] < math.log(3)
    # What is no longer known is not guessed.
    assert math.log(2) < occupancy.between(0.0, 9_990.0)[1] < math.log(3)


class Server:
    """Shows noisy requests in company of a true speed and exponent to a learner."""

    def __init__(self, spec: BackendSpec = SPEC) -> None:
        self.learner = Learner(spec, 0.0)
        self._dice = random.Random(1)
        self._now_s = 0.0

    def show(self, count: int, exponent: float = EXPONENT, tps: float = 10.0, least: int = 1) -> Rates:
        for _ in range(count):
            self._now_s += 5.0
            together = self._dice.randint(least, 8)
            rate = tps * together ** (exponent - 1) * math.exp(self._dice.gauss(0, 0.03))
            company = company_of((together, 3.0)) if together > 1 else ALONE
            self.learner.learn(Observation(None, rate), self._now_s, (), company)
        return self.learner.rates()


def test_when_the_server_changes_it_is_learned_anew_and_the_speed_alone_stays() -> None:
    server = Server()
    server.show(60)
    rates = server.show(30, exponent=0.9)
    assert rates.parallel_exponent == pytest.approx(0.9, abs=0.1)
    assert rates.decode_tps == pytest.approx(10, rel=0.1)


def test_when_the_device_slows_down_the_exponent_stays() -> None:
    server = Server()
    server.show(60)
    rates = server.show(30, tps=10 / 2.2)
    assert rates.parallel_exponent == pytest.approx(EXPONENT, abs=0.1)
    assert rates.decode_tps == pytest.approx(10 / 2.2, rel=0.1)


def test_who_is_never_alone_is_told_right_in_company_and_less_surely_alone() -> None:
    rates = Server().show(60, least=6)
    assert rates.parallel_exponent is not None
    expected = rates.decode_tps * 7 ** (rates.parallel_exponent - 1)
    assert expected == pytest.approx(10 * 7 ** (EXPONENT - 1), rel=0.03)
    log = math.log(7)
    beside_var = rates.decode_var + log * (2 * rates.parallel_cov + log * rates.parallel_var)
    assert beside_var < rates.decode_var / 3


def test_it_outlasts_a_restart_and_is_less_certain_then() -> None:
    server = Server()
    before = server.show(60)
    after = Learner(SPEC, 0.0)
    after.restore(server.learner.save(), 60.0)
    rates = after.rates()
    assert rates.parallel_exponent == before.parallel_exponent
    assert rates.parallel_var > before.parallel_var
    days = Learner(SPEC, 0.0)
    days.restore(server.learner.save(), 30 * 86_400.0)
    assert days.rates().parallel_var > 2 * rates.parallel_var


@pytest.mark.parametrize("kept", [(7.0, 0.1), (-3.0, 0.1), (0.5, -1.0)])
def test_what_a_file_says_is_kept_within_bounds(kept: tuple[float, float]) -> None:
    one = Crowding(0.8)
    one.restore(*kept, 0.0)
    assert 0 <= one.mean <= 1
    assert one.var > 0


@given(
    st.lists(
        st.tuples(st.floats(1e-9, 1e9), st.integers(1, 4096), st.floats(0, 1e6)),
        min_size=1,
        max_size=20,
    ),
    st.floats(0, 1),
)
@settings(max_examples=50)
def test_whatever_is_seen_it_stays_within_bounds(seen: list[tuple[float, int, float]], prior: float) -> None:
    learner = Learner(BackendSpec("a", "openai", "A", "cpu", slots=4096, parallel_exponent=prior), 0.0)
    now_s = 0.0
    for rate, together, passed_s in seen:
        now_s += passed_s
        company = company_of((together, 1.0)) if together > 1 else ALONE
        learner.learn(Observation(None, rate), now_s, (), company)
        rates = learner.rates()
        exponent = prior if rates.parallel_exponent is None else rates.parallel_exponent
        assert 0 <= exponent <= 1
        for log in (0.0, 1.0, 8.0):
            assert rates.decode_var + log * (2 * rates.parallel_cov + log * rates.parallel_var) > 0

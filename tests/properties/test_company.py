"""Requests at once on an emulated device: from what ended, the time of one in any company is predicted."""

from __future__ import annotations

import random
import statistics

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.domain.annotations import NO_ANNOTATIONS
from ollama_proxy.domain.call import Need
from ollama_proxy.domain.decision import RoutingRequest
from ollama_proxy.domain.device import BackendSpec, BackendView, ModelFacts, Rates
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.fleet.rates import Observation
from ollama_proxy.fleet.state import Fleet
from ollama_proxy.lab.device import LARGE
from ollama_proxy.lab.simulation.devices import DEFAULT_DEVICES, DEFAULT_HOST
from ollama_proxy.lab.simulation.events import Ended
from ollama_proxy.lab.simulation.physics import World
from ollama_proxy.routing.prospect import Prospect, look_ahead, subject_of

MODEL = canonical_model(LARGE)
CAN = frozenset((Need.GENERATE,))
REQUEST = RoutingRequest(MODEL, LARGE, CAN, NO_ANNOTATIONS)
SLOTS = 6
CARD = msgspec.structs.replace(
    DEFAULT_DEVICES[2], slots=SLOTS, overhead_s=0.01, prefill_tps=1e5, stall_probability=0.0, thermal=None
)
NAME = CARD.name


class Bench:
    """A card at work, and the fleet that sees no more of it than when requests begin and end."""

    def __init__(
        self, exponent: float, prior: float, tps_error: float = 1.0, seed: int = 0, slots: int = SLOTS
    ) -> None:
        self.device = msgspec.structs.replace(CARD, batch_exponent=exponent, slots=slots)
        self.world = World([self.device], DEFAULT_HOST, seed)
        self.fleet = Fleet()
        tps = self.device.decode_tps * tps_error
        spec = BackendSpec(NAME, "ollama", NAME, "nvidia", 55, 10, tps, slots=slots, held=True, parallel_exponent=prior)
        self.fleet.add(spec, CAN)
        self.fleet.probed(NAME, ProbeReport({MODEL: ModelFacts(LARGE)}, frozenset({MODEL})), 0)
        self._tokens: dict[int, int] = {}
        self._dice = random.Random(seed)

    def begin(self, tokens: int) -> None:
        number = self._dice.getrandbits(48)
        self._tokens[number] = tokens
        self.fleet.opened(NAME, None, self.world.now_s)
        self.world.start(NAME, number, 10, tokens)

    def pass_time(self, seconds: float) -> None:
        """Whatever ends meanwhile teaches."""
        until_s = self.world.now_s + seconds
        while self.world.now_s < until_s:
            for event in self.world.advance(min(until_s, self.world.next_s())):
                if isinstance(event, Ended):
                    tokens = self._tokens.pop(event.job)
                    seen = Observation(event.prefill_s, tokens / event.decode_s, 10, None, event.decode_s)
                    self.fleet.closed(NAME, None, event.at_s)
                    self.fleet.succeeded(NAME, MODEL, seen, event.at_s)

    def work(self, requests: int, tokens_at_once: float = 3.0) -> None:
        """So many requests of all lengths, as many at once as come; then all have ended."""
        for _ in range(requests):
            tokens = self._dice.randint(40, 400)
            while len(self._tokens) >= self.device.slots:
                self.pass_time(0.1)
            self.begin(tokens)
            self.pass_time(self._dice.expovariate(tokens_at_once * self.device.decode_tps / 220 / 1.5))
        self.pass_time(600.0)
        assert not self._tokens

    def view(self, load: int = 0) -> BackendView:
        self.fleet.age(self.world.now_s)
        return msgspec.structs.replace(self.fleet.look(NAME), in_flight=load, memory={})

    def rates(self) -> Rates:
        return self.view().rates[MODEL]

    def look(self, load: int) -> Prospect:
        return look_ahead(self.view(load), REQUEST, subject_of(REQUEST))

    def errors(self) -> list[float]:
        """By how much the predicted time of a token differs from the true one, at each load."""
        found = []
        for load in range(self.device.slots):
            true_s = (load + 1) ** (1 - self.device.batch_exponent) / self.device.decode_tps
            one = self.look(load)
            found.append(abs(one.s_per_output_token * one.crowding / true_s - 1))
        return found


@settings(max_examples=20, deadline=None)
@given(prior=st.floats(0.3, 1.0), exponent=st.floats(0.0, 1.0), seed=st.integers(0, 10**6))
def test_after_30_requests_in_mixed_company_any_prior_tells_the_time_within_a_tenth(
    prior: float, exponent: float, seed: int
) -> None:
    errors = []
    for number in range(5):
        bench = Bench(exponent, prior, seed=seed + number)
        bench.work(30)
        errors += bench.errors()
        learned = bench.rates().parallel_exponent
        assert learned is not None
        assert 0 <= learned <= 1
    assert statistics.median(errors) < 0.1


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize(("prior", "exponent"), [(1.0, 0.2), (0.3, 0.8), (0.8, 0.5)])
def test_the_speed_alone_and_the_company_are_told_apart_though_both_were_configured_wrong(
    prior: float, exponent: float, factor: float
) -> None:
    bench = Bench(exponent, prior, factor, seed=3)
    bench.work(100, tokens_at_once=2.0)
    rates = bench.rates()
    assert rates.parallel_exponent == pytest.approx(exponent, abs=0.05)
    assert rates.decode_tps == pytest.approx(CARD.decode_tps, rel=0.05)
    assert bench.look(5).decode_var < 0.01


@given(prior=st.floats(0.3, 1.0), exponent=st.floats(0.0, 1.0))
@settings(max_examples=5, deadline=None)
def test_requests_alone_tell_nothing_of_company(prior: float, exponent: float) -> None:
    bench = Bench(exponent, prior)
    for _ in range(10):
        bench.begin(100)
        bench.pass_time(60.0)
    assert bench.rates().parallel_exponent is None
    assert bench.look(3).parallel_exponent == prior
    assert bench.look(3).decode_var == bench.look(0).decode_var
    bench.begin(100)
    bench.work(1)
    assert bench.rates().parallel_exponent is not None
    # One that had company for a while leaves doubt about more of it.
    assert bench.look(0).decode_var < bench.look(5).decode_var


def test_a_server_of_one_slot_keeps_no_count_of_company_even_if_more_are_sent() -> None:
    bench = Bench(0.5, 0.8, slots=1)
    for _ in range(6):
        bench.begin(50)
    bench.pass_time(600.0)
    rates = bench.rates()
    assert rates.parallel_exponent is None
    assert rates.decode_tps == pytest.approx(CARD.decode_tps, rel=0.1)


def test_a_first_token_that_came_in_company_teaches_nothing() -> None:
    bench = Bench(0.2, 0.8)
    for _ in range(5):
        bench.begin(100)
        bench.pass_time(60.0)
    bench.work(40, tokens_at_once=20.0)
    rates = bench.rates()
    assert rates.decode_samples == 45
    assert 5 <= rates.ttft_samples <= 10

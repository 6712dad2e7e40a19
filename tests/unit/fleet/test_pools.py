"""Devices that share memory: what each does alone, and how much each slows the others, is learned apart."""

from __future__ import annotations

import math
import random

import pytest

from ollama_proxy.domain.annotations import NO_ANNOTATIONS
from ollama_proxy.domain.call import Need
from ollama_proxy.domain.decision import Decision, Policy, RoutingRequest
from ollama_proxy.domain.device import BackendSpec, ModelFacts
from ollama_proxy.domain.lengths import BINS, Lengths
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.fleet.rates import Observation
from ollama_proxy.fleet.running import Running
from ollama_proxy.fleet.state import Fleet
from ollama_proxy.routing.decide import decide

CAN = frozenset((Need.GENERATE,))
MODEL = "m:7b"
TOKENS = 200
#: Tokens a second alone, and how many times as long they take beside the other.
TPS = {"npu": 10.0, "igpu": 20.0}
SLOWER = 1.3
WATTS = {"npu": 3.0, "igpu": 12.0}


def fleet_of(pool: str = "here") -> Fleet:
    fleet = Fleet()
    for name, watts in WATTS.items():
        fleet.add(
            BackendSpec(name, "openai", name, name, watts, 100, TPS[name] * 0.8, held=True, memory_pool=pool), CAN
        )
        fleet.probed(name, ProbeReport({MODEL: ModelFacts(MODEL)}, frozenset({MODEL})), 0)
    return fleet


def run_for(first_s: float, s_per_token: float) -> Running:
    return Running(first_s, 0.0, 0.0, s_per_token, 0.0, None, 0)


def work(fleet: Fleet, rounds: int, slower: float = SLOWER, seed: int = 1, start_s: float = 0.0) -> float:
    """Answers of the NPU, in every other round with the iGPU beside it for a part of the time. When all was done."""
    dice, now_s = random.Random(seed), start_s
    for number in range(rounds):
        share = dice.uniform(0.2, 1.0) if number % 2 else 0.0
        alone_s = TOKENS / TPS["npu"] * math.exp(dice.gauss(0, 0.03))
        # Of its time, `share` goes by at 1 / slower of its speed.
        npu_s = alone_s / (1 - share + share / slower)
        if share:
            igpu_s = share * npu_s
            tps = TPS["igpu"] / slower * math.exp(dice.gauss(0, 0.03))
            fleet.opened("npu", npu := run_for(now_s, 0.1))
            fleet.opened("igpu", igpu := run_for(now_s, 0.05))
            fleet.closed("igpu", igpu)
            fleet.succeeded("igpu", MODEL, Observation(None, tps, 0.0, None, igpu_s), now_s + igpu_s)
            fleet.closed("npu", npu)
        now_s += npu_s
        fleet.succeeded("npu", MODEL, Observation(None, TOKENS / npu_s, 0.0, None, npu_s), now_s)
        igpu_s = 10.0
        tps = TPS["igpu"] * math.exp(dice.gauss(0, 0.03))
        now_s += igpu_s
        fleet.succeeded("igpu", MODEL, Observation(None, tps, 0.0, None, igpu_s), now_s)
        now_s += 5.0
    return now_s


def speed_of(fleet: Fleet, name: str) -> float:
    view = fleet.find(name)
    assert view is not None
    return view.rates[MODEL].decode_tps


@pytest.mark.parametrize("seed", range(3))
def test_the_speed_alone_and_the_slowing_are_told_apart(seed: int) -> None:
    fleet = fleet_of()
    now_s = work(fleet, 60, seed=seed)
    fleet.age(now_s)
    (npu,), (igpu,) = fleet.view_at(now_s).beside
    assert npu.backend == "igpu"
    for seen in (npu.slows, npu.slowed, igpu.slows, igpu.slowed):
        assert math.exp(seen) == pytest.approx(SLOWER, rel=0.05)
    assert speed_of(fleet, "npu") == pytest.approx(TPS["npu"], rel=0.03)
    assert speed_of(fleet, "igpu") == pytest.approx(TPS["igpu"], rel=0.03)


def test_who_does_not_slow_is_not_said_to_and_nobody_ever_speeds_up() -> None:
    fleet = fleet_of()
    now_s = work(fleet, 60, slower=1.0)
    for around in fleet.view_at(now_s).beside:
        for one in around:
            assert 0 <= one.slows < 0.03
    fleet = fleet_of()
    assert fleet.view_at(work(fleet, 60, slower=0.7)).beside == ()


def test_slowing_that_goes_is_unlearned() -> None:
    fleet = fleet_of()
    now_s = work(fleet, 60)
    now_s = work(fleet, 60, slower=1.0, start_s=now_s)
    for around in fleet.view_at(now_s).beside:
        for one in around:
            assert one.slows < 0.06
    assert speed_of(fleet, "npu") == pytest.approx(TPS["npu"], rel=0.05)


@pytest.mark.parametrize("pool", ["", "alone"])
def test_devices_without_a_common_pool_have_no_neighbours(pool: str) -> None:
    fleet = fleet_of("")
    if pool:
        view = fleet.find("npu")
        assert view is not None
        spec = view.spec
        fleet.renew(
            BackendSpec("npu", "openai", "npu", "npu", 3, 100, spec.max_tokens_per_second, memory_pool=pool), CAN
        )
    now_s = work(fleet, 20)
    assert fleet.view_at(now_s).beside == ()
    # What is seen beside a neighbour is then taken for the device's own.
    assert speed_of(fleet, "npu") < TPS["npu"] * 0.97


def test_it_outlasts_a_restart_and_is_less_certain_then() -> None:
    before = fleet_of()
    work(before, 60)
    after = fleet_of()
    after.restore_rates(before.save_rates(0.0), 60.0, 0.0)
    (saved,), _ = after.view_at(0.0).beside
    assert math.exp(saved.slows) == pytest.approx(SLOWER, rel=0.05)
    stranger = Fleet()
    stranger.add(BackendSpec("npu", "openai", "npu", "npu"), CAN)
    stranger.restore_rates(before.save_rates(0.0), 60.0, 0.0)
    assert stranger.view_at(0.0).beside == ()


def test_joules_that_a_meter_showed_beside_neighbours_are_kept_as_alone() -> None:
    fleet = fleet_of()
    work(fleet, 60)
    fleet.teach_energy("npu", MODEL, 1.0, 0.02, 0.3, 10.0)
    view = fleet.find("npu")
    assert view is not None
    decode_j = view.rates[MODEL].decode_j
    assert decode_j is not None
    assert 0.26 < decode_j < 0.3
    assert view.rates[MODEL].prefill_j == 0.02


def choose(fleet: Fleet, now_s: float, lambda_watts: float = 0.5) -> Decision:
    request = RoutingRequest(MODEL, MODEL, CAN, NO_ANNOTATIONS, 10.0, 100)
    verdict = decide(request, fleet.view_at(now_s), Policy(lambda_watts=lambda_watts))
    assert isinstance(verdict, Decision)
    return verdict


def test_a_frugal_device_is_not_started_beside_an_urgent_request_that_it_would_slow() -> None:
    fleet = fleet_of()
    fleet.add(BackendSpec("card", "openai", "card", "nvidia", 55, 100, 60, held=True), CAN)
    fleet.probed("card", ProbeReport({MODEL: ModelFacts(MODEL)}, frozenset({MODEL})), 0)
    now_s = work(fleet, 60)
    assert choose(fleet, now_s).backend == "npu"
    chosen = {}
    for price_watts in (0.0, 100.0):
        lengths = Lengths([0.0] * 12 + [1.0] + [0.0] * (BINS - 13))
        running = Running(now_s, 0.1, 0.0, 0.05, 0.0, lengths, 0, price_watts)
        fleet.opened("igpu", running)
        chosen[price_watts] = choose(fleet, now_s)
        fleet.closed("igpu", running)
    assert chosen[0.0].backend == "npu"
    assert chosen[0.0].chosen.estimate.decode_s > choose(fleet, now_s).chosen.estimate.decode_s
    # To wait for the one that runs is better now than to slow it down.
    assert chosen[100.0].backend == "igpu"
    burden = {one.backend: one.estimate.neighbours_j for one in chosen[100.0].ranking}
    assert burden["npu"] > 20 > burden["card"] == 0


def test_where_many_write_it_is_reckoned_anew_after_a_moment_or_when_many_more_do() -> None:
    fleet = fleet_of()
    now_s = work(fleet, 60)

    def ends_s(at_s: float) -> float:
        (of_npu,), _ = fleet.view_at(at_s).beside
        return at_s + of_npu.until_s

    def send(tokens: int, count: int) -> None:
        lengths = Lengths([1.0 if at == tokens else 0.0 for at in range(BINS)])
        for _ in range(count):
            fleet.opened("igpu", Running(now_s, 0.1, 0.0, 0.05, 0.0, lengths, 0))

    send(4, 24)
    soon_s = ends_s(now_s)
    send(20, 1)
    assert ends_s(now_s + 0.04) == pytest.approx(soon_s)
    later_s = ends_s(now_s + 0.06)
    assert later_s > soon_s + 1
    send(24, 6)
    assert ends_s(now_s + 0.07) > later_s + 1

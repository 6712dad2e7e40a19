"""Joules that a meter has shown take the place of configured watts, in the decision and in what is expected."""

from __future__ import annotations

import pytest

from ollama_proxy.domain.annotations import NO_ANNOTATIONS
from ollama_proxy.domain.call import Need
from ollama_proxy.domain.decision import Decision, Policy, RoutingRequest
from ollama_proxy.domain.device import BackendSpec, FleetView, ModelFacts
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.fleet.rates import Observation
from ollama_proxy.fleet.state import Fleet
from ollama_proxy.routing.decide import decide

CAN = frozenset((Need.GENERATE,))
MODEL = "m:1b"
REQUEST = RoutingRequest(MODEL, MODEL, CAN, NO_ANNOTATIONS, 100.0, 50, embed=False)
FRUGAL = Policy(lambda_watts=0.0)


def build_fleet(watts: float = 20.0) -> Fleet:
    fleet = Fleet()
    for name in ("a", "b"):
        fleet.add(BackendSpec(name, "ollama", name, "cpu", watts, 500, 20), CAN)
        fleet.probed(name, ProbeReport({MODEL: ModelFacts(MODEL)}, frozenset({MODEL})), 0)
    return fleet


def choose(view: FleetView) -> Decision:
    found = decide(REQUEST, view, FRUGAL)
    assert isinstance(found, Decision)
    return found


def test_what_a_meter_has_shown_decides() -> None:
    fleet = build_fleet()
    first = choose(fleet.view()).backend
    fleet.teach_energy(first, MODEL, 5.0, 0.1, 3.0, 10.0)
    second = choose(fleet.view())
    assert second.backend != first
    learned = next(one for one in second.scored if one[1].backend == first)
    tokens = learned[4] / learned[1].s_per_output_token
    assert learned[5] == pytest.approx(5.0 + 100 * 0.1 + tokens * 3.0)
    assert learned[5] == pytest.approx(learned[1].expect_joules(100, tokens))


def test_it_outlasts_what_traffic_teaches_of_speeds() -> None:
    fleet = build_fleet()
    fleet.teach_energy("a", MODEL, 5.0, 0.1, 3.0, 10.0)
    fleet.succeeded("a", MODEL, Observation(0.4, 25.0, 100), 20.0)
    rates = fleet.look("a").rates[MODEL]
    assert (rates.fixed_j, rates.prefill_j, rates.decode_j, rates.samples) == (5.0, 0.1, 3.0, 1)


def test_a_draw_that_nobody_knows_is_not_told_as_known() -> None:
    fleet = build_fleet(watts=0.0)
    assert [one[1].has_known_joules for one in choose(fleet.view()).scored] == [False, False]
    fleet.teach_energy("b", MODEL, 5.0, 0.1, 3.0, 10.0)
    assert {one[1].backend: one[1].has_known_joules for one in choose(fleet.view()).scored} == {"a": False, "b": True}


def test_a_backend_that_left_is_taught_nothing() -> None:
    fleet = build_fleet()
    fleet.remove("a")
    fleet.teach_energy("a", MODEL, 5.0, 0.1, 3.0, 10.0)
    assert fleet.find("a") is None

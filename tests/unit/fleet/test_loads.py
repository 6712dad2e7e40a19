"""How long a model that nobody has seen load is expected to take: by its size, and by what others took there."""

from __future__ import annotations

import pytest

from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.call import Need
from ollama_proxy.domain.decision import Decision, Policy, RoutingRequest
from ollama_proxy.domain.device import BackendSpec, ModelFacts
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.fleet.rates import Observation
from ollama_proxy.fleet.state import Fleet
from ollama_proxy.routing.decide import decide

GB = 10**9
MODELS = {name: ModelFacts(name, size_bytes=size) for name, size in (("small:1b", GB), ("large:7b", 5 * GB))}


def fleet(load_seconds: float = 0.0, loaded: frozenset[str] = frozenset()) -> Fleet:
    one = Fleet()
    one.add(BackendSpec("a", "ollama", "a", "nvidia", 50, 100, 50, load_seconds=load_seconds), frozenset(Need))
    one.probed("a", ProbeReport(MODELS, loaded), 0)
    return one


def expect(one: Fleet, model: str) -> float:
    request = RoutingRequest(model, model, frozenset((Need.GENERATE,)), Annotations())
    verdict = decide(request, one.view(), Policy())
    assert isinstance(verdict, Decision)
    return verdict.chosen.estimate.load_s


def test_before_any_load_it_is_a_guess_by_the_size() -> None:
    assert (expect(fleet(), "small:1b"), expect(fleet(), "large:7b")) == (2.0, 6.0)
    assert expect(fleet(load_seconds=4.0), "large:7b") == 4.0


def test_a_load_that_was_seen_tells_of_other_models_there() -> None:
    # Nothing but the factor changes for the other model; what this remembers of it has to go.
    one = fleet(loaded=frozenset({"small:1b"}))
    assert expect(one, "large:7b") == 6.0
    one.succeeded("a", "small:1b", Observation(0.1, 50.0, 10, 0.5), 1.0)
    assert expect(one, "large:7b") == pytest.approx(6.0 * 0.5 / 2.0)
    after = fleet()
    after.restore_rates(one.save_rates(2.0), 60.0, 0.0)
    assert expect(after, "large:7b") == pytest.approx(1.5)
    one.succeeded("a", "large:7b", Observation(0.1, 50.0, 10, 2.0), 3.0)
    one.probed("a", ProbeReport(MODELS), 4)
    assert expect(one, "large:7b") == pytest.approx(2.0)


def test_no_load_makes_the_guess_absurd() -> None:
    one = fleet()
    one.succeeded("a", "small:1b", Observation(0.1, 50.0, 10, 1e9), 1.0)
    assert expect(one, "large:7b") == pytest.approx(6.0 * 50)

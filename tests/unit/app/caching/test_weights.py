"""The weights of a request are known only where all that may answer it tell the same."""

from __future__ import annotations

import dataclasses

import pytest

from ollama_proxy.app.caching.weights import find_makers, find_weights
from ollama_proxy.cache.key import Weights
from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.call import Call, Dialect, Generation, Need, Operation
from ollama_proxy.domain.caller import ANYBODY, Caller
from ollama_proxy.domain.device import BackendSpec, BackendView, FleetView, Health, ModelFacts

MODEL = "m:1b"


def backend(name: str, digest: str | None, *, kind: str = "ollama", **facts: object) -> BackendView:
    """One with a digest of the model, or without the model."""
    models = {} if digest is None else {MODEL: ModelFacts(MODEL, digest)}
    spec = BackendSpec(name, kind, name, "cpu", **facts)  # type: ignore[arg-type]
    return BackendView(spec, Health.HEALTHY, models=models, capabilities=frozenset({Need.GENERATE}))


def listless(name: str, kind: str = "openai") -> BackendView:
    """One that tells no list of models."""
    return BackendView(BackendSpec(name, kind, name, "cloud"), capabilities=frozenset({Need.GENERATE}))


def read(
    *backends: BackendView,
    target: str = "",
    caller: Caller = ANYBODY,
    needs: frozenset[Need] = frozenset({Need.GENERATE}),
) -> Weights:
    call = Call(
        "r", Dialect.COMPUTE, Operation.CHAT, MODEL, False, 0.0, Generation, Annotations(target=target), needs=needs
    )
    call.caller = caller
    return find_weights(find_makers(FleetView(1, backends), call, MODEL), MODEL, target)


@dataclasses.dataclass
class Case:
    """A fleet, the target, and the weights."""

    backends: tuple[BackendView, ...]
    weights: Weights
    target: str = ""


ONE = Weights(("d1",))


@pytest.mark.parametrize(
    "case",
    [
        Case((backend("a", "d1"), backend("b", "d1"), backend("c", None)), ONE),
        Case((backend("a", "d1"), backend("b", "d2")), Weights(("d1", "d2"), MODEL)),
        Case((backend("a", "d1"), backend("b", "d2")), ONE, "a"),
        Case((backend("a", "d1"), backend("b", "d2")), Weights(("d1", "d2"), MODEL, "CPU"), "CPU"),
        Case((backend("a", "d1"), backend("b", "")), Weights(("", "d1"), MODEL)),
        Case((backend("a", "d1"), backend("b", "")), Weights(("",), MODEL, "b"), "b"),
        Case((backend("a", None),), Weights((), MODEL, "a"), "a"),
        Case((backend("a", "d1"),), Weights((), MODEL, "nobody"), "nobody"),
        Case((backend("a", "d1"), listless("cloud")), Weights(("", "d1"), MODEL)),
        Case((backend("a", "d1"), listless("cloud")), Weights(("",), MODEL, "cloud"), "cloud"),
        Case((backend("a", "d1"), listless("cloud")), ONE, "a"),
        Case((backend("a", "d1"), listless("starts", "ollama")), ONE),
        Case((backend("a", "d1"), backend("b", "d2", excluded_patterns=("m:*",))), ONE),
        Case(
            (backend("a", "d1"), backend("b", "d2", kind="embedded", stand_in_model="other")),
            Weights(("d1", "d2"), MODEL),
        ),
        Case((backend("a", "d1"), backend("b", None, kind="embedded", stand_in_model="other")), ONE),
    ],
)
def test_the_weights_of_a_model(case: Case) -> None:
    assert read(*case.backends, target=case.target) == case.weights


def test_only_the_callers_backends_count() -> None:
    tied = Caller("ann", backends=frozenset({"b"}))
    assert read(backend("a", "d1"), backend("b", "d2"), caller=tied) == Weights(("d2",))


def test_only_those_count_that_are_able() -> None:
    able = BackendView(
        BackendSpec("a", "ollama", "a", "cpu"), models={MODEL: ModelFacts(MODEL, "d1")}, capabilities=frozenset(Need)
    )
    assert read(able, backend("b", "d2"), needs=frozenset({Need.IMAGES})) == ONE

"""What breakers keep out, in decisions."""

from __future__ import annotations

import msgspec
import pytest

from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.decision import Decision, Limit, Policy, Refusal, RefusalKind, RoutingRequest
from ollama_proxy.domain.device import BackendSpec, BackendView, FleetView, Health, KeptOut, ModelFacts
from ollama_proxy.routing.decide import decide
from ollama_proxy.routing.record import make_record, replay
from ollama_proxy.routing.record_lines import read_record, write_record

MODEL = "m:1b"
REQUEST = RoutingRequest(MODEL, MODEL, frozenset(), Annotations())
OPEN = {MODEL: KeptOut(0, "breaker open (reset), next try in 3 s", 3.0)}
HALF_OPEN = {MODEL: KeptOut(2, "breaker half-open after failures (reset): 2 at once until it does well")}


def view(name: str, **fields: object) -> BackendView:
    one = BackendView(BackendSpec(name, "ollama", name, "cpu", 10.0, 100.0, 10.0, slots=8), Health.HEALTHY, memory={})
    return msgspec.structs.replace(one, models={MODEL: ModelFacts(MODEL)}, loaded=frozenset({MODEL}), **fields)


def with_watts(one: BackendView, watts: float) -> BackendView:
    return msgspec.structs.replace(one, spec=msgspec.structs.replace(one.spec, power_watts=watts))


def run(*views: BackendView, request: RoutingRequest = REQUEST) -> Decision | Refusal:
    return decide(request, FleetView(1, views), Policy())


def test_who_is_kept_out_is_rejected_by_name() -> None:
    verdict = run(view("a", kept_out=OPEN), view("b"))
    assert isinstance(verdict, Decision)
    assert verdict.backend == "b"
    (rejection,) = verdict.rejections
    assert (rejection.backend, rejection.limit) == ("a", Limit.KEPT_OUT)
    assert rejection.detail == "breaker open (reset), next try in 3 s"


@pytest.mark.parametrize(("in_flight", "gets_in"), [(0, True), (1, True), (2, False), (3, False)])
def test_who_comes_back_gets_so_many_at_once(in_flight: int, gets_in: bool) -> None:
    assert isinstance(run(view("a", kept_out=HALF_OPEN, in_flight=in_flight)), Decision) is gets_in


def test_another_model_is_not_kept_out() -> None:
    assert isinstance(run(view("a", kept_out={"other:1b": OPEN[MODEL]})), Decision)


def test_when_all_are_kept_out_the_client_is_told_when_to_come_back() -> None:
    verdict = run(view("a", kept_out=OPEN), view("b", kept_out=OPEN))
    assert isinstance(verdict, Refusal)
    assert verdict.kind is RefusalKind.NO_HEALTHY
    assert "a: breaker open (reset), next try in 3 s" in verdict.message
    assert verdict.retry_after_s == 3.0


def test_the_only_one_within_the_limits_being_kept_out_passes() -> None:
    """The request is not at fault: it would be served as it is in a moment."""
    request = msgspec.structs.replace(REQUEST, annotations=Annotations(max_power_watts=15))
    hungry, empty = with_watts(view("b"), 50.0), msgspec.structs.replace(view("c"), models={})
    verdict = run(view("a", kept_out=OPEN), hungry, empty, request=request)
    assert isinstance(verdict, Refusal)
    assert (verdict.kind, verdict.retry_after_s) == (RefusalKind.NO_HEALTHY, 3.0)
    for told in ("a: breaker open (reset), next try in 3 s", "b: draws 50.0 W, limit 15 W", "c: has no model"):
        assert told in verdict.message


def test_the_only_one_that_has_the_model_being_kept_out_passes() -> None:
    verdict = run(view("a", kept_out=OPEN), msgspec.structs.replace(view("b"), models={}))
    assert isinstance(verdict, Refusal)
    assert (verdict.kind, verdict.retry_after_s) == (RefusalKind.NO_HEALTHY, 3.0)


def test_one_that_is_kept_out_and_over_the_limit_anyway_is_no_reason_to_come_back() -> None:
    request = msgspec.structs.replace(REQUEST, annotations=Annotations(max_power_watts=15))
    verdict = run(with_watts(view("a", kept_out=OPEN), 50.0), with_watts(view("b"), 50.0), request=request)
    assert isinstance(verdict, Refusal)
    assert (verdict.kind, verdict.retry_after_s) == (RefusalKind.LIMITS, 0.0)


def test_a_target_that_is_kept_out_gives_way_and_says_so() -> None:
    request = msgspec.structs.replace(REQUEST, annotations=Annotations(target="a"))
    verdict = run(view("a", kept_out=OPEN), view("b"), request=request)
    assert isinstance(verdict, Decision)
    assert verdict.backend == "b"
    assert verdict.reason.startswith("target a: breaker open (reset), next try in 3 s; ")


def test_a_record_replays_to_the_same() -> None:
    fleet = FleetView(1, (view("a", kept_out={**OPEN, "other:1b": OPEN[MODEL]}), view("b")))
    record = make_record("d", 0.0, (REQUEST, fleet, Policy(), frozenset(), "", False), decide(REQUEST, fleet, Policy()))
    line = write_record(record)
    assert write_record(replay(read_record(line))) == line
    assert record.fleet.backends[0].kept_out == OPEN

"""A caller who may use some backends only gets the decision of a fleet that has no others, but for what those draw."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.domain.annotations import NO_ANNOTATIONS, Annotations
from ollama_proxy.domain.decision import Decision, Policy, PowerSet, Refusal, RoutingRequest
from ollama_proxy.domain.device import BackendView, FleetView, Health, Wait
from ollama_proxy.routing.decide import decide, keep_allowed
from tests.properties.test_decide import changed, fleets, id_sets, ids, make_able, policies, requests, tries

systemic = st.builds(
    Annotations,
    latency_critical=st.booleans(),
    max_power_watts=st.sampled_from((60.0, 150.0)),
    power_scope=st.just("system"),
)
some = st.sampled_from([frozenset(one) for one in ("a", "ab", "bcd")])
power_sets = st.builds(PowerSet, active=some, brief=id_sets, cap_watts=st.sampled_from((60.0, 150.0)), before=id_sets)
limited = settings(max_examples=60, deadline=None)
Seen = tuple[BackendView, Wait | None]


@st.composite
def asked(draw: st.DrawFn) -> RoutingRequest:
    request = draw(requests)
    return msgspec.structs.replace(request, annotations=draw(systemic)) if draw(st.booleans()) else request


def others(allowed: frozenset[str], change: Callable[[BackendView, Wait | None], Seen]) -> Callable[..., Seen]:
    """A change of those alone that are not there for the caller."""
    return lambda view, wait: (view, wait) if view.spec.id in allowed else change(view, wait)


def rest(view: BackendView, _: Wait | None) -> Seen:
    return msgspec.structs.replace(view, in_flight=0, memory={}), None


def fall(view: BackendView, wait: Wait | None) -> Seen:
    return msgspec.structs.replace(view, health=Health.UNHEALTHY, memory={}), wait


@limited
@given(asked(), fleets(), policies, tries, id_sets, st.none() | power_sets)
def test_others_that_draw_nothing_are_not_there_at_all(
    request: RoutingRequest,
    fleet: FleetView,
    policy: Policy,
    tried: frozenset[str],
    allowed: frozenset[str],
    power_set: PowerSet | None,
) -> None:
    policy = msgspec.structs.replace(policy, power_set=power_set)
    fleet = changed(fleet, others(allowed, rest))
    verdict = decide(msgspec.structs.replace(request, allowed=allowed), fleet, policy, tried)
    assert verdict == decide(request, keep_allowed(fleet, allowed), policy, tried)


@limited
@given(requests, fleets(), policies, tries, id_sets)
def test_whatever_others_do_they_are_no_choice_and_matter_to_no_limit_but_the_systems(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str], allowed: frozenset[str]
) -> None:
    free = msgspec.structs.replace(policy, power_set=None)
    verdict = decide(msgspec.structs.replace(request, allowed=allowed), fleet, free, tried)
    assert verdict == decide(request, keep_allowed(fleet, allowed), free, tried)
    if isinstance(verdict, Decision):
        assert set(ids(verdict)) <= allowed
    assert {one.backend for one in verdict.rejections} <= allowed


@settings(limited, max_examples=120)
@given(st.booleans(), requests, systemic, fleets(), policies, some, power_sets)
def test_what_others_draw_counts_as_if_they_were_there_and_took_nobody(
    is_systemic: bool,
    request: RoutingRequest,
    wishes: Annotations,
    fleet: FleetView,
    policy: Policy,
    allowed: frozenset[str],
    power_set: PowerSet,
) -> None:
    policy, fleet = msgspec.structs.replace(policy, power_set=power_set), make_able(fleet)
    request = msgspec.structs.replace(request, annotations=wishes if is_systemic else NO_ANNOTATIONS)
    there = decide(request, changed(fleet, others(allowed, fall)), policy)
    verdict = decide(msgspec.structs.replace(request, allowed=allowed), fleet, policy)
    assert verdict.rejections == tuple(one for one in there.rejections if one.backend in allowed)
    if isinstance(verdict, Refusal):
        assert isinstance(there, Refusal)
        return
    assert isinstance(there, Decision)
    assert (verdict.ranking, verdict.short_of_power) == (there.ranking, there.short_of_power)

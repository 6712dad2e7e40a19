"""A caller who may use some backends only gets the decision of a fleet that has no others."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.domain.decision import Decision, Policy, RoutingRequest
from ollama_proxy.domain.device import FleetView
from ollama_proxy.routing.decide import decide, keep_allowed
from tests.properties.test_decide import fleets, ids, policies, requests, tries


@settings(max_examples=100, deadline=None)
@given(requests, fleets(), policies, tries, st.data())
def test_the_others_are_not_there_at_all(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str], data: st.DataObject
) -> None:
    names = [view.spec.id for view in fleet.backends]
    allowed = data.draw(st.frozensets(st.sampled_from(names)) if names else st.just(frozenset()))
    limited = msgspec.structs.replace(request, allowed=allowed)
    verdict = decide(limited, fleet, policy, tried)
    assert verdict == decide(request, keep_allowed(fleet, allowed), policy, tried)
    if isinstance(verdict, Decision):
        assert set(ids(verdict)) <= allowed
    assert {one.backend for one in verdict.rejections} <= allowed

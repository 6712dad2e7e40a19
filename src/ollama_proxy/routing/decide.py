"""The decision, a pure function: limits, predictions, cost, ranking, explanation.

The cost of a candidate depends on nothing but itself, and the order is total; so the order in which backends come does
not matter, removing a loser never changes the winner, and a backend that gets better never falls.
"""

from __future__ import annotations

import zlib
from functools import lru_cache

import msgspec

from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.decision import (
    Candidate,
    Decision,
    Estimate,
    Limit,
    Policy,
    Refusal,
    Rejection,
    RoutingRequest,
)
from ollama_proxy.domain.device import BackendSpec, BackendView, FleetView
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.routing.explanation import explain_choice, explain_refusal, refuse_unknown_target
from ollama_proxy.routing.limits import check_latency, check_limits, find_model
from ollama_proxy.routing.policies import LATENCY_CRITICAL_WATTS, POWER_EFFICIENT_WATTS
from ollama_proxy.routing.prediction import predict

NOBODY: frozenset[str] = frozenset()
Key = tuple[float, bool, bool, bool, float, float, int, int, int, str]


class Target(msgspec.Struct, frozen=True):
    """How the target annotation was read. `wanted` is empty when the choice is free; `lost` says why it became so."""

    wanted: frozenset[str] = NOBODY
    lost: str = ""


def decide(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str] = NOBODY
) -> Decision | Refusal:
    """Choose a backend for a request, or say why there is none. Reads its arguments only."""
    target = read_target(request.annotations.target, fleet, tried)
    if target is None:
        return refuse_unknown_target(request.annotations.target, fleet)
    seconds_price_w = price_of_seconds(request.annotations, policy)
    rejections: list[Rejection] = []
    ranked: list[tuple[Key, Candidate, BackendView]] = []
    stand_ins_needed = not _is_held(request.model, fleet, tried)
    for view in fleet.backends:
        rejection = check_limits(view, request, tried, target.wanted)
        meant = stand_ins_needed or view.spec.id in target.wanted
        if rejection is None and not meant and _stands_in(view, request):
            rejection = Rejection(view.spec.id, Limit.STAND_IN, "a configured backend has the model")
        if rejection is None:
            estimate = predict(view, request)
            rejection = check_latency(view.spec.id, estimate.latency_ms, request)
            if rejection is None:
                cost_j = estimate.joules + seconds_price_w * estimate.e2e_s
                ranked.append(
                    (_order(cost_j, estimate, view, request, policy), Candidate(view.spec.id, estimate, cost_j), view)
                )
                continue
        rejections.append(rejection)
    rejections.sort(key=lambda rejection: rejection.backend)
    if not ranked:
        return explain_refusal(request, fleet, tuple(rejections), targeted=bool(target.wanted))
    ranked.sort(key=lambda entry: entry[0])
    winner = ranked[0][2]
    stand_in = _explain_stand_in(winner, request, fleet, tried)
    ranking = tuple(entry[1] for entry in ranked)
    return Decision(
        ranking=ranking,
        rejections=tuple(rejections),
        reason=explain_choice(request, ranking, target.lost, seconds_price_w, stand_in),
        policy=policy.name,
        fleet_version=fleet.version,
        model=_name_there(winner, request),
        stand_in=bool(stand_in),
    )


def price_of_seconds(annotations: Annotations, policy: Policy) -> float:
    """Lambda in watts. With both wishes at once, latency wins; the power limit stays a limit either way."""
    if annotations.latency_critical:
        return LATENCY_CRITICAL_WATTS
    if annotations.prefer_power_efficiency:
        return POWER_EFFICIENT_WATTS
    return policy.lambda_watts


def read_target(wish: str, fleet: FleetView, tried: frozenset[str]) -> Target | None:
    """The backends meant by an id or a hardware word; None when nothing is called so.

    A target that is down, or has just failed, gives way to the free choice, which must say so.
    """
    if not wish:
        return Target()
    word = wish.lower()
    meant = [
        view
        for view in fleet.backends
        # A stand-in is nobody's hardware: it must not hold up a target that is down.
        if word == view.spec.id.lower() or (word == view.spec.hardware.lower() and not view.spec.stand_in_model)
    ]
    if not meant:
        return None
    able = frozenset(view.spec.id for view in meant if view.health.serves and view.spec.id not in tried)
    if able:
        return Target(able)
    first = meant[0]
    if first.spec.id in tried:
        return Target(lost=f"target {wish} failed")
    return Target(lost=f"target {wish} is {first.health.value} ({first.message or 'not probed yet'})")


def _is_held(model: str, fleet: FleetView, tried: frozenset[str]) -> bool:
    """Whether any backend that can be asked has the model under its own name."""
    return any(
        view.health.serves
        and view.spec.id not in tried
        and not view.spec.stand_in_model
        and find_model(view, model) is not None
        for view in fleet.backends
    )


def _stands_in(view: BackendView, request: RoutingRequest) -> bool:
    """Whether a backend would answer with another model than the one asked for."""
    return bool(view.spec.stand_in_model) and request.model not in (view.models or {})


def _name_there(view: BackendView, request: RoutingRequest) -> str:
    """The name to ask for. Ollama takes any spelling and echoes it; other servers compare letters."""
    if _stands_in(view, request):
        return view.spec.stand_in_model
    facts = find_model(view, request.model)
    if view.spec.kind == "ollama" or facts is None or view.models is None:
        return request.requested_model
    return facts.name


@lru_cache(maxsize=1024)
def _is_preferred(spec: BackendSpec, model: str) -> bool:
    return any(canonical_model(name) == model for name in spec.preferred_models)


def _explain_stand_in(view: BackendView, request: RoutingRequest, fleet: FleetView, tried: frozenset[str]) -> str:
    """Who stands in for what, and why; "" when nobody does."""
    if not _stands_in(view, request):
        return ""
    if request.annotations.target.lower() == view.spec.id.lower():
        return f"target {view.spec.id}: its model {view.spec.stand_in_model} stands in for {request.requested_model}"
    others = [one for one in fleet.backends if one.health.serves and not one.spec.stand_in_model]
    if any(one.spec.id in tried and find_model(one, request.model) is not None for one in others):
        why = "the backends that have it failed"
    else:
        why = "no healthy backend has it" if others else "no configured backend is healthy"
    return f"{view.spec.id} model {view.spec.stand_in_model} stands in for {request.requested_model}: {why}"


def _order(cost_j: float, estimate: Estimate, view: BackendView, request: RoutingRequest, policy: Policy) -> Key:
    """The sort key: cost, then residency, preference, load, priority, and a hash that favours nobody's name."""
    spec = view.spec
    return (
        round(cost_j, 6),
        request.model not in view.loaded,
        not _is_preferred(spec, request.model),
        spec.id != policy.default_backend,
        estimate.ttft_s if policy.auto_optimize_latency else 0.0,
        spec.power_watts if policy.power_aware else 0.0,
        view.in_flight,
        -spec.priority,
        zlib.crc32(spec.id.encode()),
        spec.id,
    )

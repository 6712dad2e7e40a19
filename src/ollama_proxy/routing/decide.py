"""The decision, a pure function: limits, predictions, cost, ranking, explanation.

The cost of a candidate depends on nothing but itself, and the order is total; so the order in which backends come does
not matter, removing a loser never changes the winner, and a backend that gets better never falls.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import msgspec

from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.decision import (
    Decision,
    Limit,
    Policy,
    Refusal,
    Rejection,
    RoutingRequest,
)
from ollama_proxy.domain.device import BackendView, FleetView
from ollama_proxy.routing.explanation import explain_choice, explain_refusal, refuse_unknown_target
from ollama_proxy.routing.limits import check_latency, check_limits, find_model
from ollama_proxy.routing.policies import LATENCY_CRITICAL_WATTS, POWER_EFFICIENT_WATTS
from ollama_proxy.routing.standing import Ranked, Standing, kind_of, reckon

NOBODY: frozenset[str] = frozenset()


class Target(msgspec.Struct, frozen=True):
    """How the target annotation was read. `wanted` is empty when the choice is free; `lost` says why it became so."""

    wanted: frozenset[str] = NOBODY
    lost: str = ""


_FREE = Target()
_backend_of = attrgetter("backend")


def decide(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str] = NOBODY
) -> Decision | Refusal:
    """Choose a backend for a request, or say why there is none. Reads its arguments only."""
    wishes = request.annotations
    target = read_target(wishes.target, fleet, tried) if wishes.target else _FREE
    if target is None:
        return refuse_unknown_target(wishes.target, fleet)
    seconds_price_w = price_of_seconds(wishes, policy)
    ranked, rejections = _rank(request, fleet, policy, tried, target.wanted, seconds_price_w)
    if not ranked:
        return explain_refusal(request, fleet, rejections, targeted=bool(target.wanted))
    best = ranked[0][1]
    stand_in = _explain_stand_in(best.candidate.backend, request, fleet, tried) if best.stands_in else ""
    ranking = tuple([standing.candidate for _, standing in ranked])
    return Decision(
        ranking,
        rejections,
        explain_choice(request, ranking, target.lost, seconds_price_w, stand_in),
        policy.name,
        fleet.version,
        best.model,
        best.stands_in,
    )


def _rank(
    request: RoutingRequest,
    fleet: FleetView,
    policy: Policy,
    tried: frozenset[str],
    wanted: frozenset[str],
    seconds_price_w: float,
) -> tuple[list[Ranked], tuple[Rejection, ...]]:
    """Those that pass all limits, best first, and why the others do not, by id."""
    wishes = request.annotations
    # Nearly every request leaves the choice free; then a backend that is fit needs no further look.
    free = not (tried or wanted or wishes.max_power_watts or wishes.max_latency_ms)
    kind = kind_of(request, seconds_price_w)
    rejections: list[Rejection] = []
    ranked: list[Ranked] = []
    for view in fleet.backends:
        remembered: dict[Any, Standing] = view.__dict__
        standing = remembered.get(kind)
        if standing is None or standing.policy is not policy:
            standing = reckon(view, request, policy, kind)
        if not (free and standing.easy):
            rejection = _check(view, standing, request, fleet, tried, wanted)
            if rejection is not None:
                rejections.append(rejection)
                continue
        ranked.append((standing.cost_j, standing))
    ranked.sort()
    if rejections:
        rejections.sort(key=_backend_of)
    return ranked, tuple(rejections)


def _check(
    view: BackendView,
    standing: Standing,
    request: RoutingRequest,
    fleet: FleetView,
    tried: frozenset[str],
    wanted: frozenset[str],
) -> Rejection | None:
    """The first limit that a backend fails."""
    wishes = request.annotations
    if view.spec.id in tried or (wanted and view.spec.id not in wanted):
        rejection = check_limits(view, request, tried, wanted)
    else:
        rejection = standing.check(wishes.max_power_watts)
    if rejection is None and standing.stands_in:
        rejection = _check_stand_in(view, request, fleet, tried, wanted)
    if rejection is None and wishes.max_latency_ms:
        rejection = check_latency(view.spec.id, standing.estimate.latency_ms, request)
    return rejection


def _check_stand_in(
    view: BackendView, request: RoutingRequest, fleet: FleetView, tried: frozenset[str], wanted: frozenset[str]
) -> Rejection | None:
    """One that answers with another model is for when nobody has the one asked for, or it is meant itself."""
    if view.spec.id in wanted or not _is_held(request.model, fleet, tried):
        return None
    return Rejection(view.spec.id, Limit.STAND_IN, "a configured backend has the model")


def price_of_seconds(annotations: Annotations, policy: Policy) -> float:
    """Lambda in watts. With both wishes at once, latency wins; the power limit stays a limit either way."""
    if annotations.latency_critical:
        return LATENCY_CRITICAL_WATTS
    if annotations.prefer_power_efficiency:
        return POWER_EFFICIENT_WATTS
    return policy.lambda_watts


def read_target(wish: str, fleet: FleetView, tried: frozenset[str]) -> Target | None:
    """The backends meant by an id or a hardware word (not empty); None when nothing is called so.

    A target that is down, or has just failed, gives way to the free choice, which must say so.
    """
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


def _explain_stand_in(backend: str, request: RoutingRequest, fleet: FleetView, tried: frozenset[str]) -> str:
    """Who stands in for what, and why."""
    view = next(view for view in fleet.backends if view.spec.id == backend)
    if request.annotations.target.lower() == view.spec.id.lower():
        return f"target {view.spec.id}: its model {view.spec.stand_in_model} stands in for {request.requested_model}"
    others = [one for one in fleet.backends if one.health.serves and not one.spec.stand_in_model]
    if any(one.spec.id in tried and find_model(one, request.model) is not None for one in others):
        why = "the backends that have it failed"
    else:
        why = "no healthy backend has it" if others else "no configured backend is healthy"
    return f"{view.spec.id} model {view.spec.stand_in_model} stands in for {request.requested_model}: {why}"

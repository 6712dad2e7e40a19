"""Whom a request is meant for: the target annotation, and who stands in for a model that nobody has."""

from __future__ import annotations

import msgspec

from ollama_proxy.domain.decision import Limit, Rejection, RoutingRequest
from ollama_proxy.domain.device import BackendView, FleetView
from ollama_proxy.routing.limits import check_kept_out, find_model, name_resident

NOBODY: frozenset[str] = frozenset()


class Target(msgspec.Struct, frozen=True):
    """How the target annotation was read. `wanted` is empty when the choice is free; `lost` says why it became so."""

    wanted: frozenset[str] = NOBODY
    lost: str = ""


FREE = Target()


def read_target(wish: str, model: str, fleet: FleetView, tried: frozenset[str]) -> Target | None:
    """The backends meant by ids or hardware words (not empty); None when nothing is called so.

    A target that is down, or has just failed, gives way to the free choice, which must say so.
    """
    meant = find_meant(wish, fleet)
    if not meant:
        return None
    able = frozenset(
        view.spec.id
        for view in meant
        if view.health.serves and view.spec.id not in tried and check_kept_out(view, name_resident(view, model)) is None
    )
    if able:
        return Target(able)
    first = meant[0]
    if first.spec.id in tried:
        return Target(lost=f"target {wish} failed")
    kept = check_kept_out(first, name_resident(first, model))
    if kept is not None and first.health.serves:
        return Target(lost=f"target {wish}: {kept.detail}")
    return Target(lost=f"target {wish} is {first.health.value} ({first.message or 'not probed yet'})")


def find_meant(wish: str, fleet: FleetView) -> list[BackendView]:
    """The backends that are called so, by ids or hardware words with commas between, however they fare.

    Nobody where one of the words means nobody: half a wish is not what was asked for.
    """
    words = {word for part in wish.lower().split(",") if (word := part.strip())}
    meant = [
        view
        for view in fleet.backends
        # A stand-in is nobody's hardware: it must not hold up a target that is down.
        if view.spec.id.lower() in words or (view.spec.hardware.lower() in words and not view.spec.stand_in_model)
    ]
    named = {name for view in meant for name in (view.spec.id.lower(), view.spec.hardware.lower())}
    return meant if words <= named else []


def _is_held(model: str, fleet: FleetView, tried: frozenset[str]) -> bool:
    """Whether any backend that can be asked has the model under its own name."""
    return any(
        view.health.serves
        and view.spec.id not in tried
        and not view.spec.stand_in_model
        and find_model(view, model) is not None
        for view in fleet.backends
    )


def explain_stand_in(backend: str, request: RoutingRequest, fleet: FleetView, tried: frozenset[str]) -> str:
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


def check_stand_in(
    view: BackendView, request: RoutingRequest, fleet: FleetView, tried: frozenset[str], wanted: frozenset[str]
) -> Rejection | None:
    """One that answers with another model is for when nobody has the one asked for, or it is meant itself."""
    if view.spec.id in wanted or not _is_held(request.model, fleet, tried):
        return None
    return Rejection(view.spec.id, Limit.STAND_IN, "a configured backend has the model")

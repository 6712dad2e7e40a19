"""Which model answers a request, as far as anybody knows before it is routed."""

from __future__ import annotations

from collections.abc import Mapping

from ollama_proxy.cache.key import Weights
from ollama_proxy.domain.call import Call
from ollama_proxy.domain.decision import RoutingRequest
from ollama_proxy.domain.device import FleetView
from ollama_proxy.routing.limits import check_ability, find_model
from ollama_proxy.routing.target import find_meant


def find_makers(view: FleetView, call: Call, model: str) -> dict[str, str]:
    """The digest of a model (its canonical name) on each backend that may answer a call, by id; "" where none is told.

    How they fare just now does not matter: whoever is down is asked later, and what is kept is found meanwhile.
    """
    request = RoutingRequest(model, call.model, call.needs, call.annotations)
    target, allowed = call.annotations.target, call.caller.backends
    makers = {}
    for one in find_meant(target, view) if target else view.backends:
        if allowed is not None and one.spec.id not in allowed:
            continue
        facts = find_model(one, model)
        if facts is not None and check_ability(one, request) is None:
            makers[one.spec.id] = facts.digest
    return makers


def list_digests(view: FleetView, model: str) -> frozenset[str]:
    """All that backends tell of a model (its canonical name): whatever is of these weights may be given for it."""
    told = (one.models[model].digest for one in view.backends if one.models is not None and model in one.models)
    return frozenset(told) - {""}


def find_weights(makers: Mapping[str, str], model: str, target: str) -> Weights:
    """Where all makers tell one digest, that alone; else all that is known."""
    found = frozenset(makers.values())
    if len(found) == 1 and "" not in found:
        return Weights(tuple(found))
    return Weights(tuple(sorted(found)), model, target)

"""The hard limits: each drops a backend with one named reason, on every attempt."""

from __future__ import annotations

from functools import lru_cache

from ollama_proxy.domain.decision import Limit, PowerSet, Rejection, RoutingRequest
from ollama_proxy.domain.device import BackendSpec, BackendView, FleetView, ModelFacts
from ollama_proxy.domain.names import canonical_model, matches_pattern

#: Servers of these kinds need not have a list of models.
_LISTLESS_KINDS = ("openai", "anthropic")
#: Above the system's power cap for as long as this is a moment.
BRIEF_S = 0.8


def check_limits(
    view: BackendView, request: RoutingRequest, tried: frozenset[str], wanted: frozenset[str]
) -> Rejection | None:
    """The first limit that a backend fails, or None. The latency limit is another module's (`deadline`).

    `wanted` are the ids that the target means; empty when the choice is free.
    """
    backend = view.spec.id
    if backend in tried:
        detail = "already tried" if view.health.serves else f"tried: {view.message}"
        return Rejection(backend, Limit.TRIED, detail)
    if wanted and backend not in wanted and view.health.serves:
        return Rejection(backend, Limit.NOT_TARGET, f"is not {request.annotations.target}")
    return check_fitness(view, request) or check_power(view.spec, request.annotations.max_power_watts)


def check_fitness(view: BackendView, request: RoutingRequest) -> Rejection | None:
    """The limits that follow from the backend and the kind of request alone: health, model, capabilities."""
    if not view.health.serves:
        return Rejection(view.spec.id, Limit.UNHEALTHY, view.message or view.health.value)
    return check_ability(view, request)


def check_ability(view: BackendView, request: RoutingRequest) -> Rejection | None:
    """Of these limits, those that hold however the backend fares just now: model, capabilities."""
    return _check_model(view, request) or _check_capability(view, request)


def check_kept_out(view: BackendView, model_there: str) -> Rejection | None:
    """Whether the backend has failed requests for a model of late, so that only so many may go there as it is tried."""
    kept = view.kept_out.get(model_there)
    if kept is None or view.in_flight < kept.most:
        return None
    return Rejection(view.spec.id, Limit.KEPT_OUT, kept.why)


def _check_model(view: BackendView, request: RoutingRequest) -> Rejection | None:
    spec = view.spec
    if spec.stand_in_model:
        return None
    facts = find_model(view, request.model)
    if facts is None:
        return Rejection(spec.id, Limit.MODEL_MISSING, f"has no model {request.requested_model[:100]}")
    pattern = _excluding_pattern(spec.supported_patterns, spec.excluded_patterns, request.model)
    if pattern is not None:
        return Rejection(spec.id, Limit.MODEL_EXCLUDED, pattern)
    if spec.max_model_size_gb and facts.size_bytes > spec.max_model_size_gb * 1e9:
        detail = f"model has {facts.size_bytes / 1e9:.1f} GB, limit {spec.max_model_size_gb:g} GB"
        return Rejection(spec.id, Limit.MODEL_TOO_LARGE, detail)
    if spec.memory_gb and facts.size_bytes > spec.memory_gb * 1e9:
        detail = f"model has {facts.size_bytes / 1e9:.1f} GB, memory {spec.memory_gb:g} GB"
        return Rejection(spec.id, Limit.MEMORY, detail)
    return None


def find_model(view: BackendView, model: str) -> ModelFacts | None:
    """The model there; a server that has no list, once it answers, is taken to have any."""
    if view.models is None:
        there = view.spec.model_names.get(model, "")
        return ModelFacts(model, there=there) if view.spec.kind in _LISTLESS_KINDS else None
    return view.models.get(model)


def name_resident(view: BackendView, model: str) -> str:
    """The canonical name there of a model that the backend has, under which what is learned of it is kept."""
    if not view.kept_out:
        return model
    facts = find_model(view, model)
    return canonical_model(facts.there) if facts is not None and facts.there else model


@lru_cache(maxsize=4096)
def _excluding_pattern(supported: tuple[str, ...], excluded: tuple[str, ...], model: str) -> str | None:
    """Why the patterns keep a model away; a name that is listed in full is let in whatever the exclusions say."""
    if any("*" not in name and "?" not in name and canonical_model(name) == model for name in supported):
        return None
    for pattern in excluded:
        if matches_pattern(model, pattern):
            return f"excluded by pattern {pattern}"
    if supported and not any(matches_pattern(model, pattern) for pattern in supported):
        return "no supported pattern matches"
    return None


def _check_capability(view: BackendView, request: RoutingRequest) -> Rejection | None:
    if request.needs <= view.capabilities:
        return None
    missing = ", ".join(sorted(need.value for need in request.needs - view.capabilities))
    return Rejection(view.spec.id, Limit.CAPABILITY, f"cannot do: {missing}")


def check_power(spec: BackendSpec, limit_watts: float) -> Rejection | None:
    """The power limit, against the draw under load. A backend whose draw nobody knows cannot promise to keep it."""
    if not limit_watts:
        return None
    watts = spec.power_watts
    if not watts:
        return Rejection(spec.id, Limit.POWER, f"power draw unknown, limit {limit_watts:g} W")
    if watts > limit_watts:
        return Rejection(spec.id, Limit.POWER, f"draws {watts:.1f} W, limit {limit_watts:g} W")
    return None


def check_system_power(view: BackendView, fleet: FleetView, limit_watts: float) -> Rejection | None:
    """The power limit of a request that means the whole system: what works now, and this backend beside it."""
    others_w = draw_of_others(view, fleet)
    if not limit_watts or others_w + view.spec.power_watts <= limit_watts:
        return None
    own_w = view.spec.power_watts
    detail = f"others draw {others_w:.1f} W; with its {own_w:.1f} W the system is over the limit {limit_watts:g} W"
    return Rejection(view.spec.id, Limit.POWER_NOW, detail)


def draw_of_others(view: BackendView, fleet: FleetView) -> float:
    """Watts of all other backends that have something to do."""
    return sum(other.spec.power_watts for other in fleet.backends if other.in_flight and other is not view)


def check_power_set(spec: BackendSpec, prefill_s: float, power_set: PowerSet) -> Rejection | None:
    """Mode Quiet and the system's power cap, as the set of those that may run together."""
    backend, quiet_w = spec.id, power_set.quiet_watts
    if backend not in power_set.active and 0 < quiet_w < spec.power_watts:
        detail = f"draws {spec.power_watts:.1f} W, and mode Quiet leaves alone what draws more than {quiet_w:g} W"
        return Rejection(backend, Limit.SYSTEM_POWER, detail)
    if backend not in power_set.active and not power_set.cap_watts:
        return Rejection(
            backend, Limit.SYSTEM_POWER, "has come back a moment ago, and is taken into account in a second"
        )
    if backend not in power_set.active:
        detail = f"not among those that may run together within {power_set.cap_watts:g} W"
        return Rejection(backend, Limit.SYSTEM_POWER, detail)
    if backend in power_set.brief and prefill_s > BRIEF_S:
        detail = f"would exceed {power_set.cap_watts:g} W together for the {prefill_s:.1f} s of reading the prompt"
        return Rejection(backend, Limit.SYSTEM_POWER, detail)
    return None

"""The hard limits: each drops a backend with one named reason, on every attempt."""

from __future__ import annotations

from functools import lru_cache

from ollama_proxy.domain.decision import Limit, Rejection, RoutingRequest
from ollama_proxy.domain.device import BackendSpec, BackendView, ModelFacts
from ollama_proxy.domain.names import canonical_model, matches_pattern


def check_limits(
    view: BackendView, request: RoutingRequest, tried: frozenset[str], wanted: frozenset[str]
) -> Rejection | None:
    """The first limit that a backend fails, or None. The latency limit is checked where its prediction is.

    `wanted` are the ids that the target means; empty when the choice is free.
    """
    if view.spec.id in tried:
        detail = "already tried" if view.health.serves else f"tried: {view.message}"
        return Rejection(view.spec.id, Limit.TRIED, detail)
    if not view.health.serves:
        return Rejection(view.spec.id, Limit.UNHEALTHY, view.message or view.health.value)
    if wanted and view.spec.id not in wanted:
        return Rejection(view.spec.id, Limit.NOT_TARGET, f"is not {request.annotations.target}")
    return _check_model(view, request) or _check_capability(view, request) or check_power(view, request)


def _check_model(view: BackendView, request: RoutingRequest) -> Rejection | None:
    spec = view.spec
    if spec.stand_in_model:
        return None
    facts = find_model(view, request.model)
    if facts is None:
        return Rejection(spec.id, Limit.MODEL_MISSING, f"has no model {request.requested_model[:100]}")
    pattern = _excluding_pattern(spec, request.model)
    if pattern is not None:
        return Rejection(spec.id, Limit.MODEL_EXCLUDED, pattern)
    if spec.max_model_size_gb and facts.size_bytes > spec.max_model_size_gb * 1e9:
        detail = f"model has {facts.size_bytes / 1e9:.1f} GB, limit {spec.max_model_size_gb:g} GB"
        return Rejection(spec.id, Limit.MODEL_TOO_LARGE, detail)
    return None


def find_model(view: BackendView, model: str) -> ModelFacts | None:
    """The model there; a server that has no list, once it answers, is taken to have any."""
    if view.models is None:
        return ModelFacts(model) if view.spec.kind == "openai" else None
    return view.models.get(model)


@lru_cache(maxsize=4096)
def _excluding_pattern(spec: BackendSpec, model: str) -> str | None:
    """Why the patterns keep a model away; a name that is listed in full is let in whatever the exclusions say."""
    if any("*" not in name and "?" not in name and canonical_model(name) == model for name in spec.supported_patterns):
        return None
    for pattern in spec.excluded_patterns:
        if matches_pattern(model, pattern):
            return f"excluded by pattern {pattern}"
    if spec.supported_patterns and not any(matches_pattern(model, pattern) for pattern in spec.supported_patterns):
        return "no supported pattern matches"
    return None


def _check_capability(view: BackendView, request: RoutingRequest) -> Rejection | None:
    if request.needs <= view.capabilities:
        return None
    missing = ", ".join(sorted(need.value for need in request.needs - view.capabilities))
    return Rejection(view.spec.id, Limit.CAPABILITY, f"cannot do: {missing}")


def check_power(view: BackendView, request: RoutingRequest) -> Rejection | None:
    """The power limit, against the draw under load. A backend whose draw nobody knows cannot promise to keep it."""
    limit = request.annotations.max_power_watts
    if not limit:
        return None
    watts = view.spec.power_watts
    if not watts:
        return Rejection(view.spec.id, Limit.POWER, f"power draw unknown, limit {limit:g} W")
    if watts > limit:
        return Rejection(view.spec.id, Limit.POWER, f"draws {watts:.1f} W, limit {limit:g} W")
    return None


def check_latency(backend: str, latency_ms: int, request: RoutingRequest) -> Rejection | None:
    """The latency limit, against the predicted time to the first token."""
    limit = request.annotations.max_latency_ms
    if not limit or latency_ms <= limit:
        return None
    return Rejection(backend, Limit.LATENCY, f"predicted {latency_ms} ms to the first token, limit {limit} ms")

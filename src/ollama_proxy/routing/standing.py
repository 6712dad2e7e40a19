"""What a backend is worth to one kind of request, remembered with the view it follows from.

Between two decisions most backends have not changed. What their views say of a kind of request is therefore reckoned
once a view and kept in the view's `__dict__`; it goes when the view does, so it cannot be out of date.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Any

from ollama_proxy.domain.decision import Candidate, Estimate, Policy, Rejection, RoutingRequest
from ollama_proxy.domain.device import BackendView
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.routing.limits import check_fitness, check_power
from ollama_proxy.routing.prediction import EXPECTED_OUTPUT_TOKENS, predict

#: Kinds of request remembered for one view; clients make names of models up.
_MOST_KINDS = 128

Kind = tuple[object, ...]
#: Cost, then residency, preference, default, sooner first token, lower draw, load, priority, hash, id.
Tail = tuple[bool, bool, bool, float, float, int, int, int, str]
#: Cost, all that decides between equals, the candidate, the name of the model there, whether it is a stand-in's.
Ranked = tuple[float, Tail, Candidate, str, bool]


class Standing:
    """One view against one kind of request: its fitness, the estimate, its place among equals.

    It must not hold the view that holds it.
    """

    __slots__ = (
        "_limit_watts",
        "_model",
        "_over",
        "_price_w",
        "_ranked",
        "_spec",
        "_tail",
        "_unfit",
        "estimate",
        "policy",
        "stands_in",
    )

    def __init__(self, view: BackendView, request: RoutingRequest, policy: Policy) -> None:
        self._spec = view.spec
        self.policy = policy
        self._unfit = check_fitness(view, request)
        self._limit_watts = 0.0
        self._over: Rejection | None = None
        self.estimate = predict(view, request)
        self._tail = _tail(self.estimate, view, request, policy)
        #: Whether it would answer with another model than the one asked for.
        self.stands_in = bool(view.spec.stand_in_model) and request.model not in (view.models or {})
        self._model = view.spec.stand_in_model if self.stands_in else _name_there(view, request)
        self._price_w = -1.0
        self._ranked: Ranked | None = None

    def check(self, limit_watts: float) -> Rejection | None:
        """The first limit that it fails, a power limit (0 for none) included."""
        if self._limit_watts != limit_watts:
            self._limit_watts = limit_watts
            self._over = check_power(self._spec, limit_watts)
        return self._unfit or self._over

    def rank(self, seconds_price_w: float) -> Ranked:
        """Cost in joules with seconds at that price, and all that decides between equals."""
        if self._price_w != seconds_price_w or self._ranked is None:
            estimate = self.estimate
            cost_j = estimate.joules + seconds_price_w * estimate.e2e_s
            self._ranked = (
                round(cost_j, 6),
                self._tail,
                Candidate(self._spec.id, estimate, cost_j),
                self._model,
                self.stands_in,
            )
            self._price_w = seconds_price_w
        return self._ranked


def kind_of(request: RoutingRequest) -> Kind:
    """What two requests must have in common to stand alike with everybody."""
    tokens = 0 if request.embed else min(request.max_tokens or EXPECTED_OUTPUT_TOKENS, EXPECTED_OUTPUT_TOKENS)
    return (request.model, request.requested_model, request.needs, tokens)


def reckon(view: BackendView, request: RoutingRequest, policy: Policy, kind: Kind) -> Standing:
    """How a view stands, and remember it."""
    standings: dict[Any, Standing] = view.__dict__
    if len(standings) >= _MOST_KINDS:
        standings.clear()
    standing = standings[kind] = Standing(view, request, policy)
    return standing


def _name_there(view: BackendView, request: RoutingRequest) -> str:
    """The name to ask for. Ollama takes any spelling and echoes it; other servers compare letters."""
    if view.spec.kind == "ollama" or view.models is None:
        return request.requested_model
    facts = view.models.get(request.model)
    return request.requested_model if facts is None else facts.name


def _tail(estimate: Estimate, view: BackendView, request: RoutingRequest, policy: Policy) -> Tail:
    """The order among candidates of the same cost; the hash at its end favours nobody's name."""
    spec = view.spec
    return (
        request.model not in view.loaded,
        not (spec.preferred_models and _is_preferred(spec.preferred_models, request.model)),
        spec.id != policy.default_backend,
        estimate.ttft_s if policy.auto_optimize_latency else 0.0,
        spec.power_watts if policy.power_aware else 0.0,
        view.in_flight,
        -spec.priority,
        _hash_of(spec.id),
        spec.id,
    )


@lru_cache(maxsize=1024)
def _hash_of(backend: str) -> int:
    return zlib.crc32(backend.encode())


@lru_cache(maxsize=1024)
def _is_preferred(preferred: tuple[str, ...], model: str) -> bool:
    return any(canonical_model(name) == model for name in preferred)

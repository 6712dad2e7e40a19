"""What a backend is worth to one kind of request, remembered with the view it follows from.

Between two decisions most backends have not changed. What their views say of a kind of request is therefore reckoned
once a view and kept in the view's `__dict__`; it goes when the view does, so it cannot be out of date.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Any

from ollama_proxy.domain.call import Need
from ollama_proxy.domain.decision import Candidate, Estimate, Policy, Rejection, RoutingRequest
from ollama_proxy.domain.device import BackendView
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.routing.limits import check_fitness, check_power
from ollama_proxy.routing.prediction import expect_tokens, predict

#: Kinds of request remembered for one view; clients make names of models up.
_MOST_KINDS = 128

#: What fitness depends on: the model as looked up and as asked for, and the needs.
Subject = tuple[str, str, frozenset[Need]]
#: A subject and the tokens that are reckoned with.
Kind = tuple[Subject, int]
#: Cost, then residency, preference, default, sooner first token, lower draw, load, priority, hash, id.
Tail = tuple[bool, bool, bool, float, float, int, int, int, str]
#: Cost, all that decides between equals, the candidate, the name of the model there, whether it is a stand-in's.
Ranked = tuple[float, Tail, Candidate, str, bool]


class Fitness:
    """What follows from a backend's health, models and capabilities alone: it outlasts changes of load and speed.

    Whoever uses it again proves by identity that it was made of the same facts.
    """

    __slots__ = ("_facts", "model", "stands_in", "unfit")

    def __init__(self, view: BackendView, request: RoutingRequest) -> None:
        spec = view.spec
        self._facts = (spec, view.health, view.models, view.capabilities)
        self.unfit = check_fitness(view, request)
        #: Whether it would answer with another model than the one asked for.
        self.stands_in = bool(spec.stand_in_model) and request.model not in (view.models or {})
        self.model = spec.stand_in_model if self.stands_in else _name_there(view, request)

    def holds(self, view: BackendView) -> bool:
        """Whether it was made of a view with the same facts."""
        spec, health, models, capabilities = self._facts
        return (
            models is view.models
            and health is view.health
            and spec is view.spec
            and capabilities is view.capabilities
            # What a health check says, its message included, is new with every failure.
            and self.unfit is None
        )


class Standing:
    """One view against one kind of request: its fitness, the estimate, its place among equals.

    It must not hold the view that holds it.
    """

    __slots__ = (
        "_limit_watts",
        "_model",
        "_over",
        "_spec",
        "_tail",
        "_unfit",
        "easy",
        "estimate",
        "policy",
        "price_w",
        "ranked",
        "stands_in",
    )

    def __init__(self, view: BackendView, request: RoutingRequest, policy: Policy, kind: Kind) -> None:
        self._spec = view.spec
        self.policy = policy
        fitness = _find_fitness(view, request, kind[0])
        self._unfit = fitness.unfit
        self.stands_in = fitness.stands_in
        self._model = fitness.model
        #: Whether nothing but a wish of the request itself can keep it out.
        self.easy = fitness.unfit is None and not fitness.stands_in
        self._limit_watts = 0.0
        self._over: Rejection | None = None
        self.estimate = predict(view, request)
        self._tail = _tail(self.estimate, view, request, policy)
        #: The price of a second that `ranked` was made with.
        self.price_w = -1.0
        self.ranked: Ranked | None = None

    def check(self, limit_watts: float) -> Rejection | None:
        """The first limit that it fails, a power limit (0 for none) included."""
        if self._limit_watts != limit_watts:
            self._limit_watts = limit_watts
            self._over = check_power(self._spec, limit_watts)
        return self._unfit or self._over

    def rank(self, seconds_price_w: float) -> Ranked:
        """Cost in joules with seconds at that price, and all that decides between equals."""
        estimate = self.estimate
        cost_j = estimate.joules + seconds_price_w * estimate.e2e_s
        candidate = Candidate(self._spec.id, estimate, cost_j)
        self.price_w = seconds_price_w
        self.ranked = ranked = (round(cost_j, 6), self._tail, candidate, self._model, self.stands_in)
        return ranked


def kind_of(request: RoutingRequest) -> Kind:
    """What two requests must have in common to stand alike with everybody."""
    return (request.model, request.requested_model, request.needs), expect_tokens(request)


def reckon(view: BackendView, request: RoutingRequest, policy: Policy, kind: Kind) -> Standing:
    """How a view stands, and remember it."""
    standings: dict[Any, Standing] = view.__dict__
    if len(standings) >= _MOST_KINDS:
        standings.clear()
    standing = standings[kind] = Standing(view, request, policy, kind)
    return standing


def _find_fitness(view: BackendView, request: RoutingRequest, subject: Subject) -> Fitness:
    memory: dict[Any, Fitness] = view.memory
    fitness = memory.get(subject)
    if fitness is None or not fitness.holds(view):
        if len(memory) >= _MOST_KINDS:
            memory.clear()
        fitness = memory[subject] = Fitness(view, request)
    return fitness


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

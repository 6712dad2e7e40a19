"""What a backend is worth to one kind of request, remembered with the view it follows from.

Between two decisions most backends have not changed. What their views say of a kind of request is therefore reckoned
once a view and kept in the view's `__dict__`; it goes when the view does, so it cannot be out of date.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Any

from ollama_proxy.domain.call import Need
from ollama_proxy.domain.decision import Candidate, Policy, Rejection, RoutingRequest
from ollama_proxy.domain.device import BackendView
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.routing.limits import check_fitness, check_power, find_model
from ollama_proxy.routing.prediction import expect_tokens, predict

#: Kinds of request remembered for one view; clients make names of models up.
_MOST_KINDS = 128

#: What fitness depends on: the model as looked up and as asked for, and the needs.
Subject = tuple[str, str, frozenset[Need]]
#: A subject, the tokens that are reckoned with, and the price of a second in watts.
Kind = tuple[Subject, int, float]
#: Residency, preference, default, sooner first token, lower draw, load, priority, hash, id.
Tail = tuple[bool, bool, bool, float, float, int, int, int, str]


class Fitness:
    """What follows from a backend's health, models and capabilities alone: it outlasts changes of load and speed.

    Whoever uses it again proves by identity that it was made of the same facts.
    """

    __slots__ = ("_facts", "easy", "model", "resident", "stands_in", "unfit")

    def __init__(self, view: BackendView, request: RoutingRequest) -> None:
        spec = view.spec
        self._facts = (spec, view.health, view.models, view.capabilities)
        self.unfit = check_fitness(view, request)
        #: Whether it would answer with another model than the one asked for.
        self.stands_in = bool(spec.stand_in_model) and request.model not in (view.models or {})
        self.model = spec.stand_in_model if self.stands_in else _name_there(view, request)
        there = spec.stand_in_model if self.stands_in else _renamed(view, request)
        #: Under which the backend's rates and its residents are kept.
        self.resident = canonical_model(there) if there else request.model
        self.easy = self.unfit is None and not self.stands_in

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

    Standings of one decision are ordered by what decides between equal costs. One must not hold the view that holds it.
    """

    __slots__ = (
        "_limit_watts",
        "_load",
        "_loaded",
        "_model_there",
        "_over",
        "_request_model",
        "_spec",
        "_tail",
        "_unfit",
        "candidate",
        "cost_j",
        "easy",
        "estimate",
        "model",
        "policy",
        "stands_in",
    )

    def __init__(self, view: BackendView, request: RoutingRequest, policy: Policy, kind: Kind) -> None:
        self._spec = view.spec
        self._loaded = view.loaded
        self._load = view.in_flight
        self._request_model = request.model
        self.policy = policy
        fitness = view.memory.get(kind[0])
        if fitness is None or not fitness.holds(view):
            fitness = _reckon_fitness(view, request, kind[0])
        self._unfit = fitness.unfit
        self.stands_in = fitness.stands_in
        self.model = fitness.model
        #: Whether nothing but a wish of the request itself can keep it out.
        self.easy = fitness.easy
        self._limit_watts = 0.0
        self._over: Rejection | None = None
        self._tail: Tail | None = None
        self._model_there = fitness.resident
        self.estimate = estimate = predict(view, request, fitness.resident)
        cost_j = estimate.joules + kind[2] * estimate.e2e_s
        self.candidate = Candidate(view.spec.id, estimate, cost_j)
        #: In joules; so far rounded that equal sums are equal in whatever order they were added.
        self.cost_j = round(cost_j, 6)

    def __lt__(self, other: Standing) -> bool:
        """Which of two of the same cost goes first; reckoned when it is first asked."""
        return (self._tail or self._reckon_tail()) < (other._tail or other._reckon_tail())

    def check(self, limit_watts: float) -> Rejection | None:
        """The first limit that it fails, a power limit (0 for none) included."""
        if self._limit_watts != limit_watts:
            self._limit_watts = limit_watts
            self._over = check_power(self._spec, limit_watts)
        return self._unfit or self._over

    def _reckon_tail(self) -> Tail:
        """What decides among candidates of the same cost; the hash at its end favours nobody's name."""
        spec, policy, estimate = self._spec, self.policy, self.estimate
        self._tail = (
            self._model_there not in self._loaded,
            not (spec.preferred_models and _is_preferred(spec.preferred_models, self._request_model)),
            spec.id != policy.default_backend,
            estimate.ttft_s if policy.auto_optimize_latency else 0.0,
            spec.power_watts if policy.power_aware else 0.0,
            self._load,
            -spec.priority,
            _hash_of(spec.id),
            spec.id,
        )
        return self._tail


#: Cost, and whose it is.
Ranked = tuple[float, Standing]


def kind_of(request: RoutingRequest, seconds_price_w: float) -> Kind:
    """What two requests must have in common to stand alike with everybody."""
    return (request.model, request.requested_model, request.needs), expect_tokens(request), seconds_price_w


def reckon(view: BackendView, request: RoutingRequest, policy: Policy, kind: Kind) -> Standing:
    """How a view stands, and remember it."""
    standings: dict[Any, Standing] = view.__dict__
    if len(standings) >= _MOST_KINDS:
        standings.clear()
    standing = standings[kind] = Standing(view, request, policy, kind)
    return standing


def _reckon_fitness(view: BackendView, request: RoutingRequest, subject: Subject) -> Fitness:
    memory: dict[Any, Fitness] = view.memory
    if len(memory) >= _MOST_KINDS:
        memory.clear()
    fitness = memory[subject] = Fitness(view, request)
    return fitness


def _name_there(view: BackendView, request: RoutingRequest) -> str:
    """The name to ask for. Ollama takes any spelling and echoes it; other servers compare letters."""
    there = _renamed(view, request)
    if there:
        return there
    facts = view.models.get(request.model) if view.models is not None else None
    return request.requested_model if facts is None or view.spec.kind == "ollama" else facts.name


def _renamed(view: BackendView, request: RoutingRequest) -> str:
    """What the backend calls the model, where the configuration says so."""
    facts = find_model(view, request.model)
    return facts.there if facts is not None else ""


@lru_cache(maxsize=1024)
def _hash_of(backend: str) -> int:
    return zlib.crc32(backend.encode())


@lru_cache(maxsize=1024)
def _is_preferred(preferred: tuple[str, ...], model: str) -> bool:
    return any(canonical_model(name) == model for name in preferred)

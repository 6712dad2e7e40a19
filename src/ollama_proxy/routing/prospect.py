"""What a backend promises one kind of request: fitness and speeds, remembered with the view they follow from.

Between two decisions most backends have not changed. What their views say of a kind of request is therefore reckoned
once a view and kept in the view's `__dict__`; it goes when the view does, so it cannot be out of date. What depends on
the single request (lengths, the wait, the price of a second) is a few multiplications in `decide`.
"""

from __future__ import annotations

import math
import zlib
from functools import lru_cache
from typing import Any

from ollama_proxy.domain.call import Need
from ollama_proxy.domain.decision import Policy, Rejection, RoutingRequest
from ollama_proxy.domain.device import BackendView, Rates
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.routing.limits import check_fitness, check_kept_out, check_power, find_model
from ollama_proxy.routing.neighbours import draw_longer
from ollama_proxy.routing.prompt_limits import find_limits
from ollama_proxy.routing.room import make_room
from ollama_proxy.routing.speeds import Speeds, reckon_busy_share, reckon_speeds

#: Kinds of request remembered for one view; clients make names of models up.
_MOST_KINDS = 128

#: A kind of request: the model as looked up and as asked for, and the needs.
Subject = tuple[str, str, frozenset[Need]]
#: Residency, preference, default, sooner first token, lower draw, load, priority, hash, id.
Tail = tuple[bool, bool, bool, float, float, int, int, int, str]


class Fitness:
    """What follows from a backend's health, models and capabilities alone: it outlasts changes of load and speed.

    Whoever uses it again proves by identity that it was made of the same facts.
    """

    __slots__ = (
        "_facts",
        "_load_factor",
        "_loaded",
        "_rates",
        "_speeds",
        "context_tokens",
        "easy",
        "model",
        "resident",
        "size_bytes",
        "stands_in",
        "unfit",
    )

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
        facts = find_model(view, request.model)
        self.size_bytes = facts.size_bytes if facts is not None else 0
        #: Of the model that would answer; 0 where it is not told.
        self.context_tokens = facts.context_length if facts is not None and not self.stands_in else 0
        self.easy = self.unfit is None and not self.stands_in
        self._rates: Rates | None = None
        self._loaded: frozenset[str] = frozenset()
        self._load_factor = 1.0
        self._speeds: Speeds | None = None

    def expect_speeds(self, view: BackendView) -> Speeds:
        """What is to be expected of a view that it holds of; reckoned when what was learned or is in memory changes."""
        rates, speeds = view.rates.get(self.resident), self._speeds
        if (
            speeds is None
            or rates is not self._rates
            or view.loaded is not self._loaded
            or view.load_factor != self._load_factor
        ):
            self._rates, self._loaded, self._load_factor = rates, view.loaded, view.load_factor
            speeds = self._speeds = reckon_speeds(view, self.resident, self.size_bytes)
        return speeds

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


class Prospect:
    """One view against one kind of request: its fitness, its speeds, its place among equals.

    One must not hold the view that holds it.
    """

    __slots__ = (
        "_limit_watts",
        "_loaded",
        "_model_there",
        "_over",
        "_request_model",
        "backend",
        "burden_j",
        "busy_share",
        "crowding",
        "decode_var",
        "easy",
        "evicted",
        "fixed_j",
        "full",
        "has_known_joules",
        "heat",
        "load",
        "load_joules",
        "load_s",
        "model",
        "output_token_j",
        "overhead_s",
        "parallel_exponent",
        "policy",
        "prompt_limits",
        "prompt_token_j",
        "s_per_output_token",
        "s_per_prompt_token",
        "spec",
        "stands_in",
        "tail",
        "ttft_var",
        "turns_ahead",
        "unfit",
        "watts",
    )

    def __init__(self, view: BackendView, request: RoutingRequest, subject: Subject) -> None:
        self.spec = spec = view.spec
        self.heat = view.heat
        self.backend = spec.id
        self._loaded = view.loaded
        self.load = load = view.in_flight
        self._request_model = request.model
        fitness = view.memory.get(subject)
        if fitness is None or not fitness.holds(view):
            fitness = _reckon_fitness(view, request, subject)
        self.unfit = fitness.unfit
        self.stands_in = fitness.stands_in
        self.model = fitness.model
        #: How long a prompt may be, where anything is known of it.
        self.prompt_limits = find_limits(view, fitness.resident, fitness.context_tokens, request.needs)
        #: Whether nothing but a wish of the request itself can keep it out.
        self.easy = fitness.easy and self.prompt_limits is None
        self._limit_watts = 0.0
        self._over: Rejection | None = None
        self.policy: Policy | None = None
        self.tail: Tail | None = None
        #: What its neighbours lose by the request, in joules with their seconds priced.
        self.burden_j = 0.0
        self._model_there = fitness.resident
        speeds: Speeds = fitness.expect_speeds(view)
        self.overhead_s = speeds.overhead_s
        self.s_per_prompt_token = speeds.s_per_prompt_token
        self.s_per_output_token = speeds.s_per_output_token
        self.load_s, self.load_joules = speeds.load_s, speeds.load_joules
        #: Models that have to go before this one can be loaded.
        self.evicted = self._make_room(view, fitness) if spec.memory_gb and self.load_s else ()
        if view.kept_out and self.unfit is None:
            self.unfit = check_kept_out(view, fitness.resident)
            self.easy = self.easy and self.unfit is None
        if view.asleep:
            self.load_s += spec.wake_seconds
            self.load_joules += spec.wake_joules
        self.fixed_j, self.watts = speeds.fixed_j, spec.power_watts
        self.prompt_token_j, self.output_token_j = speeds.prompt_token_j, speeds.output_token_j
        #: Whether they rest on a configured draw or a meter, and not on what is taken for want of either.
        rates = view.rates.get(fitness.resident)
        self.has_known_joules = bool(spec.power_watts) or (rates is not None and rates.decode_j is not None)
        self.ttft_var, self.decode_var = speeds.ttft_var, speeds.decode_var
        self.parallel_exponent = speeds.parallel_exponent
        #: No slot is free. How many rounds of all slots are ahead, for views that come without a count of the wait.
        self.full = load >= spec.slots
        self.turns_ahead = (load - spec.slots + 1) / spec.slots if self.full else 0.0
        if self.evicted and load and not self.full:
            # A model that is in use goes when it is not: when requests like this one have ended.
            self.turns_ahead = 1.0
        together = min(load + 1, spec.slots)
        if together == 1:
            self.crowding = self.busy_share = 1.0
        else:
            self._crowd(together, speeds)

    def _crowd(self, together: int, speeds: Speeds) -> None:
        # k at once get k^beta done: each is slower by k^(1 - beta).
        exponent = speeds.parallel_exponent
        self.crowding = together ** (1 - exponent)
        self.busy_share = reckon_busy_share(together, exponent)
        if speeds.parallel_var:
            by_exponent = math.log(together)
            doubt = by_exponent * (2 * speeds.parallel_cov + by_exponent * speeds.parallel_var)
            self.decode_var = max(0.0, self.decode_var + doubt)

    def _make_room(self, view: BackendView, fitness: Fitness) -> tuple[str, ...]:
        """Count what loading costs those that are in memory; who has to go."""
        room = make_room(view, fitness.resident, fitness.size_bytes)
        self.load_joules += room.joules
        if room.rejection is not None and self.unfit is None:
            self.unfit, self.easy = room.rejection, False
        return room.evicted

    @property
    def is_fit(self) -> bool:
        """Whether it can be sent requests of this kind, if they are not too long."""
        return self.unfit is None and not self.stands_in

    def expect_joules(self, prompt_tokens: float, output_tokens: float) -> float:
        """Marginal joules of a request of so many tokens; `decide` reckons so too, without the call."""
        each_j = self.fixed_j + prompt_tokens * self.prompt_token_j + output_tokens * self.output_token_j
        return self.load_joules + each_j * self.busy_share

    def stand_beside(self, stretch: float, burden_j: float) -> Prospect:
        """The same while neighbours make each token take `stretch` times as long, at what that costs them."""
        one = self.slow_down(1.0, stretch)
        one.output_token_j *= draw_longer(stretch)
        one.burden_j = burden_j
        return one

    def slow_down(self, reading: float, writing: float) -> Prospect:
        """The same where a token of the prompt and one of the answer take so many times as long."""
        one = Prospect.__new__(Prospect)
        for name in Prospect.__slots__:
            setattr(one, name, getattr(self, name))
        one.overhead_s *= reading
        one.s_per_prompt_token *= reading
        one.s_per_output_token *= writing
        return one

    def stand_under(self, policy: Policy) -> None:
        """Compare by a policy's tie-breakers from now on."""
        self.policy = policy
        self.tail = None

    def reckon_tail(self) -> Tail:
        """What decides among candidates of the same cost; the hash at its end favours nobody's name."""
        spec, policy = self.spec, self.policy
        assert policy is not None
        self.tail = (
            self._model_there not in self._loaded,
            not (spec.preferred_models and _is_preferred(spec.preferred_models, self._request_model)),
            spec.id != policy.default_backend,
            self.overhead_s if policy.auto_optimize_latency else 0.0,
            spec.power_watts if policy.power_aware else 0.0,
            self.load,
            -spec.priority,
            _hash_of(spec.id),
            spec.id,
        )
        return self.tail

    def check(self, limit_watts: float) -> Rejection | None:
        """The first limit that it fails, a power limit (0 for none) included."""
        if self._limit_watts != limit_watts:
            self._limit_watts = limit_watts
            self._over = check_power(self.spec, limit_watts)
        return self.unfit or self._over


def subject_of(request: RoutingRequest) -> Subject:
    """What two requests must have in common to be of a kind."""
    return request.model, request.requested_model, request.needs


def look_ahead(view: BackendView, request: RoutingRequest, subject: Subject) -> Prospect:
    """The prospect of a view, remembered with it."""
    prospects: dict[Any, Prospect] = view.__dict__
    prospect = prospects.get(subject)
    if prospect is None:
        if len(prospects) >= _MOST_KINDS:
            prospects.clear()
        prospect = prospects[subject] = Prospect(view, request, subject)
    return prospect


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

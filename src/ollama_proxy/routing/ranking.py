"""The ranking of a large fleet: the best are settled at once, the others when somebody looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module
from typing import Any, Protocol, overload

from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.decision import MOST_ALTERNATIVES, Policy, Rejection, RoutingRequest, Scored
from ollama_proxy.domain.device import FleetView

#: The loop of `decide`: those of a fleet that pass all limits, best first, and why the others do not.
Loop = Callable[[FleetView], tuple[list[Scored], list[Rejection]]]
#: What is shown with every answer: the winner and the alternatives.
_HEAD = 1 + MOST_ALTERNATIVES


class Sieve(Protocol):
    """Which few backends can be the best of all (`routing.many`)."""

    @property
    def fit(self) -> int:
        """How many backends pass all limits."""

    @property
    def least_first_ms(self) -> tuple[int, int]:
        """Between which two the soonest first token of them is, for a request to which latency is critical."""

    def places_of_best(self, wanted: int) -> list[int]:
        """Places in the fleet among which the best `wanted` are, in no order."""


def first_ms_of(scored: Scored) -> int:
    """Predicted time to the first token, the wait included."""
    first_s: float = scored[2] + scored[1].load_s + scored[3]
    return round(first_s * 1000)


class LargeRanking(Sequence[Scored]):
    """The ranking that the loop would give, of which only as much is reckoned as is looked at."""

    __slots__ = ("_all", "_count", "_fleet", "_head", "_least_first_ms", "_loop", "_rejections", "_sieve")

    def __init__(self, sieve: Sieve, fleet: FleetView, loop: Loop) -> None:
        self._sieve: Sieve | None = sieve
        self._count, self._least_first_ms = sieve.fit, sieve.least_first_ms
        self._fleet = fleet
        self._loop = loop
        self._all: list[Scored] | None = None
        self._rejections: list[Rejection] = []
        self._head = self._settle(sieve, 1)

    def _settle(self, sieve: Sieve, wanted: int) -> list[Scored]:
        """The first of the ranking, in order."""
        fleet, places = self._fleet, sieve.places_of_best(wanted)
        backends, waits = fleet.backends, fleet.waits
        few = FleetView(
            fleet.version,
            tuple([backends[place] for place in places]),
            tuple([waits[place] for place in places]) if waits else (),
            beside=tuple([fleet.beside[place] for place in places]) if fleet.beside else (),
        )
        return self._loop(few)[0][:wanted]

    def _settle_all(self) -> list[Scored]:
        if self._all is None:
            self._all, self._rejections = self._loop(self._fleet)
            self._sieve = None
        return self._all

    @property
    def settled(self) -> bool:
        """Whether the sieve let anybody through; it does not where costs are no numbers."""
        return bool(self._head)

    def begins_soonest(self) -> bool:
        """Whether nobody has an earlier first token than the first, of those to choose from where latency is critical.

        Only where the soonest is told less exactly than to the millisecond has everybody to be looked at.
        """
        first_ms, (least_ms, most_ms) = first_ms_of(self[0]), self._least_first_ms
        return first_ms <= (least_ms if least_ms == most_ms else min(map(first_ms_of, self)))

    def tell_rejections(self) -> tuple[Rejection, ...]:
        """Every backend that was dropped, by name."""
        self._settle_all()
        return tuple(sorted(self._rejections, key=lambda one: one.backend))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Scored]:
        return iter(self._settle_all())

    @overload
    def __getitem__(self, index: int) -> Scored: ...
    @overload
    def __getitem__(self, index: slice) -> list[Scored]: ...
    def __getitem__(self, index: int | slice) -> Scored | list[Scored]:
        start, stop = (index.start or 0, index.stop) if isinstance(index, slice) else (index, index + 1)
        if self._all is not None or stop is None or not 0 <= start < stop <= _HEAD:
            return self._settle_all()[index]
        if stop > len(self._head) and self._sieve is not None:
            self._head = self._settle(self._sieve, min(_HEAD, self._count))
            self._sieve = None
        return self._head[index]


def is_free(wishes: Annotations, policy: Policy) -> bool:
    """Whether costs are compared, and nothing limits the choice but fitness and a backend's own draw.

    A target, a latency limit, the draw of the whole system and the wish for few joules are looked at for each backend.
    """
    limited = wishes.target or wishes.max_latency_ms or policy.power_set is not None
    systemic = wishes.max_power_watts and wishes.power_scope == "system"
    frugal = wishes.prefer_power_efficiency and not wishes.latency_critical
    return not (limited or systemic or frugal) and policy.rule == "predictive"


def rank_large(
    request: RoutingRequest, fleet: FleetView, policy: Policy, loop: Loop, answer_tokens: float, lambda_watts: float
) -> LargeRanking | None:
    """The ranking by the loop, for a request whose choice is free. None where the loop has to be asked itself: without
    numpy, where nobody is fit, where a prompt may be too long for somebody, where one may have to stand in for others.
    """
    many = _load_many()
    if many is None:
        return None
    sieve: Sieve = many.sift(request, fleet, policy, answer_tokens, lambda_watts)
    if not sieve.fit:
        return None
    ranking = LargeRanking(sieve, fleet, loop)
    return None if not ranking.settled or ranking[0][1].spec.stand_in_model else ranking


@cache
def _load_many() -> Any:
    """The module that needs numpy, which only large fleets are worth; None without it."""
    try:
        return import_module("ollama_proxy.routing.many")
    except ImportError:
        return None

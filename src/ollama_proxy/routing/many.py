"""A sieve for large fleets: arrays find the few backends that can come first, and the loop decides among those.

What `routing.prospect` promises of each backend is kept in columns, one table for each kind of request, and only what
has changed since the last decision is written anew; so a decision over a thousand backends is the product of a vector
and a matrix. Its sums are made in another order than those of the loop in `decide`, from which they differ by less than
`_SAME`. Nothing is decided here: too many may pass the sieve, never too few.

What is kept between decisions is checked by what the fleet wrote down of its changes, or by the identity of the views,
and changes no result. It holds on to the views of one fleet, the latest, and to the tables of a few kinds of request.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from ollama_proxy.domain.decision import Policy, RoutingRequest
from ollama_proxy.domain.device import BackendView, FleetView
from ollama_proxy.routing.prospect import Prospect, Subject, look_ahead, subject_of

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

#: Kinds of request whose tables are kept; one of a thousand backends takes about 0.1 MB.
_MOST_KINDS = 16
#: Tuples are compared in pieces of this size: by identity, in C, and looked into only where they differ.
_PIECE = 32
_NONE = (None,) * _PIECE
#: Costs further apart than this (joules) differ after rounding too, which is to the millionth.
_SAME_J = 2e-6
#: Share by which two ways to add up the same terms, of which none is negative, may differ: 3e-15 would do.
_SAME = 1e-13
#: So many more than are asked for are not worth narrowing down.
_FEW = 4

#: Rows of a table, three each: what a request takes, what each token of its prompt, and of its answer. The joules, the
#: seconds of service, and the seconds of the rounds of all slots that are ahead.
_SERVICE, _AHEAD, _ALL = slice(0, 6), slice(6, 9), slice(0, 9)
_SECONDS = slice(3, 9)
#: The draw; infinite where the request cannot be sent, or nobody knows.
_WATTS = 9
_TERMS = 10

#: Greatest values of the load, the priority and the hash that are told apart where one number holds all tie-breakers.
_LOADS, _PRIORITIES, _HASHES = 2**16, 2**12, 2**22
_HASHES_IN_ONE = 2**32 // _HASHES


class Passed:
    """What a decision's sieve saw; it can be asked again later, since nobody writes to these arrays any more."""

    __slots__ = ("_costs_j", "_ties", "fit", "least_first_ms")

    def __init__(self, costs_j: Floats, ties: Floats, fit: int, least_first_ms: tuple[int, int]) -> None:
        self._costs_j = costs_j
        self._ties = ties
        #: How many backends pass all limits.
        self.fit = fit
        #: Between which two the soonest first token of all of them is, for a request to which latency is critical.
        self.least_first_ms = least_first_ms

    def places_of_best(self, wanted: int) -> list[int]:
        """Places in the fleet among which the best `wanted` are, in no order; at most `fit`."""
        costs_j = self._costs_j
        border_j = _find_border(costs_j, wanted)
        near_j = _SAME_J + _SAME * border_j
        places: Places = (costs_j <= border_j + near_j).nonzero()[0]
        if len(places) > wanted + _FEW and border_j < np.inf:
            places = self._narrow(places, wanted, border_j - near_j)
        found: list[int] = places.tolist()
        return found

    def _narrow(self, places: Places, wanted: int, sure_j: float) -> Places:
        """Fewer places that still hold the best: by one tie-breaker after the other, where costs are equal."""
        sure: list[Places] = []
        values = self._costs_j[places]
        if wanted > 1:
            under = values < sure_j
            sure.append(places[under])
            wanted -= len(sure[0])
            places, values = places[~under], values[~under]
        if _is_one_when_rounded(values):
            for ties in self._ties:
                if len(places) <= wanted + _FEW:
                    break
                values = ties[places]
                border = _find_border(values, wanted)
                if wanted > 1:
                    sure.append(places[values < border])
                    wanted -= len(sure[-1])
                places = places[values == border]
        return np.concatenate((*sure, places)) if sure else places


def _find_border(values: Floats, wanted: int) -> float:
    """The greatest of so many of the least values."""
    border: float = values[values.argmin()] if wanted == 1 else np.partition(values, wanted - 1)[wanted - 1]
    return border


def _is_one_when_rounded(costs_j: Floats) -> bool:
    """Whether `decide`, which rounds costs that are close, takes all of these for equal."""
    least_j, most_j = float(costs_j[costs_j.argmin()]), float(costs_j[costs_j.argmax()])
    return round(least_j * (1 - _SAME), 6) == round(most_j * (1 + _SAME), 6)


class _Table:
    """One kind of request under one policy: what each backend promises it."""

    __slots__ = ("_fit", "_is_usual", "_limits", "fit", "least_limit", "policy", "stale", "terms", "ties")

    def __init__(self, size: int, policy: Policy) -> None:
        self.policy = policy
        self._is_usual = not (policy.power_aware or policy.auto_optimize_latency)
        self.terms = np.zeros((_TERMS, size))
        #: Tie-breakers in the order in which they are looked at; copied before they change.
        self.ties = np.zeros((1 if self._is_usual else 4, size))
        self._fit = [False] * size
        self.fit = 0
        #: Tokens from which on a prompt may be too long, or takes longer for heat, by place; and the least of them.
        self._limits: dict[int, float] = {}
        self.least_limit = np.inf
        #: Places that have changed since they were written here.
        self.stale = set(range(size))

    def write(self, backends: Sequence[BackendView], request: RoutingRequest, subject: Subject) -> None:
        """Bring the table up to date with these backends."""
        policy, fit, terms = self.policy, self._fit, self.terms
        self.ties = ties = self.ties.copy()
        for place in self.stale:
            one = look_ahead(backends[place], request, subject)
            if one.policy is not policy:
                one.stand_under(policy)
            is_fit, limits = one.is_fit, one.prompt_limits
            self.fit += is_fit - fit[place]
            fit[place] = is_fit
            if limits is not None or one.heat is not None or self._limits:
                least = limits.least_tokens if limits is not None else np.inf
                self._limits[place] = least if one.heat is None else 0.0
            terms[:, place] = _terms_of(one)
            in_turn = _ties_of(one)
            ties[:, place] = in_turn[3] if self._is_usual else in_turn
        self.stale = set()
        self.least_limit = min(self._limits.values(), default=np.inf)

    def reckon_costs(
        self, request: RoutingRequest, answer_tokens: float, lambda_watts: float, fleet: FleetView
    ) -> Floats:
        """Joules and priced seconds at each place, infinite where the request cannot be sent."""
        terms, tokens = self.terms, request.prompt_tokens
        priced = lambda_watts, lambda_watts * tokens, lambda_watts * answer_tokens
        if not fleet.waits:
            costs_j: Floats = np.dot((1.0, tokens, answer_tokens, *priced, *priced), terms[_ALL])
        else:
            costs_j = np.dot((1.0, tokens, answer_tokens, *priced), terms[_SERVICE])
            costs_j += _put_in(fleet, np.dot(priced, terms[_AHEAD]), lambda_watts)
        return costs_j

    def reckon_first_s(self, request: RoutingRequest, answer_tokens: float, fleet: FleetView) -> Floats:
        """Seconds until the first token at each place, the wait included."""
        terms, tokens = self.terms, request.prompt_tokens
        ahead = 1.0, tokens, answer_tokens
        if not fleet.waits:
            first_s: Floats = np.dot((1.0, tokens, 0.0, *ahead), terms[_SECONDS])
        else:
            first_s = np.dot((1.0, tokens), terms[3:5])
            first_s += _put_in(fleet, np.dot(ahead, terms[_AHEAD]), 1.0)
        return first_s


def _put_in(fleet: FleetView, values: Floats, price: float) -> Floats:
    """Where somebody keeps count of the wait, that one at this price."""
    places = _find_changes((_NONE,) * (len(fleet.waits) // _PIECE + 1), _cut(fleet.waits))
    values[places] = [price * wait.mean_s for wait in fleet.waits if wait is not None]
    return values


class _Memory:
    """The latest fleet, and the tables of the kinds that were asked for last."""

    __slots__ = ("_backends", "_moves", "_pieces", "_tables", "_version", "size")

    def __init__(self, fleet: FleetView) -> None:
        self.size = len(fleet.backends)
        self._backends = fleet.backends
        self._moves, self._version = fleet.moves, fleet.version
        #: Of the backends, as far as anybody had to look through them.
        self._pieces: list[tuple[object, ...]] | None = None
        self._tables: dict[Subject, _Table] = {}

    def watch(self, fleet: FleetView) -> None:
        """These are the backends now."""
        if fleet.backends is not self._backends:
            changes = self._find_changed(fleet)
            for table in self._tables.values():
                table.stale |= changes
            self._backends = fleet.backends
        self._moves, self._version = fleet.moves, fleet.version

    def _find_changed(self, fleet: FleetView) -> set[int]:
        if fleet.moves is not None and fleet.moves is self._moves:
            self._pieces = None
            return fleet.moves.between(self._version, fleet.version)
        before, self._pieces = self._pieces or _cut(self._backends), _cut(fleet.backends)
        return set(_find_changes(before, self._pieces))

    def look_up(self, request: RoutingRequest, policy: Policy) -> _Table:
        """The table of a kind of request, up to date."""
        subject = subject_of(request)
        table = self._tables.pop(subject, None)
        if table is None or table.policy is not policy:
            table = _Table(self.size, policy)
        if table.stale:
            table.write(self._backends, request, subject)
        if table.fit:  # clients make names of models up
            self._tables[subject] = table
            if len(self._tables) > _MOST_KINDS:
                del self._tables[next(iter(self._tables))]
        return table


#: At most one; taken out while it is in use, so that a second thread makes its own.
_kept: list[_Memory] = []


def sift(
    request: RoutingRequest, fleet: FleetView, policy: Policy, answer_tokens: float, lambda_watts: float
) -> Passed:
    """Costs of all backends, for a request whose choice is free (`ranking.is_free`)."""
    memory = _kept.pop() if _kept else None
    if memory is None or memory.size != len(fleet.backends):
        memory = _Memory(fleet)
    memory.watch(fleet)
    table = memory.look_up(request, policy)
    costs_j = table.reckon_costs(request, answer_tokens, lambda_watts, fleet)
    # Where a prompt may be too long for somebody, or somebody gets hot, the loop decides.
    fit, wishes = table.fit if request.prompt_tokens < table.least_limit else 0, request.annotations
    if wishes.max_power_watts and fit:
        over = table.terms[_WATTS] > wishes.max_power_watts
        costs_j[over] = np.inf
        fit = len(over) - int(np.count_nonzero(over))
    least_first_ms = 0, 0
    if wishes.latency_critical and fit:
        first_s = table.reckon_first_s(request, answer_tokens, fleet)[costs_j < np.inf]
        least_s = float(np.minimum.reduce(first_s, initial=np.inf))
        least_first_ms = _round_to_ms(least_s * (1 - _SAME)), _round_to_ms(least_s * (1 + _SAME))
    passed = Passed(costs_j, table.ties, fit, least_first_ms)
    _kept[:] = (memory,)
    return passed


def _round_to_ms(seconds: float) -> int:
    return round(seconds * 1000)


def _terms_of(one: Prospect) -> tuple[float, ...]:
    """A column of a table."""
    busy_share, turns_ahead = one.busy_share, one.turns_ahead
    service_s, s_per_output_token = one.load_s + one.overhead_s, one.s_per_output_token * one.crowding
    terms = (
        # A stand-in is for when nobody else is fit; then the loop decides.
        one.load_joules + one.fixed_j * busy_share if one.is_fit else np.inf,
        one.prompt_token_j * busy_share,
        one.output_token_j * busy_share,
        service_s,
        one.s_per_prompt_token,
        s_per_output_token,
        turns_ahead * service_s,
        turns_ahead * one.s_per_prompt_token,
        turns_ahead * s_per_output_token,
        one.watts if one.is_fit and one.watts else np.inf,
    )
    # With less than nothing in it a sum may lose what `_SAME` promises: no number tells the loop to decide.
    return terms if min(terms) >= 0 else (np.nan,) * _TERMS


def _ties_of(one: Prospect) -> tuple[float, float, float, float]:
    """Tie-breakers: yes and no, the sooner first token and the lower draw, and with them out of use the whole rest.

    The last holds those of yes and no, load, priority and hash, one behind the other; who is beyond what fits into it
    is equal to others who are.
    """
    unloaded, unpreferred, other, overhead_s, watts, load, priority, hashed, _ = one.tail or one.reckon_tail()
    flags, shifted = 4 * unloaded + 2 * unpreferred + other, priority + _PRIORITIES // 2
    if load < _LOADS - 1 and 0 < shifted < _PRIORITIES - 1:
        rest = shifted * _HASHES + hashed // _HASHES_IN_ONE
    elif load < _LOADS - 1:
        rest = 0 if shifted <= 0 else (_PRIORITIES - 1) * _HASHES
    else:
        load, rest = _LOADS - 1, 0
    return flags, overhead_s, watts, (flags * _LOADS + load) * (_PRIORITIES * _HASHES) + rest


def _cut(items: tuple[object, ...]) -> list[tuple[object, ...]]:
    return [items[start : start + _PIECE] for start in range(0, len(items), _PIECE)]


def _find_changes(before: Iterable[tuple[object, ...]], now: Iterable[tuple[object, ...]]) -> list[int]:
    """Where the pieces hold another object; equal ones may go unnoticed, since all that follows from them is equal."""
    found: list[int] = []
    start = 0
    for old, new in zip(before, now, strict=False):
        if new != old:
            found += compress(range(start, start + len(new)), map(operator.is_not, new, old))
        start += _PIECE
    return found

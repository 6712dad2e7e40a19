"""A sieve for large fleets: arrays find the few backends that can come first, and the loop decides among those.

What `routing.prospect` promises of each backend is kept in columns, one table for each kind of request, and only what
has changed since the last decision is written anew; so a decision over a thousand backends is a dozen operations on
arrays. Sums are made in the order of the loop in `decide`, so they are equal to the last bit, and nothing is decided
here: too many may pass the sieve, never too few.

What is kept between decisions is checked by the identity of the views and changes no result. It holds on to the views
of one fleet, the latest, and to the tables of a few kinds of request.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, count, repeat
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ollama_proxy.domain.decision import Policy, RoutingRequest
from ollama_proxy.domain.device import BackendView, FleetView
from ollama_proxy.routing.prospect import Prospect, Subject, look_ahead, subject_of

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
Item = TypeVar("Item")

#: Kinds of request whose tables are kept; one of a thousand backends takes about 0.2 MB.
_MOST_KINDS = 16
#: Tuples are compared in pieces of this size: by identity, in C, and looked into only where they differ.
_PIECE = 32
_NONE = (None,) * _PIECE
#: Costs further apart than this (joules) differ after rounding too, which is to the millionth.
_SAME_J = 2e-6
#: So many more than are asked for are not worth narrowing down.
_FEW = 4

#: Rows of a table; neighbours are worked on together.
_FIXED, _PER_PROMPT_TOKEN, _PER_OUTPUT_TOKEN, _SHARED = (slice(row, row + 2) for row in (0, 2, 4, 6))
_LOAD_S, _LOAD_JOULES, _TURNS_AHEAD = 8, 9, 10
_TERMS = 11
#: The tie-breakers of `Prospect.reckon_tail`, the three of yes and no as one number, and without the id.
_TIES = 6
_ALL_TIES = range(_TIES)
#: Without the sooner first token and the lower draw, which only some policies look at.
_USUAL_TIES = (0, 3, 4, 5)


class Passed:
    """What a decision's sieve saw; it can be asked again later, since nobody writes to these arrays any more."""

    __slots__ = ("_costs_j", "_ties", "fit")

    def __init__(self, costs_j: Floats, ties: Sequence[Floats], fit: int) -> None:
        self._costs_j = costs_j
        self._ties = ties
        #: How many backends pass all limits.
        self.fit = fit

    def places_of_best(self, wanted: int) -> list[int]:
        """Places in the fleet among which the best `wanted` are, in no order; at most `fit`."""
        costs_j = self._costs_j
        worst_j = _find_border(costs_j, wanted)
        places: Places = (costs_j <= worst_j + _SAME_J).nonzero()[0]
        if len(places) > wanted + _FEW:
            places = self._narrow(places, wanted)
        found: list[int] = places.tolist()
        return found

    def _narrow(self, places: Places, wanted: int) -> Places:
        """Fewer places that still hold the best, by the rounded cost and then by one tie-breaker after the other."""
        sure: list[Places] = []
        for ties in (None, *self._ties):
            values = _round(self._costs_j[places]) if ties is None else ties.take(places)
            border = _find_border(values, wanted)
            if wanted > 1:
                under = places[values < border]
                sure.append(under)
                wanted -= len(under)
            places = places[values == border]
            if len(places) <= wanted + _FEW:
                break
        return np.concatenate((*sure, places)) if sure else places


def _find_border(values: Floats, wanted: int) -> float:
    """The greatest of so many of the least values."""
    border: float = np.minimum.reduce(values) if wanted == 1 else np.partition(values, wanted - 1)[wanted - 1]
    return border


def _round(costs_j: Floats) -> Floats:
    """As `decide` rounds: numpy does not, to the last bit. Equal devices have equal costs, so few are different."""
    if costs_j.min() == costs_j.max():
        return costs_j
    raw_j = costs_j.tolist()
    rounded = {cost_j: round(cost_j, 6) for cost_j in set(raw_j)}
    return np.array([rounded[cost_j] for cost_j in raw_j])


class _Table:
    """One kind of request: what each backend promises it. `ties` is copied before it changes, `terms` is not."""

    __slots__ = ("_added", "_easy", "_multiplied", "fit", "policy", "revision", "terms", "ties")

    def __init__(self, size: int) -> None:
        self.terms = np.zeros((_TERMS, size))
        self.ties = np.zeros((_TIES, size))
        self._easy = [False] * size
        self.fit = 0
        self.policy: Policy | None = None
        #: Of the fleet, as far as it is written here.
        self.revision = 0
        self._added = np.empty((2, size))
        self._multiplied = np.empty((2, size))

    def write(self, places: Sequence[int], prospects: Iterator[Prospect]) -> None:
        """The backends at these places have changed."""
        rows, easy = [], self._easy
        for place, one in zip(places, prospects, strict=True):
            self.fit += one.easy - easy[place]
            easy[place] = one.easy
            rows.append(_row_of(one))
        columns = np.array(rows, float).T
        self.terms[:, places] = columns[:_TERMS]
        self.ties = self.ties.copy()
        self.ties[:, places] = columns[_TERMS:]

    def reckon_costs(
        self, request: RoutingRequest, answer_tokens: float, lambda_watts: float, fleet: FleetView
    ) -> Floats:
        """Joules and priced seconds at each place, infinite where the request cannot be sent."""
        terms, added, shared = self.terms, self._added, self._multiplied
        # Seconds of the prompt, and the joules of it and of the request.
        np.multiply(terms[_PER_PROMPT_TOKEN], request.prompt_tokens, out=added)
        added += terms[_FIXED]
        # Seconds of the answer, and the joules of everything, which both depend on who else is there.
        np.multiply(terms[_PER_OUTPUT_TOKEN], answer_tokens, out=shared)
        shared[1] += added[1]
        shared *= terms[_SHARED]
        service_s = added[0]
        service_s += terms[_LOAD_S]
        service_s += shared[0]
        costs_j: Floats = terms[_TURNS_AHEAD] * service_s
        if fleet.waits:
            places = _find_changes(repeat(_NONE), _cut(fleet.waits))
            costs_j[places] = [wait.mean_s for wait in fleet.waits if wait is not None]
        costs_j += service_s
        costs_j *= lambda_watts
        shared[1] += terms[_LOAD_JOULES]
        costs_j += shared[1]
        return costs_j


class _Memory:
    """The latest fleet, when each of its places changed, and the tables of the kinds that were asked for last."""

    __slots__ = ("_backends", "_changed", "_latest", "_pieces", "_tables", "revision", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.revision = 0
        self._backends: tuple[BackendView, ...] = ()
        self._pieces: Iterable[tuple[BackendView | None, ...]] = repeat(_NONE)
        self._changed = np.zeros(size, int)
        self._latest: list[int] = []
        self._tables: dict[Subject, _Table] = {}

    def watch(self, backends: tuple[BackendView, ...]) -> None:
        """These are the backends now."""
        if backends is self._backends:
            return
        pieces = _cut(backends)
        changes = _find_changes(self._pieces, pieces)
        self._backends, self._pieces = backends, pieces
        if changes:
            self.revision += 1
            self._changed[changes] = self.revision
            self._latest = changes

    def look_up(self, request: RoutingRequest, policy: Policy) -> _Table:
        """The table of a kind of request, up to date."""
        subject = subject_of(request)
        table = self._tables.pop(subject, None) or _Table(self.size)
        places: Sequence[int] = ()
        if table.policy is not policy:
            places = range(self.size)
        elif table.revision == self.revision - 1:
            places = self._latest
        elif table.revision < self.revision:
            places = (self._changed > table.revision).nonzero()[0].tolist()
        if places:
            table.write(places, self._prospects(places, request, subject, policy))
        table.policy, table.revision = policy, self.revision
        if table.fit:  # clients make names of models up
            self._tables[subject] = table
            if len(self._tables) > _MOST_KINDS:
                del self._tables[next(iter(self._tables))]
        return table

    def _prospects(
        self, places: Sequence[int], request: RoutingRequest, subject: Subject, policy: Policy
    ) -> Iterator[Prospect]:
        for place in places:
            one = look_ahead(self._backends[place], request, subject)
            if one.policy is not policy:
                one.stand_under(policy)
            yield one


#: At most one; taken out while it is in use, so that a second thread makes its own.
_kept: list[_Memory] = []


def sift(
    request: RoutingRequest, fleet: FleetView, policy: Policy, answer_tokens: float, lambda_watts: float
) -> Passed:
    """Costs of all backends, for a request that leaves the choice free and under the rule `predictive`."""
    memory = _kept.pop() if _kept else None
    if memory is None or memory.size != len(fleet.backends):
        memory = _Memory(len(fleet.backends))
    memory.watch(fleet.backends)
    table = memory.look_up(request, policy)
    costs_j = table.reckon_costs(request, answer_tokens, lambda_watts, fleet)
    rows = _ALL_TIES if policy.power_aware or policy.auto_optimize_latency else _USUAL_TIES
    passed = Passed(costs_j, [table.ties[row] for row in rows], table.fit)
    _kept[:] = (memory,)
    return passed


def _row_of(one: Prospect) -> tuple[float, ...]:
    """The terms and the tie-breakers."""
    unloaded, unpreferred, other, *numbers, _ = one.tail or one.reckon_tail()
    return (
        one.overhead_s,
        one.fixed_j,
        one.s_per_prompt_token,
        one.prompt_token_j,
        one.s_per_output_token,
        one.output_token_j,
        one.crowding,
        one.busy_share,
        one.load_s,
        # A stand-in is for when nobody else is fit; then the loop decides.
        one.load_joules if one.easy else np.inf,
        one.turns_ahead,
        4 * unloaded + 2 * unpreferred + other,
        *numbers,
    )


def _cut(items: tuple[Item, ...]) -> list[tuple[Item, ...]]:
    return [items[start : start + _PIECE] for start in range(0, len(items), _PIECE)]


def _find_changes(before: Iterable[tuple[object, ...]], now: Iterable[tuple[object, ...]]) -> list[int]:
    """Where the pieces hold another object; equal ones may go unnoticed, since all that follows from them is equal."""
    found: list[int] = []
    for start, old, new in zip(count(0, _PIECE), before, now, strict=False):
        if new != old:
            found += compress(range(start, start + len(new)), map(operator.is_not, new, old))
    return found

"""Who waits, and who begins when: requests are held here until the backend that is best for them has a free slot.

Nothing is bound to a backend before it begins. Whenever something changes, the waiting are gone through in order: each
takes the backend that `decide` prefers now, given what runs and what those before it will take; if that has a free slot
it begins, else it is planned there and stays. Far back in a long line a plan is kept until something comes free. So a
freed backend goes to the first who gains by it, a deadline that has come closer moves a request to a faster backend,
and whoever is more urgent is served first.

When it is full, the last of a lower class makes way, or the last of the caller with the most places for one of a caller
with fewer: who floods fills no more of the queue than what nobody else wants.

Order: by class, which rises by one for every `AGEING_S` of waiting; then by deadline; then fair by work between
callers (start-time fair queueing: a caller's requests are tagged with the work it was given so far).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from math import inf
from operator import itemgetter

import msgspec

from ollama_proxy.domain.annotations import Priority
from ollama_proxy.domain.decision import Decision, Limit, Policy, Refusal, RoutingRequest
from ollama_proxy.domain.device import FleetView
from ollama_proxy.fleet.crowd import Hurry, find_crowded
from ollama_proxy.fleet.outlook import Outlook, Planned, plan_of
from ollama_proxy.fleet.state import Fleet
from ollama_proxy.fleet.waiting import NEVER, Kind, Waiting, kind_of
from ollama_proxy.routing.deadline import HOPELESS
from ollama_proxy.routing.decide import decide, price_of_seconds
from ollama_proxy.routing.power_set import Want
from ollama_proxy.routing.record import tell_given_up

#: So many of those that were planned before are decided anew at a time. Behind them only those are for whom something
#: has come free: kinds of request of which nobody before them goes on waiting.
_MOST_ANEW = 8
_RECKONED_S = 0.1
_NOBODY: Mapping[Waiting, Policy] = {}

Verdict = Decision | Refusal
Judge = Callable[[RoutingRequest, FleetView, Policy, frozenset[str]], Verdict]


class Bounds(msgspec.Struct, frozen=True):
    """How much may wait: requests, their bytes, and the seconds that a new one would wait. inf for no bound.

    The seconds are no bound for those of a class above normal, or of a caller with less than its share of the queue:
    they are served before most that wait.
    """

    requests: float = inf
    size_bytes: float = inf
    wait_s: float = inf


class Full(Exception):
    """As much waits as may; `wait_s` is how long the last of it is expected to."""

    def __init__(self, why: str, wait_s: float) -> None:
        super().__init__(f"{why}; the last of them for about {wait_s:.0f} s")
        self.wait_s = wait_s


class Admission:
    """The queue. The clock is handed in; `begin` and `refuse` are done by whoever asks."""

    def __init__(
        self,
        fleet: Fleet,
        policy: Callable[[], Policy],
        *,
        bounds: Bounds | None = None,
        in_order: bool = True,
        judge: Judge = decide,
    ) -> None:
        """No more than `bounds` wait. `in_order` false serves first come first served, whatever the class; `judge` is
        `decide`, or times it."""
        self.bounds = bounds or Bounds()
        self._fleet = fleet
        self._policy = policy
        self._in_order = in_order
        self._judge = judge
        self._waiting: dict[Waiting, None] = {}
        self._size_bytes = 0
        #: How many wait of each class, as they came.
        self._ranks: Counter[int] = Counter()
        #: And of each caller.
        self._places: Counter[str] = Counter()
        #: When it was last reckoned how long the last will wait, and that.
        self._reckoned = (-1.0, 0.0)
        self._virtual = 0.0
        self._wants: list[Want] = []
        self._tags: dict[str, float] = {}
        self._hurry = Hurry()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, waiting: Waiting, now_s: float) -> Waiting | None:
        """One more waits; whoever had to make room for it. Raises `Full`, but for what has begun: of that there can
        be no more than has run."""
        displaced = None
        excess = "" if waiting.begun else self._find_excess(waiting, now_s)
        if excess:
            displaced = self._find_lower(waiting, now_s) or self._find_greedy(waiting, now_s)
            if displaced is None:
                raise Full(excess, self._expect_soon(now_s))
            self.remove(displaced)
            if self._find_excess(waiting, now_s):
                self._keep(displaced)
                raise Full(excess, self._expect_soon(now_s))
        waiting.tag = max(self._virtual, self._tags.get(waiting.caller, 0.0))
        self._keep(waiting)
        return displaced

    def _keep(self, waiting: Waiting) -> None:
        self._waiting[waiting] = None
        self._size_bytes += waiting.size_bytes
        self._ranks[waiting.rank] += 1
        self._places[waiting.caller] += 1

    def _find_excess(self, waiting: Waiting, now_s: float) -> str:
        """Which bound one more would exceed, in words; "" for none."""
        bounds, count = self.bounds, len(self._waiting)
        if count >= bounds.requests:
            return f"{count} requests wait already"
        if self._size_bytes + waiting.size_bytes > bounds.size_bytes:
            return f"{count} requests of {self._size_bytes / 1e6:.1f} MB wait already"
        patient = waiting.rank <= Priority.NORMAL and self._places[waiting.caller] * len(self._places) >= count
        if bounds.wait_s < inf and patient and self._expect_known() > bounds.wait_s:
            return f"{count} requests wait already, and none may for more than {bounds.wait_s:g} s"
        return ""

    def _expect_known(self) -> float:
        """How long the last of those that wait will, from those that were planned."""
        known = [one.wait_s for one in self._waiting if one.wait_s is not None]
        return max(known) * len(self._waiting) / len(known) if known else 0.0

    def _find_lower(self, waiting: Waiting, now_s: float) -> Waiting | None:
        """The last in the line, if it is of a lower class even by its age."""
        if not any(count and rank < waiting.rank for rank, count in self._ranks.items()):
            return None
        last = max(self._find_fresh(), key=lambda one: one.order(now_s), default=None)
        return last if last is not None and -last.order(now_s)[0] < waiting.rank else None

    def _find_greedy(self, waiting: Waiting, now_s: float) -> Waiting | None:
        """The last of whoever has the most places, if even without it that one keeps more than the newcomer's caller
        gets, and if it is of no higher class."""
        caller, most = max(self._places.items(), key=itemgetter(1), default=("", 0))
        if most <= self._places[waiting.caller] + 1:
            return None
        of_caller = (one for one in self._find_fresh() if one.caller == caller)
        last = max(of_caller, key=lambda one: one.order(now_s), default=None)
        return last if last is not None and -last.order(now_s)[0] <= waiting.rank else None

    def _find_fresh(self) -> Iterator[Waiting]:
        """Those of which no client has anything yet: they may be sent away."""
        return (one for one in self._waiting if not one.begun)

    def _expect_soon(self, now_s: float) -> float:
        """How long the last will probably wait. When many are refused, that is reckoned ten times a second."""
        reckoned_s, wait_s = self._reckoned
        if not 0 <= now_s - reckoned_s < _RECKONED_S:
            wait_s = self.expect_wait(now_s)
            self._reckoned = (now_s, wait_s)
        return wait_s

    def remove(self, waiting: Waiting) -> None:
        """It waits no longer."""
        if waiting in self._waiting:
            del self._waiting[waiting]
            self._size_bytes -= waiting.size_bytes
            self._ranks[waiting.rank] -= 1
            self._places[waiting.caller] -= 1
            if not self._places[waiting.caller]:
                del self._places[waiting.caller]

    def line(self, now_s: float) -> list[Waiting]:
        """All that wait, whoever is served first at the front."""
        if len(self._waiting) == 1 or not self._in_order:
            return list(self._waiting)
        return sorted(self._waiting, key=lambda one: one.order(now_s))

    def find_urgent(self, now_s: float) -> list[Waiting]:
        """Those for whom others are broken off, in the order of their service."""
        if not any(count and rank >= Priority.CRITICAL for rank, count in self._ranks.items()):
            return []
        urgent = [one for one in self._waiting if one.rank >= Priority.CRITICAL]
        return sorted(urgent, key=lambda one: one.order(now_s))

    def expect_wait(self, now_s: float) -> float:
        """How long the last in the queue will probably wait: all that is to be done, shared by all slots."""
        slots = [slot for one in self._fleet.slots_at(now_s) for slot in one]
        known = [one.wait_s for one in self._waiting if one.wait_s is not None]
        return max([0.0, *known, *(free_s for free_s, _ in slots)])

    def price(self, waiting: Waiting) -> Policy:
        """The policy that one who waits is decided by."""
        policy = self._policy()
        return self._hurry.look(policy) if waiting.caller in self._find_crowded() else policy

    def plan(self, now_s: float, first: Mapping[Waiting, Policy] = _NOBODY) -> list[tuple[Waiting, Verdict]]:
        """Those that begin now, and where, or that are refused; they wait no longer.

        `first` come before all others, decided by these policies.
        """
        self._wants = []
        if not self._waiting:
            return []
        policy = self._policy()
        view = self._fleet.view()
        outlook = Outlook(self._fleet, now_s)
        place_of = {one.spec.id: place for place, one in enumerate(view.backends)}
        found: list[tuple[Waiting, Verdict]] = []
        stuck: set[Kind] = set()
        anew = 0
        crowded = self._find_crowded()
        line = self.line(now_s)
        for waiting in [*first, *(one for one in line if one not in first)] if first else line:
            planned = waiting.planned
            if planned is not None and anew >= _MOST_ANEW and not (outlook.has_room and kind_of(waiting) not in stuck):
                place = place_of.get(planned.backend)
                if place is not None and view.backends[place].health.serves:
                    waiting.wait_s = outlook.wait_at(place)
                    outlook.take(place, planned)
                    self._want(planned)
                    continue
            anew += planned is not None
            prices = first.get(waiting) or (self._hurry.look(policy) if waiting.caller in crowded else policy)
            verdict = self._decide(waiting, outlook.show(view), prices, now_s)
            if isinstance(verdict, Refusal):
                self.remove(waiting)
                found.append((waiting, verdict))
                continue
            place = place_of[verdict.backend]
            begins = outlook.has_room_at(place) and not verdict.short_of_power
            planned = waiting.planned = plan_of(verdict, price_of_seconds(waiting.request.annotations, prices))
            outlook.take(place, planned)
            if begins:
                self._begin(waiting, planned.before_s + planned.decode_s)
                found.append((waiting, verdict))
                if policy.power_set is not None:
                    view = _count_one_more(view, place)
                continue
            stuck.add(kind_of(waiting))
            if policy.power_set is not None:
                waiting.planned = msgspec.structs.replace(planned, want=_want_of(verdict))
                self._want(waiting.planned)
        return found

    def _find_crowded(self) -> frozenset[str]:
        """Callers with less than their share of a queue that others fill."""
        return find_crowded(self._places, self._fleet.count_slots()) if len(self._places) > 1 else frozenset()

    def _decide(self, waiting: Waiting, seen: FleetView, policy: Policy, now_s: float) -> Verdict:
        """Where it would go, given what those before it take; the decision says what it had to give up."""
        request = waiting.describe(now_s)
        waiting.given = (request, seen, policy, waiting.tried, waiting.given_up, waiting.substitute)
        verdict = self._judge(request, seen, policy, waiting.tried)
        if isinstance(verdict, Refusal):
            return verdict
        waiting.wait_s = verdict.wait_s
        if _is_lost(verdict):
            waiting.due_s = NEVER
        return tell_given_up(verdict, waiting.given) if waiting.given_up else verdict

    def _want(self, planned: Planned) -> None:
        if planned.want is not None:
            self._wants.append(planned.want)

    @property
    def wants(self) -> list[Want]:
        """Who could take those that wait, in their order, as of the last plan; nothing while the power set will do."""
        return self._wants if any(one.short for one in self._wants) else []

    def _begin(self, waiting: Waiting, work_s: float) -> None:
        self.remove(waiting)
        self._virtual = max(self._virtual, waiting.tag)
        tag = self._tags[waiting.caller] = waiting.tag + work_s
        for other in self._waiting:
            if other.caller == waiting.caller:
                other.tag = max(other.tag, tag)
        if len(self._tags) > 4096:
            self._tags = {name: tag for name, tag in self._tags.items() if tag > self._virtual}


def _is_lost(decision: Decision) -> bool:
    """Whether its deadline cannot be kept any more; those that can are then served before it."""
    chance = decision.scored[0][6]
    return chance is not None and chance < HOPELESS


def _count_one_more(view: FleetView, place: int) -> FleetView:
    """The fleet for those behind one that has begun: a power cap counts it."""
    backends = list(view.backends)
    backends[place] = msgspec.structs.replace(backends[place], in_flight=backends[place].in_flight + 1)
    return msgspec.structs.replace(view, backends=tuple(backends))


def _want_of(decision: Decision) -> Want:
    """Who could take it, were they in the power set."""
    others = [one.backend for one in decision.rejections if one.limit is Limit.SYSTEM_POWER]
    return Want((*(one.backend for one in decision.ranking), *others), decision.short_of_power)

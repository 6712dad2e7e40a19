"""Who is broken off for a more urgent request, which takes its slot at once instead of waiting for its end.

Only what asked to be served when nobody else wants to be (`best-effort`) makes way, and only for `critical` and above.
Nothing here breaks anything off: whoever runs is asked whether it may be, and is told by whoever asked.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Protocol

from ollama_proxy.domain.decision import Decision, Policy
from ollama_proxy.domain.device import FleetView, Wait
from ollama_proxy.fleet.outlook import Outlook, plan_of
from ollama_proxy.fleet.running import Running
from ollama_proxy.fleet.state import Fleet
from ollama_proxy.fleet.waiting import Waiting
from ollama_proxy.routing.decide import decide, price_of_seconds

#: For so many of the urgent at a time somebody is looked for, and so many are asked for each of them.
_MOST_AT_ONCE, _MOST_ASKED = 16, 4
_AT_ONCE = Wait(0.0, 0.0)


class Will(enum.Enum):
    """What a request that runs says to being broken off."""

    NOW = "now"
    LATER = "later"
    NEVER = "never"


class Occupant(Protocol):
    """A request that runs in a slot."""

    def may_be_preempted(self, now_s: float) -> Will:
        """Whether it could go on later, or begin anew without much loss."""

    def preempt(self) -> bool:
        """Leave the slot now; False where it cannot after all."""


class Preemption:
    """Knows of all that would make way where it runs."""

    __slots__ = ("_by_backend", "_fleet")

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        #: By backend, as they began.
        self._by_backend: dict[str, dict[Running, Occupant]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_backend)

    def opened(self, running: Running, backend: str, occupant: Occupant) -> None:
        """One that makes way has begun."""
        self._by_backend.setdefault(backend, {})[running] = occupant

    def closed(self, running: Running, backend: str) -> None:
        """One has ended, or will not make way; safe to call of any."""
        there = self._by_backend.get(backend)
        if there is not None and there.pop(running, None) is not None and not there:
            del self._by_backend[backend]

    def make_room(
        self, urgent: Sequence[Waiting], price: Callable[[Waiting], Policy], now_s: float
    ) -> dict[Waiting, Policy]:
        """Break somebody off for each of the `urgent` that would wait where one makes way; those that have room now.

        They come in the order of their service, and nobody is broken off for the same one twice. Each has the policy
        that it was decided by: with whoever made way in the queue it might get another, and go elsewhere.
        """
        urgent = [one for one in urgent if not one.had_room_made][:_MOST_AT_ONCE]
        if not urgent:
            return {}
        view = self._fleet.view()
        outlook = Outlook(self._fleet, now_s)
        names = [one.spec.id for one in view.backends]
        occupied = {place: name for place, name in enumerate(names) if self._find_occupants(name)}
        made = {}
        for waiting in urgent:
            if not occupied:
                break
            policy = price(waiting)
            decision = _decide(waiting, outlook, view, policy, now_s, occupied)
            if decision is None:
                continue
            place = names.index(decision.backend)
            if outlook.has_room_at(place):
                outlook.take(place, plan_of(decision, price_of_seconds(waiting.request.annotations, policy)))
            elif place in occupied and self._break_off_one(occupied[place], now_s):
                waiting.had_room_made = True
                made[waiting] = policy
                if not self._find_occupants(occupied[place]):
                    del occupied[place]
            else:
                occupied.pop(place, None)
        return made

    def _find_occupants(self, backend: str) -> list[tuple[Running, Occupant]]:
        """Who would free a slot there, as they began.

        What runs on at a server that had the id before is in no slot of the one that has it now.
        """
        there = self._by_backend.get(backend)
        if there is None:
            return []
        holders = self._fleet.find_slot_holders(backend)
        return [one for one in there.items() if one[0] in holders]

    def _break_off_one(self, backend: str, now_s: float) -> bool:
        """Free a slot there; whether somebody left."""
        # The latest first: it has the least to lose.
        for running, occupant in self._find_occupants(backend)[::-1][:_MOST_ASKED]:
            will = occupant.may_be_preempted(now_s)
            if will is Will.NOW and occupant.preempt():
                return True
            if will is not Will.LATER:
                self.closed(running, backend)
        return False


def _decide(
    waiting: Waiting, outlook: Outlook, view: FleetView, policy: Policy, now_s: float, freed: dict[int, str]
) -> Decision | None:
    """Where it would begin, were these backends free."""
    seen = outlook.show(view)
    waits = [_AT_ONCE if place in freed and wait is not None else wait for place, wait in enumerate(seen.waits)]
    seen = FleetView(seen.version, seen.backends, tuple(waits), beside=seen.beside)
    found = decide(waiting.describe(now_s), seen, policy, waiting.tried)
    return found if isinstance(found, Decision) and not found.short_of_power else None

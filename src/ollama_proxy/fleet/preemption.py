"""Who is broken off for a more urgent request, which takes its slot at once instead of waiting for its end.

Only what asked to be served when nobody else wants to be (`best-effort`) makes way, and only for `critical` and above.
Nothing here breaks anything off: whoever runs is asked whether it may be, and is told by whoever asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from ollama_proxy.domain.annotations import Annotations, Priority
from ollama_proxy.domain.decision import Decision, Policy
from ollama_proxy.domain.device import FleetView, Wait
from ollama_proxy.fleet.outlook import Outlook, plan_of
from ollama_proxy.fleet.running import Running
from ollama_proxy.fleet.state import Fleet
from ollama_proxy.fleet.waiting import Waiting
from ollama_proxy.routing.decide import decide, price_of_seconds

#: For so many of the urgent at a time somebody is looked for.
_MOST_AT_ONCE = 16
_AT_ONCE = Wait(0.0, 0.0)


class Occupant(Protocol):
    """A request that runs in a slot."""

    def may_be_preempted(self, now_s: float) -> bool:
        """Whether it could go on later, or begin anew without much loss."""

    def preempt(self) -> bool:
        """Leave the slot now; False where it cannot after all."""


def makes_way(wishes: Annotations) -> bool:
    """Whether a request is one of those that are broken off for others."""
    return wishes.priority is Priority.BEST_EFFORT and not wishes.latency_critical


class Preemption:
    """Knows of all that would make way where it runs."""

    __slots__ = ("_fleet", "_occupants")

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        #: With the id of the backend, as they began.
        self._occupants: dict[Running, tuple[str, Occupant]] = {}

    def __bool__(self) -> bool:
        return bool(self._occupants)

    def opened(self, running: Running, backend: str, occupant: Occupant) -> None:
        """One that makes way has begun."""
        self._occupants[running] = (backend, occupant)

    def closed(self, running: Running) -> None:
        """One has ended, or will not make way; safe to call of any."""
        self._occupants.pop(running, None)

    def choose(self, urgent: Sequence[Waiting], policy: Policy, now_s: float) -> list[tuple[Running, Occupant]]:
        """Who is to make way for these, which wait and come in the order of their service."""
        urgent = urgent[:_MOST_AT_ONCE]
        held_by = self._find_willing(now_s) if urgent else {}
        if not held_by:
            return []
        view = self._fleet.view()
        place_of = {one.spec.id: place for place, one in enumerate(view.backends)}
        outlook = Outlook(self._fleet, now_s)
        chosen = []
        for waiting in urgent:
            verdict = _decide(waiting, outlook, view, policy, now_s, [place_of[name] for name in held_by])
            if verdict is None:
                continue
            place = place_of[verdict.backend]
            if outlook.has_room_at(place):
                outlook.take(place, plan_of(verdict, price_of_seconds(waiting.request.annotations, policy)))
            elif verdict.backend in held_by:
                # The latest: it has the least to lose.
                chosen.append(held_by[verdict.backend].pop())
                if not held_by[verdict.backend]:
                    del held_by[verdict.backend]
        return chosen

    def _find_willing(self, now_s: float) -> dict[str, list[tuple[Running, Occupant]]]:
        """Those that may be broken off, by backend, as they began."""
        found: dict[str, list[tuple[Running, Occupant]]] = {}
        for running, (backend, occupant) in self._occupants.items():
            if occupant.may_be_preempted(now_s):
                found.setdefault(backend, []).append((running, occupant))
        return found


def _decide(
    waiting: Waiting, outlook: Outlook, view: FleetView, policy: Policy, now_s: float, freed: Iterable[int]
) -> Decision | None:
    """Where it would begin, were these backends free."""
    seen = outlook.show(view)
    waits = list(seen.waits)
    for place in freed:
        waits[place] = _AT_ONCE
    seen = FleetView(seen.version, seen.backends, tuple(waits), beside=seen.beside)
    found = decide(waiting.describe(now_s), seen, policy, waiting.tried)
    return found if isinstance(found, Decision) and not found.short_of_power else None

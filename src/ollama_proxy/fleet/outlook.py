"""How busy the backends will be: what runs there, and in a plan what those who are served before will take."""

from __future__ import annotations

import msgspec

from ollama_proxy.domain.decision import Decision
from ollama_proxy.domain.device import FleetView, Neighbour, Wait
from ollama_proxy.fleet.running import Slot, add_work
from ollama_proxy.fleet.state import Fleet
from ollama_proxy.routing.power_set import Want


class Planned(msgspec.Struct, frozen=True, gc=False):
    """Where a request that waits would go, and what it would take there, in seconds."""

    backend: str
    #: Until it writes, from when it has its slot.
    before_s: float
    decode_s: float
    #: What a second is worth to whoever asked.
    price_watts: float
    #: Whom it would want in the power set, where there is one.
    want: Want | None = None

    @property
    def var_s2(self) -> float:
        """Variance of the seconds."""
        return (0.6 * self.decode_s) ** 2


def plan_of(decision: Decision, price_watts: float) -> Planned:
    """What the chosen candidate is expected to take."""
    _, device, _, prefill_s, decode_s, _, _ = decision.scored[0]
    return Planned(decision.backend, device.load_s + prefill_s, decode_s, price_watts)


class Outlook:
    """From one moment on. Backends are told by their place in the fleet's view."""

    __slots__ = ("_around", "_beside", "_slots", "_waits")

    def __init__(self, fleet: Fleet, now_s: float) -> None:
        self._slots = fleet.slots_at(now_s)
        self._waits = [_wait_of(one) for one in self._slots]
        self._around = fleet.look_around(now_s)
        #: None where it has to be looked up anew.
        self._beside: tuple[tuple[Neighbour, ...], ...] | None = None if self._around is not None else ()

    @property
    def has_room(self) -> bool:
        """Whether a slot is free anywhere, or is not counted."""
        return None in self._waits

    def has_room_at(self, place: int) -> bool:
        """Whether a slot is free there, or slots are not counted there."""
        return self._waits[place] is None

    def wait_at(self, place: int) -> float:
        """Seconds until a slot is free there."""
        wait = self._waits[place]
        return 0.0 if wait is None else wait.mean_s

    def show(self, view: FleetView) -> FleetView:
        """The fleet as whoever is next sees it."""
        if self._beside is None:
            assert self._around is not None
            self._beside = self._around.look()
        return FleetView(view.version, view.backends, tuple(self._waits), beside=self._beside)

    def take(self, place: int, planned: Planned) -> None:
        """Somebody is planned there before whoever is next."""
        from_s = self.wait_at(place) + planned.before_s
        slots = self._slots[place]
        if slots:
            add_work(slots, planned.before_s + planned.decode_s, planned.var_s2)
            self._waits[place] = _wait_of(slots)
        if self._around is not None:
            self._around.plan(place, from_s, from_s + planned.decode_s, planned.price_watts)
            self._beside = None


def _wait_of(slots: list[Slot]) -> Wait | None:
    return Wait(*slots[0]) if slots and slots[0][0] > 0 else None

"""Pools of devices that share a machine's memory: who writes beside whom, now and in the requests that have ended.

Nothing here costs a fleet anything whose devices share nothing, and next to nothing one whose devices were never seen
to slow each other down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from math import inf
from typing import Protocol

import msgspec

from ollama_proxy.domain.device import BackendSpec, Neighbour
from ollama_proxy.fleet.neighbours import Coupling, Spells
from ollama_proxy.fleet.running import Running, forecast_slots
from ollama_proxy.routing.speeds import UNKNOWN_WATTS

#: One that wrote at the same time, and for what share of the time.
Beside = tuple[Coupling, float]
#: By neighbour: mean and variance of what is believed.
SavedCouplings = dict[str, tuple[float, float]]
#: Slowing by less than a hundredth is no reason to decide otherwise.
_LEAST_SLOWNESS = 0.01
#: Beyond so many requests at a device, the first of them tell when it writes.
_MOST_COUNTED = 32
#: Where more than so many run, what was reckoned holds for a while, and until a part of them has begun or ended.
_FEW = 4
_HOLDS_S = 0.05
_HOLDS_FOR_PART = 0.125


class Device(Protocol):
    """What is asked of a backend's record."""

    @property
    def spec(self) -> BackendSpec: ...
    @property
    def running(self) -> Mapping[Running, None]: ...


class Writing(msgspec.Struct, gc=False):
    """When a device writes, in seconds from now; its share of the time after that; the price of a second there."""

    from_s: float
    until_s: float
    share: float
    price_watts: float


class _Member:
    """One device of a pool: its spells of writing, and how much each of the others slows it."""

    __slots__ = ("_from_s", "_looked_s", "_price_watts", "_running", "_until_s", "couplings", "device", "spells")

    def __init__(self, device: Device) -> None:
        self.device = device
        self.spells = Spells()
        self.couplings: dict[str, Coupling] = {}
        #: As last reckoned, in monotonic seconds: when, with how many at work, from when until when they write.
        self._looked_s, self._running = -inf, 0
        self._from_s = self._until_s = self._price_watts = 0.0

    @property
    def pool(self) -> str:
        return self.device.spec.memory_pool

    def couple(self, other: str, now_s: float) -> Coupling:
        """How much another slows it, as believed now."""
        found = self.couplings.get(other)
        if found is None:
            found = self.couplings[other] = Coupling(now_s)
        return found

    def slowed_by(self, other: str) -> float:
        found = self.couplings.get(other)
        return found.mean if found is not None else 0.0

    def look(self, now_s: float) -> Writing:
        """What it will write."""
        running, share = len(self.device.running), self.spells.share(now_s)
        if not running:
            return Writing(0.0, 0.0, share, 0.0)
        if not (
            running > _FEW
            and 0 <= now_s - self._looked_s < _HOLDS_S
            and abs(running - self._running) <= _HOLDS_FOR_PART * running
        ):
            self._reckon(running, now_s)
        return Writing(max(0.0, self._from_s - now_s), max(0.0, self._until_s - now_s), share, self._price_watts)

    def _reckon(self, running: int, now_s: float) -> None:
        some = list(islice(self.device.running, _MOST_COUNTED))
        self._looked_s, self._running = now_s, running
        self._from_s = min([one.first_s for one in some])
        self._until_s = now_s + max([free_s for free_s, _ in forecast_slots(some, self.device.spec.slots, now_s)])
        self._price_watts = sum([one.price_watts for one in some])

    def meet(self, from_s: float, now_s: float) -> float:
        """Seconds for which it wrote since then."""
        found_s = self.spells.overlap(from_s, now_s)
        if self.device.running:
            first_s = min([one.first_s for one in islice(self.device.running, _MOST_COUNTED)])
            found_s += max(0.0, now_s - max(from_s, first_s, self.spells.ended_s))
        return found_s


class Surroundings:
    """Who writes beside whom from a moment on, as far as is known; what is planned is added."""

    __slots__ = ("_members", "_size", "_writing")

    def __init__(self, size: int, members: Mapping[int, _Member], now_s: float) -> None:
        self._size = size
        self._members = members
        self._writing = {place: one.look(now_s) for place, one in members.items()}

    def plan(self, place: int, from_s: float, until_s: float, price_watts: float) -> None:
        """The backend at a place will write more than was known."""
        writing = self._writing.get(place)
        if writing is None:
            return
        if not writing.until_s:
            writing.from_s = from_s
        writing.until_s = max(writing.until_s, until_s)
        writing.price_watts += price_watts

    def look(self) -> tuple[tuple[Neighbour, ...], ...]:
        """For each backend the others of its pool; what one cannot do to another is left out."""
        found: list[tuple[Neighbour, ...]] = [()] * self._size
        for place, mine in self._members.items():
            found[place] = tuple(self._look_around(mine))
        return tuple(found)

    def _look_around(self, mine: _Member) -> Iterator[Neighbour]:
        for place, other in self._members.items():
            if other is mine or other.pool != mine.pool:
                continue
            spec, writing = other.device.spec, self._writing[place]
            slows, slowed = mine.slowed_by(spec.id), other.slowed_by(mine.device.spec.id)
            if slows < _LEAST_SLOWNESS and slowed < _LEAST_SLOWNESS:
                continue
            watts = spec.power_watts or UNKNOWN_WATTS
            yield Neighbour(
                spec.id, writing.from_s, writing.until_s, writing.share, slows, slowed, watts, writing.price_watts
            )


class Pools:
    """All pools that have more than one device."""

    __slots__ = ("_known", "_members", "_size", "is_shared")

    def __init__(self) -> None:
        self.is_shared = False
        #: By id, and by place in the fleet, those that share a pool.
        self._known: dict[str, _Member] = {}
        self._members: dict[int, _Member] = {}
        self._size = 0

    def arrange(self, devices: Iterable[Device]) -> None:
        """These are the backends now, in their order."""
        devices = list(devices)
        self._size = len(devices)
        pools = [one.spec.memory_pool for one in devices if one.spec.memory_pool]
        shared = {pool for pool in pools if pools.count(pool) > 1} if len(set(pools)) < len(pools) else set()
        known, self._known, self._members = self._known, {}, {}
        for place, device in enumerate(devices):
            if device.spec.memory_pool in shared:
                member = known.get(device.spec.id) or _Member(device)
                member.device = device
                self._known[device.spec.id] = self._members[place] = member
        self.is_shared = bool(shared)

    def look(self, now_s: float) -> Surroundings | None:
        """Who writes beside whom from now on; None while nobody is known to slow another down."""
        for member in self._members.values():
            for coupling in member.couplings.values():
                if coupling.mean >= _LEAST_SLOWNESS:
                    return Surroundings(self._size, self._members, now_s)
        return None

    def meet(self, backend: str, decode_s: float | None, now_s: float) -> list[Beside]:
        """Those who wrote while an answer was written that has just ended, and for what share of its time."""
        mine = self._known.get(backend)
        if mine is None or not decode_s:
            return []
        from_s = now_s - decode_s
        mine.spells.add(from_s, now_s)
        found: list[Beside] = []
        for other in self._members.values():
            if other is mine or other.pool != mine.pool:
                continue
            together_s = other.meet(from_s, now_s)
            if together_s > 0:
                coupling = mine.couple(other.device.spec.id, now_s)
                coupling.age(now_s)
                found.append((coupling, min(1.0, together_s / decode_s)))
        return found

    def save(self, backend: str) -> SavedCouplings:
        """What is believed of who slows a backend, to be restored after a restart."""
        member = self._known.get(backend)
        return {} if member is None else {name: (one.mean, one.var) for name, one in member.couplings.items()}

    def restore(self, backend: str, saved: SavedCouplings, age_s: float, now_s: float) -> None:
        """Take up what was believed `age_s` ago, of neighbours that are still there."""
        member = self._known.get(backend)
        for name, (mean, var) in saved.items():
            if member is not None and name in self._known:
                member.couple(name, now_s).restore(mean, var, age_s)

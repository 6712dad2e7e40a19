"""Which backends may run together under the system's power cap: a set is chosen, not each start weighed.

Starting whatever fits at the moment starves the fastest device: small ones are started one by one and keep it from ever
fitting. So the set that gets most done within the cap is chosen now and then; inside it starts are free, and whoever is
outside finishes what it runs and gets nothing new. Where somebody waits for whom the set has nobody, it is exchanged
(`power_room` says who may begin meanwhile).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

import msgspec

from ollama_proxy.domain.decision import PowerSet

#: Up to so many backends every set is tried.
_ALL_SETS_UP_TO = 12
_ROUNDING_W = 1e-9


class Draw(msgspec.Struct, frozen=True):
    """One backend: watts at work and while reading a prompt, and what it gets done (tokens a second)."""

    backend: str
    watts: float
    prefill_watts: float
    tokens_per_s: float


class Want(msgspec.Struct, frozen=True):
    """A request that waits: who could take it, the best first, and whether the set that there is has nobody for it."""

    able: tuple[str, ...]
    short: bool


def choose_power_set(draws: Sequence[Draw], cap_w: float, base_w: float = 0.0, wants: Sequence[Want] = ()) -> PowerSet:
    """The set that gets most done with its draw and `base_w` (what is drawn besides) within the cap.

    Among sets that get as much done the one that draws least; a backend whose draw is unknown (0 W) is never in it.
    It has somebody for each of `wants`, as far as the cap allows that at once: whoever is first in the line is always
    cared for if anybody can be, so that each has its turn.
    """
    left_w = cap_w - base_w
    drawing = {one.backend: one for one in draws if one.watts > 0}
    needed = _care_for(wants, drawing, left_w)
    known = [one for name, one in sorted(drawing.items()) if name not in needed]
    rest_w = left_w - sum(needed.values())
    others = _try_all(known, rest_w) if len(known) <= _ALL_SETS_UP_TO else _fill(known, rest_w)
    best = [*others, *(drawing[name] for name in needed)]
    chosen = PowerSet(frozenset(one.backend for one in best), cap_watts=cap_w, base_watts=base_w)
    return msgspec.structs.replace(chosen, brief=_find_brief(best, chosen))


def exchange_power_set(
    old: PowerSet | None,
    running: Collection[str],
    draws: Sequence[Draw],
    cap_w: float,
    base_w: float = 0.0,
    wants: Sequence[Want] = (),
) -> PowerSet:
    """The set to follow `old` while some are `running`.

    One that may be reading a long prompt, as the old set allowed, is reckoned with what it draws then, or others would
    begin beside it that the cap does not allow.
    """
    old = old or PowerSet(frozenset())
    new = choose_power_set(draws, cap_w, base_w, wants)
    loud = {name for name in new.brief if name in running and name not in old.brief}
    if loud:
        louder = [msgspec.structs.replace(one, watts=_peak_of(one)) if one.backend in loud else one for one in draws]
        chosen = choose_power_set(louder, cap_w, base_w, wants)
        new = msgspec.structs.replace(chosen, brief=_find_brief(draws, chosen))
    return msgspec.structs.replace(new, before=old.before if new.active == old.active else old.active)


def _find_brief(draws: Sequence[Draw], chosen: PowerSet) -> frozenset[str]:
    """Those of a set that would exceed the cap beside the others while they read a prompt."""
    members = [one for one in draws if one.backend in chosen.active]
    left_w = chosen.cap_watts - chosen.base_watts - sum(one.watts for one in members) + _ROUNDING_W
    return frozenset(one.backend for one in members if _peak_of(one) - one.watts > left_w)


def _care_for(wants: Sequence[Want], drawing: Mapping[str, Draw], left_w: float) -> dict[str, float]:
    """Who is needed and what each draws: for those that nobody in the set can take, with a long prompt if that fits."""
    needed: dict[str, float] = {}
    for want in wants:
        if any(name in needed for name in want.able):
            continue
        room_w = left_w - sum(needed.values()) + _ROUNDING_W
        fitting = [
            (name, watts)
            for name in want.able
            if name in drawing
            for watts in ((_peak_of(drawing[name]), drawing[name].watts) if want.short else (drawing[name].watts,))
            if watts <= room_w
        ]
        if fitting:
            name, watts = fitting[0]
            needed[name] = watts
    return needed


def _peak_of(draw: Draw) -> float:
    return max(draw.watts, draw.prefill_watts)


def _try_all(draws: Sequence[Draw], left_w: float) -> tuple[Draw, ...]:
    sets = (one for size in range(len(draws) + 1) for one in combinations(draws, size))
    fitting = (one for one in sets if sum(draw.watts for draw in one) <= left_w + _ROUNDING_W)
    return max(fitting, key=_worth, default=())


def _fill(draws: Sequence[Draw], left_w: float) -> tuple[Draw, ...]:
    """Greedily by tokens a joule, then whoever is left out against any one that is in, while that gets more done."""
    chosen: list[Draw] = []
    for draw in sorted(draws, key=lambda one: -one.tokens_per_s / one.watts):
        if sum(one.watts for one in chosen) + draw.watts <= left_w + _ROUNDING_W:
            chosen.append(draw)
    improved = True
    while improved:
        improved = False
        for other in [one for one in draws if one not in chosen]:
            for member in [*chosen, None]:
                trial = [one for one in chosen if one is not member] + [other]
                if sum(one.watts for one in trial) <= left_w + _ROUNDING_W and _worth(trial) > _worth(chosen):
                    chosen, improved = trial, True
                    break
    return tuple(chosen)


def _worth(draws: Sequence[Draw]) -> tuple[float, float]:
    return round(sum(one.tokens_per_s for one in draws), 6), -round(sum(one.watts for one in draws), 6)

"""Which backends may run together under the system's power cap: a set is chosen, not each start weighed.

Starting whatever fits at the moment starves the fastest device: small ones are started one by one and keep it from ever
fitting. So the set that gets most done within the cap is chosen now and then; inside it starts are free, and whoever is
outside finishes what it runs and gets nothing new.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import msgspec

from ollama_proxy.domain.decision import PowerSet

#: Up to so many backends every set is tried.
_ALL_SETS_UP_TO = 12


class Draw(msgspec.Struct, frozen=True):
    """One backend: watts at work and while reading a prompt, and what it gets done (tokens a second)."""

    backend: str
    watts: float
    prefill_watts: float
    tokens_per_s: float


def choose_power_set(draws: Sequence[Draw], cap_w: float, base_w: float = 0.0) -> PowerSet:
    """The set that gets most done with its draw and `base_w` (what is drawn besides) within the cap.

    Among sets that get as much done the one that draws least; a backend whose draw is unknown (0 W) is never in it.
    """
    known = sorted((one for one in draws if one.watts > 0), key=lambda one: one.backend)
    left_w = cap_w - base_w
    best = _try_all(known, left_w) if len(known) <= _ALL_SETS_UP_TO else _fill(known, left_w)
    together_w = sum(one.watts for one in best)
    brief = [one.backend for one in best if together_w - one.watts + max(one.watts, one.prefill_watts) > left_w + 1e-9]
    return PowerSet(frozenset(one.backend for one in best), frozenset(brief), cap_w)


def _try_all(draws: Sequence[Draw], left_w: float) -> tuple[Draw, ...]:
    sets = (one for size in range(len(draws) + 1) for one in combinations(draws, size))
    fitting = (one for one in sets if sum(draw.watts for draw in one) <= left_w + 1e-9)
    return max(fitting, key=_worth)


def _fill(draws: Sequence[Draw], left_w: float) -> tuple[Draw, ...]:
    """Greedily by tokens a joule, then whoever is left out against any one that is in, while that gets more done."""
    chosen: list[Draw] = []
    for draw in sorted(draws, key=lambda one: -one.tokens_per_s / one.watts):
        if sum(one.watts for one in chosen) + draw.watts <= left_w + 1e-9:
            chosen.append(draw)
    improved = True
    while improved:
        improved = False
        for other in [one for one in draws if one not in chosen]:
            for member in [*chosen, None]:
                trial = [one for one in chosen if one is not member] + [other]
                if sum(one.watts for one in trial) <= left_w + 1e-9 and _worth(trial) > _worth(chosen):
                    chosen, improved = trial, True
                    break
    return tuple(chosen)


def _worth(draws: Sequence[Draw]) -> tuple[float, float]:
    return round(sum(one.tokens_per_s for one in draws), 6), -round(sum(one.watts for one in draws), 6)

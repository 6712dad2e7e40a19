"""What the parts of a request took, as one: tokens and joules are sums, and unknown where one of them is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from ollama_proxy.app.embeds.part import Part
from ollama_proxy.domain.answer import Finished, Outcome, Route, Usage
from ollama_proxy.domain.energy_kinds import join_kinds

_N = TypeVar("_N", int, float)


def join_outcomes(parts: Sequence[Part], total_s: float) -> Outcome:
    """What the whole took: joules and tokens are sums, and not known where one of them is not."""
    outcomes = [part.outcome for part in parts]
    usages = [one.finished.usage for one in outcomes]
    usage = Usage(
        prompt_tokens=_add([one.prompt_tokens for one in usages]),
        output_tokens=0,
        total_ns=round(total_s * 1e9),
        load_ns=max((one.load_ns or 0 for one in usages), default=0),
    )
    kinds = {one.energy_kind for one in outcomes}
    joules = _add([one.joules for one in outcomes])
    return Outcome(
        Finished("stop", usage),
        total_s,
        total_s,
        0,
        0.0,
        joules,
        join_kinds(kinds) if joules is not None else "unknown",
        _add([one.energy_marginal_j for one in outcomes]),
        _add([one.energy_full_j for one in outcomes]),
        _add([one.plus_minus_j for one in outcomes]),
    )


def _add(numbers: Sequence[_N | None]) -> _N | None:
    known = [one for one in numbers if one is not None]
    return sum(known[1:], start=known[0]) if known and len(known) == len(numbers) else None


def join_routes(parts: Sequence[Part]) -> Route:
    """Where the parts went: ids joined by comma, the draw of all of them, the wait for the slowest."""
    by_backend: dict[str, int] = {}
    watts: dict[str, float] = {}
    for part in parts:
        name = part.route.backend
        by_backend[name] = by_backend.get(name, 0) + len(part.vectors)
        watts[name] = part.route.power_watts
    first = parts[0].route
    if len(parts) == 1:
        return first
    told = f"{sum(by_backend.values())} texts spread over {len(by_backend)}: "
    told += ", ".join(f"{name} {count}" for name, count in by_backend.items())
    return msgspec.structs.replace(
        first,
        backend=",".join(by_backend),
        reason=told,
        power_watts=_sum_known(watts),
        latency_ms=max(part.route.latency_ms for part in parts),
        alternatives=tuple(
            name
            for name in dict.fromkeys(one for part in parts for one in part.route.alternatives)
            if name not in by_backend
        ),
        attempts=sum(part.route.attempts for part in parts),
        energy_kind=join_kinds({part.route.energy_kind for part in parts}),
    )


def _sum_known(watts: Mapping[str, float]) -> float:
    """Not known where one of them is not."""
    return sum(watts.values()) if all(watts.values()) else 0.0

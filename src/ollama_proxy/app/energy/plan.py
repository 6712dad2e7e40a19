"""Who is measured by what: backends that share a meter come together, the others have one of their own. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ollama_proxy.app.energy.metering import find_busy_source, find_sources
from ollama_proxy.config.schema import Backend
from ollama_proxy.domain.device import BackendView
from ollama_proxy.domain.metering import Domain, Source

#: Parts of a package that have a counter of their own, by the hardware that they are.
_ZONES: dict[str, Domain] = {"cpu": "core", "igpu": "graphics"}
_PARTS = ("core", "graphics")


class Member(msgspec.Struct, frozen=True):
    """A backend in a group. `zones` are counters of its device alone inside the shared meter; `busy` tells its time."""

    backend: str
    configured_w: float
    zones: tuple[Source, ...] = ()
    busy: Source | None = None


class Plan(msgspec.Struct, frozen=True):
    """One meter, several sources added up, and the backends whose devices are behind it."""

    sources: tuple[Source, ...]
    members: tuple[Member, ...]
    emulated: bool = False

    @property
    def used(self) -> tuple[Source, ...]:
        """All that is read for it."""
        parts = [one for member in self.members for one in (*member.zones, *((member.busy,) if member.busy else ()))]
        return (*self.sources, *(parts if len(self.members) > 1 else ()))


def plan_meters(
    views: Iterable[BackendView], entries: Mapping[str, Backend], sources: Sequence[Source]
) -> tuple[Plan, ...]:
    """How to measure the backends, in their order. One that no source covers is in no plan.

    An emulated device is measured by emulated sources only: what this machine draws is not its own.
    """
    known = {one.id: one for one in sources}
    groups: list[tuple[set[str], list[tuple[BackendView, Backend, tuple[Source, ...]]]]] = []
    for view in views:
        entry = entries[view.id]
        found = find_sources(entry, [one for one in sources if one.kind == "emulated" or not view.emulated])
        if not found:
            continue
        roots, members = {_root(one) for one in found}, [(view, entry, found)]
        for group in [one for one in groups if one[0] & roots]:
            groups.remove(group)
            roots, members = roots | group[0], group[1] + members
        groups.append((roots, members))
    plans: list[Plan] = []
    for roots, members in groups:
        if len(members) > 1 and roots <= known.keys():
            plans.append(_share([known[one] for one in sorted(roots)], members, sources))
        else:
            plans += [Plan(found, (_alone(view),), _is_emulated([view], found)) for view, _, found in members]
    return tuple(plans)


def describe_here(view: BackendView) -> Backend:
    """The entry of a backend that nobody configured: the embedded model, which runs on this machine."""
    return Backend(id=view.id, endpoint="http://localhost", hardware="cpu")


def _root(source: Source) -> str:
    """The meter that a source is a part of; a package is a meter of its own even on a board that tells its sum."""
    return source.inside if source.inside and source.domain in _PARTS else source.id


def _alone(view: BackendView) -> Member:
    return Member(view.id, view.spec.power_watts)


def _share(
    roots: Sequence[Source],
    members: Sequence[tuple[BackendView, Backend, tuple[Source, ...]]],
    sources: Sequence[Source],
) -> Plan:
    inside = {one.id for one in roots}
    found = []
    for view, entry, _ in members:
        domain = _ZONES.get(entry.hardware)
        # A zone that two backends would claim is as much shared as its package.
        rivals = sum(other.hardware == entry.hardware for _, other, _ in members)
        zones = [one for one in sources if one.inside in inside and one.domain == domain] if rivals == 1 else []
        busy = find_busy_source(entry, sources) if rivals == 1 else None
        found.append(Member(view.id, view.spec.power_watts, tuple(zones), busy))
    return Plan(tuple(roots), tuple(found), _is_emulated([view for view, _, _ in members], roots))


def _is_emulated(views: Sequence[BackendView], sources: Sequence[Source]) -> bool:
    return any(view.emulated for view in views) or any(one.kind == "emulated" for one in sources)

"""Meters at work: from what the sampler saw to the books of the devices behind each meter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ollama_proxy.app.energy.plan import Member, Plan
from ollama_proxy.domain.device import BackendView
from ollama_proxy.domain.metering import Energy, FigureKind, Source
from ollama_proxy.energy.apportioning import Apportioning, DeviceShare
from ollama_proxy.energy.attribution import METER_ERROR, Attribution
from ollama_proxy.energy.meters.sampler import Sampler
from ollama_proxy.energy.model import Figure, SharedTime
from ollama_proxy.energy.regression import Coefficients
from ollama_proxy.energy.trust import AWAKE_S, Trust

#: A piece of time longer than this, behind a sleep or a slow meter, tells nothing of single requests.
_LONGEST_S = 10.0
_LEAST_S = 1e-3
#: A figure is asked of the meter at once where a request is longer than this, and than so many times the meter's age.
ASKED_FROM_S = 1.0
_AGES = 10
#: A meter that saw less of a request than this has not measured it.
_LEAST_SEEN = 0.5
_MEASURED = 0.99


class Meter:
    """One plan, with the books of its backends' devices; `settle` brings them up to date."""

    def __init__(self, plan: Plan, times: Mapping[str, SharedTime], sampler: Sampler) -> None:
        self.plan = plan
        self.trust = Trust()
        self._sampler = sampler
        self._times = {member.backend: times[member.backend] for member in plan.members}
        self._until_s = float("-inf")
        kind: FigureKind = "emulated" if plan.emulated else "measured"
        self._kind = kind
        lag_s = max((one.update_s for one in plan.sources), default=0.0)
        self.shared = len(plan.members) > 1
        self.books = {
            member.backend: Attribution(
                kind=kind,
                # What is apportioned by busy time has no floor in it.
                floor_w=0.0 if self.shared and not member.zones else None,
                lag_s=lag_s,
            )
            for member in plan.members
        }
        self.lag_s = lag_s
        learned = {one.backend: one.configured_w for one in plan.members if not one.zones}
        self._apportioning = Apportioning(learned, zone_kind=kind) if self.shared else None

    @property
    def busy_since_s(self) -> float | None:
        """Since when any of the devices is at work; None while all are idle."""
        return min((since for time in self._times.values() if (since := time.busy_since()) is not None), default=None)

    def kind_of(self, source: Source) -> FigureKind:
        """What figures from one of its sources are."""
        if self.plan.emulated:
            return "emulated"
        return "apportioned" if self.shared and source in self.plan.sources else source.kind

    def settle(self, now_s: float) -> None:
        """Take what the meter has seen since the last call. While it is not believed, that is left out."""
        trusted = self.trust.look(now_s, stale=self._is_stale(now_s), busy_since_s=self.busy_since_s)
        span = self._span()
        if span is None:
            return
        from_s, to_s = max(self._until_s, span[0]), span[1]
        if to_s - from_s < _LEAST_S:
            return
        self._until_s = to_s
        if not trusted or to_s - from_s > _LONGEST_S:
            return
        energy = self._between(self.plan.sources, from_s, to_s)
        if energy is None:
            return
        if self._apportioning is None:
            (books,) = self.books.values()
            books.settle(from_s, to_s, energy.joules, energy.uncertainty_j)
        else:
            self._share(self._apportioning, from_s, to_s, energy)

    def measure(self, backend: str, from_s: float, to_s: float) -> Figure | None:
        """What a request that had the device for itself took, as far as the meter has come; what is missing at the
        end is drawn on from there, which makes the figure a modelled one. None where the meter cannot tell yet."""
        floor_w = self.books[backend].floor_w
        seconds = to_s - from_s
        if self.shared or floor_w is None or seconds < max(ASKED_FROM_S, _AGES * self.lag_s) or not self.trust.trusted:
            return None
        span = self._span()
        seen_to_s = min(to_s, span[1]) if span is not None else from_s
        seen = (seen_to_s - from_s) / seconds
        energy = self._between(self.plan.sources, from_s, seen_to_s) if seen >= _LEAST_SEEN else None
        if energy is None:
            return None
        joules = max(0.0, energy.joules - floor_w * (seen_to_s - from_s)) / seen
        doubt_j = energy.uncertainty_j + METER_ERROR * energy.joules + (1 - seen) * joules
        kind = self._kind if self.plan.emulated or seen >= _MEASURED else "modelled"
        return Figure(joules, kind, energy.joules / seen, doubt_j)

    def add_floor(self, backend: str, joules: float, own_s: float) -> float | None:
        """Joules above the floor, with the floor's in an attempt's own part of the time; None until that is known."""
        floor_w = self.books[backend].floor_w
        return None if floor_w is None else joules + floor_w * own_s

    def _share(self, apportioning: Apportioning, from_s: float, to_s: float, whole: Energy) -> None:
        zones: dict[str, Energy] = {}
        busy_s: dict[str, float] = {}
        for member in self.plan.members:
            zone = self._between_zones(member.zones, from_s, to_s) if member.zones else None
            if zone is not None:
                zones[member.backend] = zone
            elif member.zones:
                return  # without a zone's joules those of all others would be wrong
            else:
                busy_s[member.backend] = self._find_busy(member, from_s, to_s)
        zones_j = {name: energy.joules for name, energy in zones.items()}
        split = apportioning.split(to_s - from_s, whole.joules, zones_j, busy_s)
        for name, share in split.shares.items():
            if share is not None:
                doubt_j = zones[name].uncertainty_j if name in zones else _part(share, whole)
                kind: FigureKind = "emulated" if self.plan.emulated else share.kind
                self.books[name].settle(from_s, to_s, share.joules, doubt_j, kind, share.scale_error)

    def _find_busy(self, member: Member, from_s: float, to_s: float) -> float:
        """Seconds that a device worked: by its own account, else as long as requests were there."""
        told = self._sampler.busy_s_between(member.busy.id, from_s, to_s) if member.busy else None
        return self._times[member.backend].busy_s(from_s, to_s) if told is None else told

    def _is_stale(self, now_s: float) -> bool:
        """Whether a source that should tell something does not; a zone stands still as long as its device does."""
        if any(self._sampler.is_stale(one.id) for one in self.plan.sources):
            return True
        at_work = [one for one in self.plan.members if _has_worked(self._times[one.backend], now_s)]
        return any(self._sampler.is_stale(zone.id) for one in at_work for zone in one.zones)

    def _span(self) -> tuple[float, float] | None:
        """What can be asked of all sources, and of the times that devices tell of themselves while they do."""
        told = [one.busy.id for one in self.plan.members if one.busy and not self._sampler.is_stale(one.busy.id)]
        spans = [self._sampler.span(one) for one in (*(source.id for source in self.plan.sources), *told)]
        known = [span for span in spans if span is not None]
        if not known or len(known) < len(spans):
            return None
        return max(span[0] for span in known), min(span[1] for span in known)

    def _between_zones(self, zones: Sequence[Source], from_s: float, to_s: float) -> Energy | None:
        """As `_between`; a zone whose counter stands still has used nothing since."""
        found = []
        for zone in zones:
            span = self._sampler.span(zone.id)
            if span is None:
                return None
            end_s = max(from_s, min(to_s, span[1]))
            found.append(self._between((zone,), from_s, end_s) if from_s < span[1] else Energy(0.0, 0.0))
        told = [one for one in found if one is not None]
        if len(told) < len(found):
            return None
        return Energy(sum(one.joules for one in told), sum(one.uncertainty_j for one in told))

    def _between(self, sources: Sequence[Source], from_s: float, to_s: float) -> Energy | None:
        joules = doubt_j = 0.0
        for source in sources:
            energy = self._sampler.joules_between(source.id, from_s, to_s)
            if energy is None:
                return None
            joules += energy.joules
            doubt_j += energy.uncertainty_j
        return Energy(joules, doubt_j)


class Device:
    """The books of one backend."""

    __slots__ = ("emulated", "learned", "meter", "power_watts", "prefill_watts", "time")

    def __init__(self, view: BackendView) -> None:
        self.time = SharedTime()
        self.meter: Meter | None = None
        #: By canonical model, once requests have told them; of a request that has the device for itself.
        self.learned: dict[str, Coefficients] = {}
        self.look(view)

    def look(self, view: BackendView) -> None:
        """Take what the backend is now."""
        spec = view.spec
        self.emulated = view.emulated
        self.power_watts = spec.power_watts
        self.prefill_watts = spec.prefill_watts or spec.power_watts


def _has_worked(time: SharedTime, now_s: float) -> bool:
    since_s = time.busy_since()
    return since_s is not None and now_s - since_s > AWAKE_S


def _part(share: DeviceShare, whole: Energy) -> float:
    """Of the whole meter's doubt, as much as of its joules."""
    return whole.uncertainty_j * share.joules / whole.joules if whole.joules > 0 else 0.0

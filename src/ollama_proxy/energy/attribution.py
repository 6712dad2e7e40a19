"""Who used the joules that a meter shows: the energy of one metered device, divided among the requests it worked on.

A meter's interval is split in two: the floor (what the device draws anyway) and the rest, D = max(0, E - floor * s).
D goes to the requests in flight by weight, w = a * prefill tokens + b * decode tokens + c * active seconds; what
belongs to nobody is `other`. Whatever is given to requests, to `other` and to idleness adds up to the meter.

Intervals wait until a request that ran in them has ended, because only then are its tokens known; for those that go
on beside it the tokens are estimated from their speed. The clock is handed in: monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from math import isfinite, sqrt

import msgspec

from ollama_proxy.domain.metering import FigureKind
from ollama_proxy.energy.activity import Activity, Interval, Phase, Rates, RequestEnergy, Weights
from ollama_proxy.energy.floor import Edges, IdleFloor

#: Intervals between which nothing begins, ends or changes its phase are made one, up to this length.
MERGED_S = 1.0
#: Intervals that wait at most, some eight minutes of them. Beyond that the oldest is split with estimates.
MAX_PENDING = 512
MAX_DONE = 4096
#: Attempts known at once; what more there are is billed to those that are known.
MAX_OPEN = 4096
#: A meter that has not covered an attempt's end by then will not.
PATIENCE_S = 10.0
#: No meter's scale is truer than this, whatever its steps.
METER_ERROR = 0.01
_RATE_SHARE = 0.2
DEFAULT_WEIGHTS = Weights()


class Balance(msgspec.Struct):
    """Where a meter's joules went; `meter_j` is the sum of all the others."""

    meter_j: float = 0.0
    marginal_j: float = 0.0
    floor_j: float = 0.0
    other_j: float = 0.0
    idle_j: float = 0.0
    pending_j: float = 0.0


class Attribution:
    """The books of one device.

    `floor_w` fixes the floor (0 for an apportioned device, whose joules have none in them); `lag_s` is how late energy
    may show in the meter, such as the step of its counter.
    """

    def __init__(
        self,
        *,
        kind: FigureKind = "measured",
        floor_w: float | None = None,
        lag_s: float = 0.0,
        weights: Weights = DEFAULT_WEIGHTS,
    ) -> None:
        self.weights = weights
        self.balance = Balance()
        self._kind = kind
        self._floor = IdleFloor(floor_w)
        self._edges = Edges()
        self._lag_s = lag_s
        self._usual = Rates()
        self._speeds_seen = 0
        self._changed = True
        self._open: dict[str, Activity] = {}
        self._ended: list[Activity] = []
        self._pending: deque[Interval] = deque()
        self._done: deque[tuple[str, RequestEnergy]] = deque(maxlen=MAX_DONE)
        self._settled_s: float | None = None

    @property
    def floor_w(self) -> float | None:
        """The idle draw that is subtracted; None while it is not known."""
        return self._floor.watts

    # -- what attempts do ------------------------------------------------------

    def begin(self, request_id: str, now_s: float) -> None:
        """An attempt was sent to the device. The id is the attempt's own: a second one needs another."""
        if len(self._open) < MAX_OPEN and request_id not in self._open:
            self._open[request_id] = Activity(request_id, now_s)
            self._changed = True

    def phase(self, request_id: str, phase: Phase, now_s: float, tokens_in_phase: int | None = None) -> None:
        """A phase began at `now_s`, which may lie in the past; `tokens_in_phase` if they are known beforehand."""
        activity = self._open.get(request_id)
        if activity is not None:
            activity.enter(phase, now_s)
            self._changed = True
            if tokens_in_phase is not None:
                activity.tokens[phase] = tokens_in_phase, None

    def progress(self, request_id: str, tokens: int, now_s: float) -> None:
        """So many output tokens had come by now."""
        activity = self._open.get(request_id)
        if activity is not None:
            activity.tokens[Phase.DECODE] = tokens, now_s

    def end(
        self, request_id: str, now_s: float, prompt_tokens: int | None = None, output_tokens: int | None = None
    ) -> None:
        """The attempt is over, well or not; None for tokens that nobody counted. Unknown ids are ignored.

        Tokens of an attempt that told no phase are spread over all its time.
        """
        activity = self._open.pop(request_id, None)
        if activity is None:
            return
        activity.ended_s = max(now_s, activity.begun_s)
        if len(activity.marks) == 1:
            activity.enter(Phase.DECODE, activity.begun_s)
        for phase, count in ((Phase.PREFILL, prompt_tokens), (Phase.DECODE, output_tokens)):
            if count is not None:
                activity.tokens[phase] = count, None
        self._learn_speed(activity)
        self._ended.append(activity)
        self._changed = True

    def _learn_speed(self, activity: Activity) -> None:
        share = max(_RATE_SHARE, 1 / (1 + self._speeds_seen))
        self._speeds_seen += 1
        self._usual = Rates(
            _blend(self._usual.prefill_tps, activity.rate(Phase.PREFILL), share),
            _blend(self._usual.decode_tps, activity.rate(Phase.DECODE), share),
        )

    # -- what the meter says ---------------------------------------------------

    def settle(
        self,
        from_s: float,
        to_s: float,
        joules: float,
        uncertainty_j: float = 0.0,
        kind: FigureKind | None = None,
        scale_error: float = METER_ERROR,
    ) -> None:
        """The meter's joules between two times, in the order of time; a gap says that it did not see.

        `uncertainty_j` is half the width of the error of this interval's two readings; `scale_error`, relative, that of
        all readings alike. `kind` where it is not the meter's own. Raises ValueError for intervals that
        overlap or are empty, and for joules that are none.
        """
        if not to_s > from_s or (self._settled_s is not None and from_s < self._settled_s - 1e-6):
            raise ValueError(f"interval {from_s} to {to_s} after {self._settled_s}")
        if not all(isfinite(value) and value >= 0 for value in (joules, uncertainty_j, scale_error)):
            raise ValueError(f"{joules} J, {uncertainty_j} J, {scale_error}")
        self._settled_s = to_s
        self._wait(Interval(from_s, to_s, joules, uncertainty_j, scale_error, kind or self._kind))
        self.balance.meter_j += joules
        self.balance.pending_j += joules
        if len(self._pending) > MAX_PENDING:
            self._split(self._pending.popleft())
        if not self._open or any(self._is_covered(activity) for activity in self._ended):
            self._split_pending()

    def drain(self, now_s: float | None = None) -> list[tuple[str, RequestEnergy]]:
        """Attempts settled since the last call, with `now_s` those too whose end the meter will not cover any more."""
        if now_s is not None and any(self._is_overdue(activity, now_s) for activity in self._ended):
            self._split_pending()
            self._finish([activity for activity in self._ended if self._is_overdue(activity, now_s)])
        done = list(self._done)
        self._done.clear()
        return done

    def _wait(self, interval: Interval) -> None:
        last = self._pending[-1] if self._pending and not self._changed else None
        if (
            last is not None
            and last.kind == interval.kind
            and abs(last.to_s - interval.from_s) < 1e-6
            and (interval.to_s - last.from_s <= MERGED_S)
        ):
            self._pending[-1] = Interval(
                last.from_s,
                interval.to_s,
                last.joules + interval.joules,
                # The reading between the two is in both, with opposite signs.
                sqrt((last.plus_minus_j**2 + interval.plus_minus_j**2) / 2),
                max(last.scale_error, interval.scale_error),
                last.kind,
            )
        else:
            self._pending.append(interval)
        self._changed = False

    # -- the split -------------------------------------------------------------

    def _is_covered(self, activity: Activity) -> bool:
        return self._settled_s is not None and activity.end_s + self._lag_s <= self._settled_s

    def _is_overdue(self, activity: Activity, now_s: float) -> bool:
        return activity.end_s + PATIENCE_S < now_s

    def _split_pending(self) -> None:
        while self._pending:
            self._split(self._pending.popleft())
        self._finish([activity for activity in self._ended if self._is_covered(activity)])

    def _split(self, interval: Interval) -> None:
        self.balance.pending_j -= interval.joules
        seconds = interval.to_s - interval.from_s
        floor_w = self._floor.watts
        dynamic_j = max(0.0, interval.joules - (floor_w or 0.0) * seconds)
        floor_j = interval.joules - dynamic_j
        there = [one for one in (*self._open.values(), *self._ended) if self._overlaps(one, interval)]
        self._split_floor(interval, floor_j, there)
        if not there:
            self._see_idle(interval, dynamic_j, known=floor_w is not None)
            return
        around_j = min(dynamic_j, self._edges.estimate(interval.from_s, *self._find_edges(interval, there)))
        self._edges.see_busy(interval.to_s)
        dynamic_j -= around_j
        self.balance.other_j += around_j
        self.balance.marginal_j += dynamic_j
        shares, others = self._find_shares(interval, there)
        floor_doubt_j = self._floor.doubt_w * seconds + around_j
        for activity, share, other in zip(there, shares, others, strict=True):
            activity.unknown_floor |= floor_w is None
            activity.give(interval, dynamic_j, share, other, floor_doubt_j)

    def _see_idle(self, interval: Interval, dynamic_j: float, *, known: bool) -> None:
        seconds = interval.to_s - interval.from_s
        self._floor.learn(seconds, interval.joules)
        self._edges.see_idle(interval.from_s, interval.to_s, dynamic_j / seconds if known else 0.0)
        self.balance.other_j += dynamic_j if known else 0.0
        self.balance.idle_j += 0.0 if known else dynamic_j

    def _find_edges(self, interval: Interval, there: list[Activity]) -> tuple[float, float]:
        """Seconds of an interval before anybody's work and after everybody's, in the meter's time."""
        late_s = self._lag_s / 2
        seconds = interval.to_s - interval.from_s
        before_s = min(one.begun_s for one in there) + late_s - interval.from_s
        after_s = interval.to_s - late_s - max(interval.to_s if one.ended_s is None else one.ended_s for one in there)
        return max(0.0, min(before_s, seconds)), max(0.0, min(after_s, seconds))

    def _overlaps(self, activity: Activity, interval: Interval) -> bool:
        ended_s = activity.ended_s
        return activity.begun_s < interval.to_s and (ended_s is None or ended_s + self._lag_s > interval.from_s)

    def _split_floor(self, interval: Interval, floor_j: float, there: list[Activity]) -> None:
        """Equally among those present, and to nobody for the time in which nobody was."""
        presence = [(one, one.present_s(interval.from_s, interval.to_s)) for one in there]
        total_s = sum(seconds for _, seconds in presence)
        busy_s = _covered([one.clip(interval) for one, seconds in presence if seconds > 0])
        busy_j = floor_j * busy_s / (interval.to_s - interval.from_s)
        for activity, seconds in presence:
            activity.covered_s += seconds
            if total_s > 0:
                activity.floor_j += busy_j * seconds / total_s
        self.balance.floor_j += busy_j if total_s > 0 else 0.0
        self.balance.idle_j += floor_j - (busy_j if total_s > 0 else 0.0)

    def _find_shares(self, interval: Interval, there: list[Activity]) -> tuple[list[float], list[float]]:
        """Shares by the weights, and by distorted ones. Energy shows half the lag late, so work is looked for then."""
        if len(there) == 1:
            return [1.0], [1.0]
        late_s = self._lag_s / 2
        found = [one.work(interval.from_s - late_s, interval.to_s - late_s, self._usual) for one in there]
        present_s = [one.present_s(interval.from_s - self._lag_s, interval.to_s) for one in there]
        mine, distorted = ([one.weigh(weights) for one in found] for weights in (self.weights, self.weights.distort()))
        return _normalise(mine, present_s), _normalise(distorted, present_s)

    def _finish(self, activities: list[Activity]) -> None:
        for activity in activities:
            self._ended.remove(activity)
            self._done.append((activity.name, activity.sum_up(self._kind)))


def _normalise(weights: list[float], present_s: list[float]) -> list[float]:
    """Shares that add up to one: by weight, else by presence, else equal."""
    for sizes in (weights, present_s):
        if (total := sum(sizes)) > 0:
            return [size / total for size in sizes]
    return [1 / len(weights)] * len(weights)


def _covered(spans: list[tuple[float, float]]) -> float:
    """Seconds that at least one span covers."""
    total, reached = 0.0, float("-inf")
    for from_s, to_s in sorted(spans):
        total += max(0.0, to_s - max(from_s, reached))
        reached = max(reached, to_s)
    return total


def _blend(usual: float, seen: float | None, share: float) -> float:
    return usual if not seen else usual + share * (seen - usual)
